# The measuring scripts source this file. It makes a release build and a PostgreSQL with lineitem.
target=${CARGO_TARGET_DIR:-target}
bench=$target/bench
adu=$target/release/adu-export
cargo build --quiet --locked --release --bin adu-export --example load_tpch
rm -rf "$bench/exports" "$bench/psql" "$bench/adu-export" "$bench"/scale-*
mkdir -p "$bench"
trap 'scripts/services.sh stop "$bench/services"' EXIT
trap 'exit 130' INT TERM
scripts/services.sh start "$bench/services" $$
. "$bench/services/env"

lineitem() { # SCALE → DSN of a database that has it
  local server=postgres://postgres@127.0.0.1:$PG_PORT
  psql -q -d "$server/postgres" -c "CREATE DATABASE scale_$1" >&2
  "$target/release/examples/load_tpch" "$server/scale_$1" "$1" lineitem >&2
  echo "$server/scale_$1"
}

median() { # FILE COLUMN
  cut -d' ' -f"$2" "$bench/$1" | sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'
}
