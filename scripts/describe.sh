#!/usr/bin/env bash
# Writes the manual page and the completions that the binary prints.
#
#   describe.sh BINARY DIR
set -euo pipefail

mkdir -p "$2"
"$1" man | gzip -9n >"$2/adu-export.1.gz"
"$1" completions bash >"$2/adu-export.bash"
"$1" completions zsh >"$2/_adu-export"
"$1" completions fish >"$2/adu-export.fish"
