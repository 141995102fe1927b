#!/usr/bin/env bash
# How far a one-shot export is from the floor: lineitem of scale 1 with two workers, beside two
# psql that COPY half of it each to /dev/null in binary. Medians of interleaved runs.
#   RUNS=5 scripts/compare-psql.sh
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/measured-services.sh

dsn=$(lineitem 1)
rows=$(psql -XAtd "$dsn" -c 'SELECT count(*) FROM lineitem')
half=$(psql -XAtd "$dsn" -c "SELECT pg_relation_size('lineitem') / 8192 / 2")
copy() { echo "COPY (SELECT * FROM lineitem WHERE ctid $1 '($half,0)') TO STDOUT (FORMAT binary)"; }

for ((run = 1; run <= ${RUNS:-5}; run++)); do
  scripts/measure.py psql -Xqd "$dsn" -c "$(copy '<')" --and psql -Xqd "$dsn" -c "$(copy '>=')" >>"$bench/psql"
  scripts/measure.py "$adu" export --quiet --dsn "$dsn" --table public.lineitem --out "$bench/exports" --workers 2 \
    >>"$bench/adu-export"
  rm -rf "$bench/exports"
done
for what in psql adu-export; do
  awk -v what="$what" -v rows="$rows" -v wall="$(median "$what" 1)" -v cpu="$(median "$what" 2)" \
    -v memory="$(median "$what" 3)" 'BEGIN {
      printf "%-11s %6.2f s  %9d rows/s  %6.3f CPU-s per million rows  %7.1f MiB\n",
        what, wall, rows / wall, cpu / rows * 1e6, memory }'
done
