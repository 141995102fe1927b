#!/usr/bin/env bash
# Checks the rules with promtool. Then a real Prometheus scrapes two daemons and RabbitMQ's exporter while
# jobs run: every query of dashboard and rules must find its series, and alerts are made to fire. The servers
# are private, below target/monitoring, and stopped at the end. scripts/monitoring_check.py does the second
# part.
set -euo pipefail
cd "$(dirname "$0")/.."

TARGET=${CARGO_TARGET_DIR:-target}
place=$TARGET/monitoring
prometheus=monitoring/prometheus
for program in prometheus promtool psql; do
  command -v "$program" >/dev/null || { echo "monitoring-check: $program is missing: run make monitoring-check" >&2; exit 1; }
done

echo "==> rules and configuration, by promtool"
promtool check config --syntax-only "$prometheus/prometheus.yml"
promtool check rules "$prometheus/adu-export.rules.yml"
promtool test rules "$prometheus/adu-export.rules.test.yml"

echo "==> PostgreSQL and RabbitMQ of our own, below $place"
mkdir -p "$place"
rm -rf "$place/exports" "$place/prometheus"
trap 'scripts/services.sh stop "$place/services"' EXIT
trap 'exit 130' INT TERM
ADU_RABBITMQ_METRICS=1 scripts/services.sh start "$place/services" $$
"$TARGET/venv/bin/python3" scripts/monitoring_check.py
echo "==> all of it holds"
