#!/usr/bin/env bash
# Private PostgreSQL and RabbitMQ below one directory, on free ports of 127.0.0.1.
#
#   services.sh start DIR OWNER   starts both; they end when process OWNER ends
#   services.sh stop DIR          stops what an earlier start left, found by its pid files
#   services.sh ctl DIR ARGS…     rabbitmqctl of that broker
#   services.sh halt DIR SERVER SIGNAL   ends rabbitmq or postgres; the supervisor stays
#   services.sh resume DIR SERVER        starts it again with its data, and waits until it is ready
#   services.sh wipe DIR          removes all data of the broker that is halted
#   services.sh port              a port that nobody listens on
#
# ADU_TEST_PG_BIN is the directory of another PostgreSQL's programs; else Debian's newest PostgreSQL is started.
# ADU_TEST_RABBITMQ_BIN is the directory of another RabbitMQ's programs. ADU_RABBITMQ_METRICS=1 lets RabbitMQ answer Prometheus on METRICS_PORT.
# DIR/env has the ports. A supervisor owns both servers: it stops them when OWNER has ended. If the supervisor
# itself is killed, the kernel signals the servers.
# Only processes named by the pid files below DIR are ever signalled.
set -euo pipefail

RABBITMQ_BIN=${ADU_TEST_RABBITMQ_BIN:-/usr/lib/rabbitmq/bin}

fail() { echo "services.sh: $*" >&2; exit 1; }

# A process is identified by its pid and its start time, because another process may have the pid by now.
birth() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }
note() { echo "$2 $(birth "$2")" >"$DIR/$1.pid"; }
living() { # NAME → pid, if it is still the process that was noted
  local pid born
  read -r pid born 2>/dev/null <"$DIR/$1.pid" || return 1
  [ -n "$born" ] && [ "$(birth "$pid")" = "$born" ] && echo "$pid"
}
signal() { # NAME SIGNAL
  local pid
  pid=$(living "$1") && kill -s "$2" "$pid" 2>/dev/null || true
}
gone() { # NAME SECONDS
  local i
  for ((i = 0; i < $2 * 10; i++)); do
    living "$1" >/dev/null || return 0
    sleep 0.1
  done
  return 1
}
end() { # NAME SIGNAL SECONDS: asks, then insists
  signal "$1" "$2"
  gone "$1" "$3" || { signal "$1" KILL; gone "$1" 5 || true; }
  rm -f "$DIR/$1.pid"
}

# A port below the range that the kernel uses for outgoing connections.
free_port() {
  local port
  while :; do
    port=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
  done
}

end_servers() {
  signal rabbitmq TERM
  signal postgres INT
  end rabbitmq TERM 15
  end postgres INT 15
  end epmd TERM 2
  rm -f "$DIR/env"
  if [ -L "$DIR/data" ]; then rm -rf "$(readlink "$DIR/data")"; fi
  rm -rf "$DIR/data"
}

# PostgreSQL refuses to run as root, and other users cannot read a clone below /root. In that case the data is
# in a temporary directory that DIR/data points to.
make_data() {
  AS=()
  local user=
  if [ "$(id -u)" = 0 ]; then
    for user in postgres nobody; do id "$user" >/dev/null 2>&1 && break; done
    AS=(--reuid "$user" --regid "$(id -g "$user")" --clear-groups)
  fi
  mkdir -p "$DIR/data"
  if [ -n "$user" ] && ! setpriv "${AS[@]}" test -x "$DIR/data"; then
    rmdir "$DIR/data"
    ln -s "$(mktemp -d /var/tmp/adu-export-services.XXXXXX)" "$DIR/data"
    chmod 755 "$(readlink "$DIR/data")"
  fi
  DATA=$(readlink -f "$DIR/data")
  mkdir "$DATA/postgres" "$DATA/rabbitmq"
  chmod 700 "$DATA/postgres"
  [ -z "$user" ] || chown "$user" "$DATA/postgres"
}

init_postgres() {
  local bin
  bin=${ADU_TEST_PG_BIN:-$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)}
  [ -x "$bin/postgres" ] || fail "no PostgreSQL in ${bin:-/usr/lib/postgresql}: apt-get install postgresql"
  PG_BIN=$bin
  PG_ISREADY=$bin/pg_isready
  [ -x "$PG_ISREADY" ] || PG_ISREADY=$(command -v pg_isready) || fail "no pg_isready: apt-get install postgresql"
  (cd "$DATA/postgres" && setpriv ${AS[@]+"${AS[@]}"} env LC_ALL=C.UTF-8 "$bin/initdb" -D "$DATA/postgres" \
    -U postgres --auth=trust --encoding=UTF8 --locale=C.UTF-8 --no-sync) >"$DIR/initdb.log" 2>&1 ||
    fail "initdb failed: $(tail -n 3 "$DIR/initdb.log")"
  cat >"$DATA/postgres/pg_hba.conf" <<-CONF
	host all postgres 127.0.0.1/32 trust
	host all all      127.0.0.1/32 scram-sha-256
	CONF
  cat >>"$DATA/postgres/postgresql.conf" <<-CONF
	listen_addresses = '127.0.0.1'
	unix_socket_directories = ''
	port = $PG_PORT
	max_connections = 200
	shared_buffers = 256MB
	maintenance_work_mem = 128MB
	max_wal_size = 4GB
	wal_level = minimal
	max_wal_senders = 0
	fsync = off
	synchronous_commit = off
	full_page_writes = off
	timezone = 'UTC'
	password_encryption = 'scram-sha-256'
	CONF
}

start_postgres() {
  (cd "$DATA/postgres" && exec setpriv ${AS[@]+"${AS[@]}"} --pdeathsig INT "$PG_BIN/postgres" -D "$DATA/postgres") \
    </dev/null >>"$DIR/postgres.log" 2>&1 &
  note postgres $!
}

broker_env() {
  export HOME=$DATA/rabbitmq ERL_EPMD_PORT=$EPMD_PORT ERL_EPMD_ADDRESS=127.0.0.1
  export RABBITMQ_NODENAME=adu-$EPMD_PORT@localhost RABBITMQ_NODE_PORT=$AMQP_PORT RABBITMQ_DIST_PORT=$DIST_PORT
  export RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 RABBITMQ_CONF_ENV_FILE=/dev/null
  export RABBITMQ_CONFIG_FILE=$DATA/rabbitmq/rabbitmq.conf RABBITMQ_ADVANCED_CONFIG_FILE=$DATA/rabbitmq/advanced.config
  export RABBITMQ_MNESIA_BASE=$DATA/rabbitmq/mnesia RABBITMQ_LOG_BASE=$DIR RABBITMQ_LOGS=$DIR/rabbitmq.log
  export RABBITMQ_ENABLED_PLUGINS_FILE=$DATA/rabbitmq/plugins RABBITMQ_PID_FILE=$DATA/rabbitmq/pid
  export RUNNING_UNDER_SYSTEMD=true LC_ALL=C.UTF-8
}

init_rabbitmq() {
  [ -x "$RABBITMQ_BIN/rabbitmq-server" ] || fail "no RabbitMQ in $RABBITMQ_BIN: apt-get install rabbitmq-server"
  broker_env
  echo "[${ADU_RABBITMQ_METRICS:+rabbitmq_prometheus}]." >"$DATA/rabbitmq/plugins"
  cat >"$RABBITMQ_CONFIG_FILE" <<-CONF
	vm_memory_high_watermark.absolute = 1GB
	disk_free_limit.absolute = 50MB
	raft.wal_max_size_bytes = 16777216
	log.file.level = info
	log.console = false
	CONF
  if [ -n "${ADU_RABBITMQ_METRICS:-}" ]; then
    printf 'prometheus.tcp.ip = 127.0.0.1\nprometheus.tcp.port = %s\n' "$METRICS_PORT" >>"$RABBITMQ_CONFIG_FILE"
  fi
  echo '[{rabbit, [{quorum_tick_interval, 500}]}].' >"$RABBITMQ_ADVANCED_CONFIG_FILE"
  export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}"
  setpriv --pdeathsig TERM epmd -port "$EPMD_PORT" -address 127.0.0.1 </dev/null >"$DIR/epmd.log" 2>&1 &
  note epmd $!
}

start_rabbitmq() {
  rm -f "$RABBITMQ_PID_FILE"
  [ ! -e "$DIR/rabbitmq.log" ] || mv "$DIR/rabbitmq.log" "$DIR/rabbitmq.log.before"
  (cd "$DATA/rabbitmq" && exec setpriv --pdeathsig TERM "$RABBITMQ_BIN/rabbitmq-server") \
    </dev/null >"$DIR/rabbitmq-start.log" 2>&1 &
  note rabbitmq $!
}

postgres_is_ready() { "$PG_ISREADY" -q -h 127.0.0.1 -p "$PG_PORT"; }
rabbitmq_is_ready() {
  [ -e "$RABBITMQ_PID_FILE" ] && grep -q 'Server startup complete' "$DIR/rabbitmq.log" 2>/dev/null
}

await_ready() { # 1, and WHY says it, if one of them ended
  local i
  for ((i = 0; i < 1200; i++)); do
    living postgres >/dev/null || { WHY="PostgreSQL did not start: $(tail -qn 5 "$DIR/postgres.log" 2>&1)"; return 1; }
    living rabbitmq >/dev/null ||
      { WHY="RabbitMQ did not start: $(tail -qn 5 "$DIR"/rabbitmq-start.log "$DIR"/rabbitmq.log 2>/dev/null)"; return 1; }
    if postgres_is_ready && rabbitmq_is_ready; then
      return
    fi
    sleep 0.1
  done
  fail "PostgreSQL and RabbitMQ were not ready after two minutes; see $DIR/*.log"
}

launch() {
  PG_PORT=$(free_port) AMQP_PORT=$(free_port) EPMD_PORT=$(free_port) DIST_PORT=$(free_port)
  METRICS_PORT=$(free_port)
  make_data
  init_postgres
  init_rabbitmq
  start_postgres
  start_rabbitmq
}

run() { # the supervisor
  local owner=$1 owner_birth
  owner_birth=$(birth "$owner") || fail "there is no process $owner"
  trap end_servers EXIT
  trap 'exit 0' TERM INT HUP
  local tries=1
  launch
  until await_ready; do
    # Another process may have taken a port between the check and the start.
    [ $((tries++)) -lt 3 ] || fail "$WHY"
    end_servers
    launch
  done
  cat >"$DIR/env.new" <<-ENV
	PG_PORT=$PG_PORT
	PG_BIN=$PG_BIN
	AMQP_PORT=$AMQP_PORT
	EPMD_PORT=$EPMD_PORT
	DIST_PORT=$DIST_PORT
	METRICS_PORT=$METRICS_PORT
	DATA=$DATA
	ENV
  mv "$DIR/env.new" "$DIR/env"
  while [ "$(birth "$owner")" = "$owner_birth" ] && { living postgres >/dev/null || [ -e "$DIR/postgres.halted" ]; }; do
    for server in postgres rabbitmq; do
      [ ! -e "$DIR/$server.resume" ] || again "$server"
    done
    sleep 0.2
  done
}

again() { # SERVER: the supervisor starts it, so that it ends with the supervisor
  "start_$1"
  until "$1_is_ready"; do
    living "$1" >/dev/null || fail "$1 did not start again; see $DIR/*.log"
    sleep 0.1
  done
  rm -f "$DIR/$1.halted" "$DIR/$1.resume"
}

halt() { # SERVER SIGNAL
  : >"$DIR/$1.halted"
  signal "$1" "$2"
  gone "$1" 60 || fail "$1 does not end by SIG$2"
}

resume() { # SERVER
  : >"$DIR/$1.resume"
  while [ -e "$DIR/$1.resume" ]; do
    living supervisor >/dev/null || fail "$(cat "$DIR/supervisor.log")"
    sleep 0.1
  done
}

stop() {
  end supervisor TERM 40
  end_servers
}

if [ "${1:-}" = port ]; then
  free_port
  exit
fi
[ $# -ge 2 ] || fail "usage: see the head of this file"
command=$1
mkdir -p "$2"
DIR=$(cd "$2" && pwd -P)
case $command in
start)
  stop
  rm -f "$DIR"/*.log "$DIR"/*.halted "$DIR"/*.resume
  # A new session: Ctrl-C in the terminal of OWNER must not kill the servers.
  setsid "$0" run "$DIR" "$3" </dev/null >"$DIR/supervisor.log" 2>&1 &
  note supervisor $!
  until [ -e "$DIR/env" ]; do
    living supervisor >/dev/null || fail "$(cat "$DIR/supervisor.log")"
    sleep 0.1
  done
  ;;
run) run "$3" ;;
stop) stop ;;
halt) halt "$3" "$4" ;;
resume) resume "$3" ;;
wipe)
  [ -e "$DIR/rabbitmq.halted" ] || fail "the broker in $DIR still runs"
  . "$DIR/env"
  rm -rf "$DATA/rabbitmq/mnesia"
  ;;
ctl)
  [ -e "$DIR/env" ] || fail "nothing runs in $DIR"
  . "$DIR/env"
  broker_env
  exec $RABBITMQ_BIN/rabbitmqctl -n "$RABBITMQ_NODENAME" "${@:3}"
  ;;
*) fail "unknown command $command" ;;
esac
