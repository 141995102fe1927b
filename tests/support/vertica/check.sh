#!/usr/bin/env bash
# Checks the stand-in for Vertica with the vendor's clients, as they are published: every type in both formats, logins,
# epochs, cancel, faults, and those of vertica-python's own tests that need no SQL of their own.
#
#   check.sh PYTHON [DSN]    PYTHON: the project's venv. DSN: a superuser's connection string of an empty database;
#                            without it a private PostgreSQL is started.
#
# ROWS is the number of random values of each type (500). vertica-nodejs comes from npm, in its pinned version; if npm
# cannot reach its registry, NODE_MODULES_OF names a directory that has it.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd -P)
python=$(realpath -s "$1")
work=$(mktemp -d)
trap 'status=$?; [ ! -d "$work/services" ] || "$here/../../../scripts/services.sh" stop "$work/services"; rm -rf "$work"; exit $status' EXIT

dsn=${2:-}
if [ -z "$dsn" ]; then
  "$here/../../../scripts/services.sh" start "$work/services" $$
  . "$work/services/env"
  dsn="host=127.0.0.1 port=$PG_PORT user=postgres dbname=postgres"
fi

node=${NODE_MODULES_OF:-}
if [ -z "$node" ] && command -v npm >/dev/null; then
  node=$work/node
  mkdir "$node"
  cp "$here/package.json" "$here/package-lock.json" "$node"
  npm ci --prefix "$node" --no-audit --no-fund --silent
fi

cd "$work"
"$python" -W ignore "$here/clients.py" --postgres "$dsn" --rows "${ROWS:-500}" ${node:+--node "$node"}
"$python" -W ignore "$here/vendor_tests.py" --postgres "$dsn"
