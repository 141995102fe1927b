#!/usr/bin/env bash
# The status page in Debian's Chromium: a real fleet with a private PostgreSQL and RabbitMQ, looked at while it is
# empty, busy, failing and finished. Then the API, by schemathesis. Screenshots stay below target/page-check.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${TARGET:-target}
here=$target/page-check
finish() { scripts/services.sh stop "$here/services"; }
trap finish EXIT
trap 'exit 130' INT TERM

rm -rf "$here"
mkdir -p "$here"
scripts/services.sh start "$here/services" $$
. "$here/services/env"
export PG_PORT AMQP_PORT
"$target/page-venv/bin/python3" tests/page/check.py \
  --adu "${ADU:-$target/debug/adu-export}" --axe "$1" --here "$here" --schemathesis "$target/page-venv/bin/schemathesis"
