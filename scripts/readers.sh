#!/usr/bin/env bash
# Shows how engines read our files: odd values of every kind of column (tests/oracle/readers.sql) are exported
# with exact and with portable types, read by each engine, and compared with the server. Writes the table of
# the README. Ends with 1 if an engine does something else than scripts/readers.py explains.
#   scripts/readers.sh [DIR]         DIR, target/readers by default, keeps engines and exports
#   ADU_EXPORT=…                     the program, target/release/adu-export by default
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/compared.sh readers "$@"
hyparquet=(hyparquet@1.33.0 hyparquet-compressors@1.1.2)

# Engines that need different versions of pyarrow have separate environments.
environment() { # NAME REQUIREMENTS
  if ! cmp -s "$2" "$dir/$1/installed.txt"; then
    echo "==> engines of $2 in $dir/$1"
    rm -rf "${dir:?}/$1"
    python3 -m venv "$dir/$1"
    "$dir/$1/bin/pip" install --quiet --disable-pip-version-check -r "$2"
    cp "$2" "$dir/$1/installed.txt"
  fi
}
environment venv scripts/readers/requirements.txt
environment venv-older-arrow scripts/readers/requirements-older-arrow.txt
if [ "$(cat "$dir/node_modules/installed.txt" 2>/dev/null)" != "${hyparquet[*]}" ]; then
  echo "==> ${hyparquet[*]} from npm in $dir/node_modules"
  rm -rf "$dir/node_modules"
  npm install --prefix "$dir" --silent --no-audit --no-fund --no-save "${hyparquet[@]}"
  echo "${hyparquet[*]}" >"$dir/node_modules/installed.txt"
fi

start_servers
server=postgres://postgres@127.0.0.1:$PG_PORT
psql -q -d "$server/postgres" -c "DROP DATABASE IF EXISTS readers" -c "CREATE DATABASE readers TEMPLATE template0 ENCODING 'UTF8'"
psql -q -v ON_ERROR_STOP=1 -d "$server/readers" -f tests/oracle/readers.sql >/dev/null
"$dir/venv/bin/python3" scripts/readers.py "$server/readers" "$adu" "$dir" README.md
