#!/usr/bin/env bash
# Creates a Debian in a directory, once. The name of the directory depends on the list of packages, so another
# list makes a new one.
#
#   debian-tree.sh DIR PACKAGE…   prints the path of the tree below DIR; SUITE names another than Debian 12, "bookworm"
set -euo pipefail

fail() { echo "debian-tree.sh: $*" >&2; exit 1; }

[ "$(id -u)" = 0 ] || fail "debootstrap wants root"
parent=$1
shift
suite=${SUITE:-bookworm}
tree=$parent/$(echo "${SUITE:+$SUITE }$*" | sha256sum | cut -c1-12)
if [ ! -d "$tree" ]; then
  command -v debootstrap >/dev/null || fail "debootstrap is missing: apt-get install debootstrap"
  mkdir -p "$parent"
  rm -rf "$tree.new"
  packages=$*
  debootstrap --variant=minbase --include="${packages// /,}" "$suite" "$tree.new" >"$tree.log" 2>&1 ||
    fail "debootstrap failed: $(tail -n 5 "$tree.log")"
  rm -rf "$tree.new"/var/cache/apt/archives/*.deb "$tree.new"/var/lib/apt/lists/*
  mv "$tree.new" "$tree"
fi
echo "$tree"
