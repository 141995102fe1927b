#!/usr/bin/env bash
# A demo of the whole program: TPC-H at scale 1 in a private PostgreSQL, a private RabbitMQ, two daemons, one
# request for all tables, then a look at the results. Stops everything that it started.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${TARGET:-target}
scale=${SCALE:-1}
demo=$target/demo
adu=$target/quick-release/adu-export
say() { printf '\n\033[1m==> %s\033[0m\n' "$*"; }

daemons=()
finish() {
  local pid
  for pid in ${daemons[@]+"${daemons[@]}"}; do kill -TERM "$pid" 2>/dev/null || true; done
  for pid in ${daemons[@]+"${daemons[@]}"}; do wait "$pid" 2>/dev/null || true; done
  scripts/services.sh stop "$demo/services"
}
trap finish EXIT
trap 'exit 130' INT TERM

mkdir -p "$demo"
rm -rf "$demo/exports" "$demo"/*.toml "$demo"/*.log
mkdir "$demo/exports"

say "PostgreSQL and RabbitMQ of our own, below $demo/services"
scripts/services.sh start "$demo/services" $$
. "$demo/services/env"
dsn=postgres://postgres@127.0.0.1:$PG_PORT/tpch
psql -q -d "postgres://postgres@127.0.0.1:$PG_PORT/postgres" -c 'CREATE DATABASE tpch'

say "TPC-H at scale $scale"
"$target/quick-release/examples/load_tpch" "$dsn" "$scale"

say "Two daemons with two workers each"
port=(- "$(scripts/services.sh port)" "$(scripts/services.sh port)")
for n in 1 2; do
  cat >"$demo/daemon-$n.toml" <<-TOML
	[broker]
	url = "amqp://guest:guest@127.0.0.1:$AMQP_PORT/%2f"
	[export]
	root = "$PWD/$demo/exports"
	workers = 2
	min_free_bytes = 1073741824
	[http]
	listen = "127.0.0.1:${port[n]}"
	[sources.warehouse]
	kind = "postgres"
	dsn = "$dsn"
	TOML
done
"$adu" check --init --config "$demo/daemon-1.toml"
for n in 1 2; do
  setpriv --pdeathsig KILL "$adu" daemon --config "$demo/daemon-$n.toml" >"$demo/daemon-$n.log" 2>&1 &
  daemons+=($!)
done
for n in 1 2; do
  until "$target/venv/bin/python3" -c "import urllib.request as u; u.urlopen('http://127.0.0.1:${port[n]}/readyz')" 2>/dev/null; do
    kill -0 "${daemons[n - 1]}" || { cat "$demo/daemon-$n.log"; exit 1; }
    sleep 0.2
  done
done

say "One request for all tables: adu-export submit --wait"
"$adu" submit --config "$demo/daemon-1.toml" --table 'public.*' --wait

say "The directories"
(cd "$demo/exports" && find . -path ./.temp -prune -o \( -type d -o -type l \) -print | sort | sed 's|^\./||' |
  while read -r path; do
    if [ -L "$path" ]; then echo "$path -> $(readlink "$path")"
    elif files=$(find "$path" -maxdepth 1 -name '*.parquet' | wc -l) && [ "$files" -gt 0 ]; then
      echo "$path/  $files files, $(du -sh "$path" | cut -f1)"
    fi
  done)

say "The archive"
"$target/venv/bin/python3" - "$demo"/exports/.archive/jobs/*.json <<'PY'
import json, sys
archive = json.load(open(sys.argv[1]))
performance = archive["performance"]
print(f"{archive['job_id']}: {archive['status']}, {performance['total_rows_exported']:,} rows in "
      f"{performance['total_duration_seconds']:.1f} s, {performance['rows_per_second']:,.0f} rows/s, "
      f"{performance['threading_config']['total_parallel_operations']} chunks at once")
for table in archive["tables"]:
    print(f"  {table['table_name']:18} {table['rows']:>10,} rows  {table['chunks']:>3} chunks  {table['strategy']}")
PY

say "A query on the result, by DuckDB: TPC-H number 1"
"$target/venv/bin/python3" - "$demo/exports" <<'PY'
import duckdb, sys
print(duckdb.sql(f"""
    SELECT l_returnflag, l_linestatus, sum(l_quantity) AS quantity, sum(l_extendedprice) AS price, count(*) AS orders
    FROM '{sys.argv[1]}/public_lineitem/*.parquet'
    WHERE l_shipdate <= DATE '1998-09-02' GROUP BY ALL ORDER BY ALL"""))
PY
say "Done: the files are in $demo/exports; daemons and servers are stopped"
