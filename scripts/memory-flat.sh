#!/usr/bin/env bash
# Peak memory of a one-shot export must not grow with the table: lineitem of 24 M rows
# may take at most 1.2 times what 6 M rows take. Needs about 15 GB below target/ and ten minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/measured-services.sh

limit=1.2
peak=()
for scale in 1 4; do
  dsn=$(lineitem "$scale")
  read -r wall cpu memory < <(scripts/measure.py "$adu" export --dsn "$dsn" --table public.lineitem \
    --out "$bench/exports" --workers 2)
  rm -rf "$bench/exports"
  printf 'lineitem, scale %s: peak memory %s MiB, %s s, %s CPU-s\n' "$scale" "$memory" "$wall" "$cpu"
  peak+=("$memory")
done
awk -v small="${peak[0]}" -v large="${peak[1]}" -v limit="$limit" 'BEGIN {
  printf "24 M rows take %.2f times the memory of 6 M rows (at most %s)\n", large / small, limit
  exit large > limit * small }'
