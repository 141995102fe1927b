#!/usr/bin/env bash
# Uses PostgreSQL's own regression suite as test data: runs it in a private server, exports everything in one
# job, and lets the server compare. Prints how many relations exist, were exported and are exact, and names
# the others. Ends with 1 unless all are exact.
#   scripts/fidelity.sh [DIR]        DIR, target/fidelity by default, keeps sources and exports
#   ADU_EXPORT=…                     the program, target/release/adu-export by default
#   PYTHON=…                         an interpreter with pyarrow, target/venv's by default
#   READ=pages                       reads all tables by pages that are eligible, also small ones; the program then
#                                    needs the feature failpoints
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/compared.sh fidelity "$@"
python=${PYTHON:-$target/venv/bin/python3}

bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
major=$(basename "$(dirname "$bin")")
version=$(dpkg-query -Wf '${Version}' "postgresql-$major")

# Gets the sources and headers of the installed version with a private list of Debian's sources. The machine's
# own list stays unchanged.
fetch() {
  mkdir -p "$dir/apt/lists/partial" "$dir/apt/cache/archives/partial"
  local file
  for file in /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list; do
    [ ! -s "$file" ] || break
  done
  local list=$dir/apt/${file##*/}
  sed -E 's/^Types: deb$/Types: deb deb-src/; s/^deb (.*)/deb \1\ndeb-src \1/' "$file" >"$list"
  local apt=(apt-get -qq -o "Dir::Etc::sourcelist=$list" -o Dir::Etc::sourceparts=/dev/null
    -o "Dir::State::lists=$dir/apt/lists" -o "Dir::Cache=$dir/apt/cache" -o APT::Sandbox::User=root)
  "${apt[@]}" update
  (cd "$dir" && "${apt[@]}" source --download-only "postgresql-$major=$version" &&
    "${apt[@]}" download "postgresql-server-dev-$major=$version")
}

prepare() {
  [ -n "$(ls "$dir"/postgresql-"$major"_*.orig.tar.* 2>/dev/null)" ] || fetch
  rm -rf "$dir/headers" "$dir"/postgresql-"$major".*/
  tar -C "$dir" -xf "$dir"/postgresql-"$major"_*.orig.tar.* --wildcards '*/src/test/regress/*'
  dpkg -x "$dir"/postgresql-server-dev-"$major"_*.deb "$dir/headers"
  local regress
  regress=$(ls -d "$dir"/postgresql-"$major".*/src/test/regress)
  cc -O1 -fPIC -shared -w -I "$dir/headers/usr/include/postgresql/$major/server" \
    -o "$regress/regress.so" "$regress/regress.c"
}

echo "==> the regression suite of postgresql-$major $version"
prepare
start_servers
# The server reads files of the suite, so they must be where the server's user may read.
suite=$DATA/suite
cp -r "$dir"/postgresql-"$major".*/src/test/regress "$suite"
chmod -R a+rX "$suite"
results=$(mktemp -d "$dir/results.XXXXXX")
# Tests fail here only because a locale or a setting is missing. What they created is exported too.
"$bin"/../lib/pgxs/src/test/regress/pg_regress --bindir="$bin" --dlpath="$suite" --inputdir="$suite" \
  --outputdir="$results" --host=127.0.0.1 --port="$PG_PORT" --user=postgres \
  --schedule="$suite/parallel_schedule" --max-connections=4 >"$dir/regress.log" 2>&1 || true
grep -E 'tests (passed|failed)' "$dir/regress.log" || { tail -n 5 "$dir/regress.log" >&2; exit 1; }
rm -rf "$results"

echo "==> export in one job"
rm -rf "$dir/exports"
"$python" scripts/fidelity.py "postgres://postgres@127.0.0.1:$PG_PORT/regression" "$adu" "$dir" "${READ:-auto}"
