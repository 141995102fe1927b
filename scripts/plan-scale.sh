#!/usr/bin/env bash
# Planning must not grow with the database, except in the plan itself. Plans a pattern that matches 20,000
# tables, and a table of 20,000 chunks. Prints time, peak memory, statements on the server and bytes of the
# plan. Ends with 1 above 10 s, above 500 MiB, or if 20,000 tables need more statements than 1,000.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/measured-services.sh

server=postgres://postgres@127.0.0.1:$PG_PORT
sql() { psql -XqAt -v ON_ERROR_STOP=1 -d "$server/$1" "${@:2}"; }
statements() { grep -c 'LOG:  statement:\|LOG:  execute' "$bench/services/postgres.log" || true; }

for tables in 1000 20000; do
  sql postgres -c "CREATE DATABASE many_$tables"
  sql "many_$tables" >/dev/null <<-SQL
	SET synchronous_commit = off;
	SELECT format('CREATE TABLE t%s AS SELECT i AS id, i::text AS v, i * 1.5 AS n FROM generate_series(1, 20) i', g)
	  FROM generate_series(1, $tables) g \gexec
	SELECT format('ALTER TABLE t%s ADD PRIMARY KEY (id)', g) FROM generate_series(1, $tables) g \gexec
	ANALYZE;
SQL
done
sql postgres -c "ALTER SYSTEM SET log_statement = 'all'" -c "SELECT pg_reload_conf()" >/dev/null

declare -A asked wall peak
# The larger one first: each run removes files at its end, and some file systems are slow where files were
# just removed.
for tables in 20000 1000; do
  before=$(statements)
  read -r seconds cpu memory < <(bench/measure.py "$adu" plan --dsn "$server/many_$tables" --table '*.*')
  wall[$tables]=$seconds peak[$tables]=$memory asked[$tables]=$(($(statements) - before))
  bytes=$("$adu" plan --dsn "$server/many_$tables" --table '*.*' --json | wc -c)
  printf '%s tables: %s s, %s CPU-s, %s MiB at most, %s statements, %s bytes of plan per table\n' \
    "$tables" "$seconds" "$cpu" "$memory" "${asked[$tables]}" $((bytes / tables))
done

sql postgres -c "CREATE DATABASE chunks"
sql chunks -c "CREATE TABLE t AS SELECT g::bigint AS id FROM generate_series(1, 2000000) g" \
  -c "ALTER TABLE t ADD PRIMARY KEY (id)" -c "ANALYZE t"
echo '{"job_id": "chunks", "tables": [{"table": "public.t", "strategy": "range", "chunk_rows": 100}]}' >"$bench/chunks.json"
read -r chunks_wall _ chunks_peak < <(bench/measure.py "$adu" plan --dsn "$server/chunks" --request "$bench/chunks.json")
bytes=$("$adu" plan --dsn "$server/chunks" --request "$bench/chunks.json" --json | wc -c)
printf '20,000 chunks: %s s, %s MiB at most, %s bytes of plan per chunk\n' \
  "$chunks_wall" "$chunks_peak" $((bytes / 20000))
awk -v wall="${wall[20000]}" -v peak="${peak[20000]}" -v few="${asked[1000]}" -v many="${asked[20000]}" \
  'BEGIN { exit wall > 10 || peak > 500 || many > few }'
