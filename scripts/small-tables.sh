#!/usr/bin/env bash
# What a small table costs: 1,000 tables of 1,000 rows, one-shot and through RabbitMQ with two daemons, beside DuckDB's
# postgres extension, which writes them one after the other in one process without fsync. Medians of interleaved runs.
#   RUNS=5 TABLES=1000 scripts/small-tables.sh
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/measured-services.sh
tables=${TABLES:-1000}
python=$target/bench-venv/bin/python3

server=postgres://postgres@127.0.0.1:$PG_PORT
psql -Xqd "$server/postgres" -c 'CREATE DATABASE small'
psql -Xqd "$server/small" >/dev/null <<SQL
SET synchronous_commit = off;
SELECT format('CREATE TABLE t%s AS SELECT i AS id, md5(i::text) AS name, i * 1.5::float8 AS amount, now() AS at
                 FROM generate_series(1, 1000) i', g) FROM generate_series(1, $tables) g \gexec
SELECT format('ALTER TABLE t%s ADD PRIMARY KEY (id)', g) FROM generate_series(1, $tables) g \gexec
ANALYZE;
SQL

root=$PWD/$bench/small/queue
rm -rf "$bench/small" "$bench"/{duckdb,one-shot,rabbitmq}
daemons=()
stop() {
  local pid
  for pid in ${daemons[@]+"${daemons[@]}"}; do kill -TERM "$pid" 2>/dev/null || true; done
  for pid in ${daemons[@]+"${daemons[@]}"}; do wait "$pid" 2>/dev/null || true; done
  scripts/services.sh stop "$bench/services"
}
trap stop EXIT
mkdir -p "$root"
for n in 1 2; do
  port=$(scripts/services.sh port)
  cat >"$bench/daemon-$n.toml" <<-TOML
	[broker]
	url = "amqp://guest:guest@127.0.0.1:$AMQP_PORT/%2f"
	[export]
	root = "$root"
	workers = 2
	min_free_bytes = 1048576
	[http]
	listen = "127.0.0.1:$port"
	[sources.warehouse]
	kind = "postgres"
	dsn = "$server/small"
	TOML
  [ "$n" = 2 ] || "$adu" check --init --config "$bench/daemon-1.toml" >/dev/null
  "$adu" daemon --config "$bench/daemon-$n.toml" 2>"$bench/daemon-$n.log" &
  daemons+=($!)
  until "$python" -c "import urllib.request as u; u.urlopen('http://127.0.0.1:$port/readyz')" 2>/dev/null; do
    kill -0 "${daemons[-1]}"
    sleep 0.2
  done
done

for ((run = 1; run <= ${RUNS:-5}; run++)); do
  # Nothing is removed meanwhile: some file systems are slow where files were removed a moment ago.
  scripts/measure.py "$python" scripts/duckdb-tables.py "$server/small" "$bench/small/duckdb-$run" >>"$bench/duckdb"
  scripts/measure.py "$adu" export --quiet --dsn "$server/small" --table 'public.*' --out "$bench/small/one-shot-$run" --workers 2 \
    >>"$bench/one-shot"
  scripts/measure.py "$adu" submit --config "$bench/daemon-1.toml" --table 'public.*' --wait >>"$bench/rabbitmq"
done
for what in duckdb one-shot rabbitmq; do
  awk -v what="$what" -v tables="$tables" -v wall="$(median "$what" 1)" -v peer="$(median duckdb 1)" 'BEGIN {
    printf "%-9s %6.3f s  %6.2f ms per table  %5.2f of the time of DuckDB\n", what, wall, wall / tables * 1000, wall / peer }'
done
