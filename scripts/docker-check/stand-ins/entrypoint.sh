#!/usr/bin/env bash
# entrypoint.sh postgres|rabbitmq|prometheus
set -euo pipefail

as() { setpriv --reuid="$1" --regid="$1" --init-groups --reset-env env "PATH=$PATH" "${@:2}"; }

postgres() {
  local data=/var/lib/postgresql/data
  PATH=$(echo /usr/lib/postgresql/*/bin):$PATH
  install -d -o postgres -g postgres -m 700 "$data"
  install -d -o postgres -g postgres /run/postgresql
  if [ ! -s "$data/PG_VERSION" ]; then
    install -o postgres -m 600 <(echo "$POSTGRES_PASSWORD") /tmp/password
    as postgres initdb --pgdata="$data" --encoding=UTF8 --locale=C.UTF-8 --auth-local=trust --auth-host=scram-sha-256 --pwfile=/tmp/password
    echo 'host all all all scram-sha-256' >>"$data/pg_hba.conf"
    as postgres pg_ctl --pgdata="$data" --wait --options="-c listen_addresses=''" start
    as postgres createdb "$POSTGRES_DB"
    for script in /docker-entrypoint-initdb.d/*.sql; do
      as postgres psql --no-psqlrc --set=ON_ERROR_STOP=1 --dbname="$POSTGRES_DB" <"$script"
    done
    as postgres pg_ctl --pgdata="$data" --wait stop
  fi
  exec setpriv --reuid=postgres --regid=postgres --init-groups postgres -D "$data" -c 'listen_addresses=*'
}

rabbitmq() {
  install -d -o rabbitmq -g rabbitmq /var/lib/rabbitmq /var/log/rabbitmq
  echo '[rabbitmq_prometheus].' >/etc/rabbitmq/enabled_plugins # as the image of Docker's library
  export HOME=/var/lib/rabbitmq RABBITMQ_LOGS=-
  exec setpriv --reuid=rabbitmq --regid=rabbitmq --init-groups rabbitmq-server
}

prometheus() {
  exec /usr/bin/prometheus --config.file=/etc/prometheus/prometheus.yml --storage.tsdb.path=/prometheus
}

"$1"
