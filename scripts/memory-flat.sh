#!/usr/bin/env bash
# Peak memory of a one-shot export must not grow with the table: lineitem of 24 M rows may take at most 1.2
# times as much as lineitem of 6 M rows. Needs about 15 GB below target/ and ten minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/measured-services.sh

limit=1.2
runs=${RUNS:-3}
peak=()
for scale in 1 4; do
  dsn=$(lineitem "$scale")
  for ((run = 1; run <= runs; run++)); do
    bench/measure.py "$adu" export --quiet --dsn "$dsn" --table public.lineitem --out "$bench/exports" \
      --workers 2 >>"$bench/scale-$scale"
    rm -rf "$bench/exports"
  done
  peak+=("$(median "scale-$scale" 3)")
  printf 'lineitem, scale %s: peak memory %s MiB, %s s, %s CPU-s (medians of %s runs; peaks: %s)\n' "$scale" \
    "${peak[-1]}" "$(median "scale-$scale" 1)" "$(median "scale-$scale" 2)" "$runs" \
    "$(cut -d' ' -f3 "$bench/scale-$scale" | paste -sd' ')"
done
awk -v small="${peak[0]}" -v large="${peak[1]}" -v limit="$limit" 'BEGIN {
  printf "24 M rows take %.2f times the memory of 6 M rows (at most %s)\n", large / small, limit
  exit large > limit * small }'
