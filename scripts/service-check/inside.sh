#!/usr/bin/env bash
# Runs as root in the booted machine and checks what the package and its units promise. Ends at the first
# broken promise.
set -euo pipefail
cd /

ROOT=/data/exports
DISK=/srv/exports # what is mounted there
CONFIG=/etc/adu-export/adu-export.toml
UNIT=adu-export.service

say() { echo "  ok  $*"; }
fail() {
  echo "service-check: FAILED: $*" >&2
  journalctl --no-pager -n 40 -u 'adu-export*' >&2 || true
  exit 1
}
eventually() { # SECONDS WHAT COMMAND…
  local seconds=$1 what=$2 end
  shift 2
  end=$((SECONDS + seconds))
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || fail "$what: not within $seconds s"
    sleep 0.2
  done
}
property() { systemctl show --value -p "$2" "$1"; }
is() { [ "$(property "$UNIT" "$1")" = "$2" ]; }
active_as_another() { # PID of before. One look: between two the process may end.
  local state
  state=$(systemctl show -p ActiveState -p MainPID "$UNIT" | sort | tr '\n' ' ')
  [[ $state == "ActiveState=active MainPID="[1-9]* ]] && [ "$state" != "ActiveState=active MainPID=$1 " ]
}
submit() { timeout 120 adu-export submit --config /check/client.toml "$@"; }
archived() { [ -e "$ROOT/.archive/by-id/$1.json" ]; }
completed() { grep -q '"status": *"completed"' "$ROOT/.archive/by-id/$1.json"; }
consumers() { rabbitmqctl -q list_consumers queue_name | grep -cx adu.export.requests || true; }
has_process() { ! is MainPID 0; }
as_daemon() { setpriv --reuid adu-export --regid adu-export --clear-groups "$@"; }
in_sandbox() { nsenter -t "$(property "$UNIT" MainPID)" -m "$@"; }

echo "==> servers"
eventually 60 "PostgreSQL" su postgres -c "psql -qc 'SELECT 1'"
eventually 120 "RabbitMQ" rabbitmqctl -q await_startup
su postgres -c "psql -q -v ON_ERROR_STOP=1" <<'SQL'
CREATE ROLE exporter LOGIN PASSWORD 'of-the-source';
CREATE TABLE numbers AS SELECT i, md5(i::text) AS text FROM generate_series(1, 200000) AS i;
CREATE VIEW slow AS SELECT i, pg_sleep(0.01)::text AS nothing FROM generate_series(1, 1500) AS i;
GRANT SELECT ON numbers, slow TO exporter;
SQL
rabbitmqctl -q add_user exporter of-the-broker
rabbitmqctl -q set_permissions exporter '.*' '.*' '.*'

echo "==> installation"
dpkg -i /check/old.deb >/dev/null 2>&1 || fail "the package does not install"
is ActiveState inactive || fail "the daemon was started before anybody configured it"
[ "$(stat -c '%a %U %G' $CONFIG)" = "640 root adu-export" ] || fail "$CONFIG: $(stat -c '%a %U %G' $CONFIG)"
[ "$(stat -c '%a %U %G' $ROOT)" = "2750 adu-export adu-export" ] || fail "$ROOT: $(stat -c '%a %U %G' $ROOT)"
for file in man/man1/adu-export.1.gz bash-completion/completions/adu-export zsh/vendor-completions/_adu-export \
  fish/vendor_completions.d/adu-export.fish adu-export/schemas/request.schema.json \
  adu-export/sql/page-reader.sql adu-export/sql/page-reader-remove.sql \
  adu-export/rabbitmq/definitions.json adu-export/prometheus/adu-export.rules.yml adu-export/prometheus/prometheus.yml \
  adu-export/grafana/dashboards/adu-export.json adu-export/grafana/provisioning/dashboards/adu-export.yml \
  adu-export/grafana/provisioning/datasources/adu-export.yml doc/adu-export/OPERATIONS.md; do
  [ -s "/usr/share/$file" ] || fail "/usr/share/$file is missing"
done
say "user, folders, configuration, manual page, completions, schemas, SQL scripts, rules, dashboard"
for unit in $UNIT adu-export@9951.service; do
  complaints=$(systemd-analyze verify --man=no "$unit" 2>&1 | grep -F adu-export) || true
  [ -z "$complaints" ] || fail "systemd complains: $complaints"
  systemd-analyze security --offline=true --threshold=29 "/usr/lib/systemd/system/${unit/9951/}" >/dev/null ||
    fail "$unit is exposed by 3.0 or more"
done
say "units are valid and exposed by less than 3.0"
for unit in $UNIT adu-export@9951.service; do
  while read -r name value; do
    [ "$(property "$unit" "$name")" = "$value" ] || fail "$unit: $name is $(property "$unit" "$name"), not $value"
  done <<-PROMISES
	Type notify
	UMask 0027
	Restart on-failure
	RestartPreventExitStatus 2
	TimeoutStopUSec 2min 30s
	ReadWritePaths $ROOT
	User adu-export
	LoadState loaded
	PROMISES
  # `systemctl show` has it only for units that run.
  systemctl cat "$unit" | grep -qx 'WatchdogSec=60s' || fail "$unit has no watchdog"
  [[ " $(property "$unit" RequiresMountsFor) " == *" $ROOT "* ]] || fail "$unit does not want the mount of $ROOT"
done
grep -Eq '^# *shutdown_grace = "2m"|^shutdown_grace = "2m"' $CONFIG || fail "the grace is not the 2 minutes that TimeoutStopSec allows"
say "both units say what they promise"

echo "==> start"
systemctl start $UNIT 2>/dev/null && fail "it starts with a configuration that nobody edited"
is ExecMainStatus 2 || fail "an unusable configuration ends it with $(property $UNIT ExecMainStatus), not with 2"
sleep 4
is NRestarts 0 || fail "exit code 2 was restarted"
systemctl reset-failed $UNIT
say "exit code 2 is not restarted"
install -m 640 -g adu-export /check/daemon.toml $CONFIG
install -d -m 700 /etc/credstore
# The one minute of the unit is too long for a test.
mkdir -p /run/systemd/system/$UNIT.d
printf '[Service]\nWatchdogSec=15s\n' >/run/systemd/system/$UNIT.d/sooner.conf
systemctl daemon-reload
(umask 077 && printf 'amqp://exporter:of-the-broker@127.0.0.1:5672/%%2f' >/etc/credstore/adu-export.broker)
(umask 077 && printf 'of-the-source' >/etc/credstore/adu-export.warehouse)
# The root is a mount of its own, as on hosts that share it.
install -d -m 2750 -o adu-export -g adu-export $DISK
cat >/run/systemd/system/data-exports.mount <<CONF
[Mount]
What=$DISK
Where=$ROOT
Type=none
Options=bind
CONF
systemctl daemon-reload
systemctl start data-exports.mount
systemctl start adu-export-check || fail "the check: $(journalctl -q -o cat -u adu-export-check)"
journalctl -q -o cat -u adu-export-check | grep -q "^ok .*made now\|^ok .*$ROOT is " || fail "the check says nothing of the folder"
[ "$(stat -c %U $ROOT/.adu-root)" = adu-export ] || fail "the folder is named by $(stat -c %U $ROOT/.adu-root)"
say "the check finds all of it, with the daemon's credentials, and names the folder"
systemctl stop data-exports.mount
mountpoint -q $ROOT && fail "the root is still mounted"
systemctl stop rabbitmq-server
touch /run/started
systemctl --no-block start $UNIT
eventually 20 "the daemon runs" has_process
mountpoint -q $ROOT || fail "it was started without the mount of its root"
say "started after the mount of its root"
sleep 6
is ActiveState activating || fail "READY without a broker: it is $(property $UNIT ActiveState)"
systemctl start rabbitmq-server
eventually 90 "READY when the broker is there" is ActiveState active
[ "$(consumers)" -ge 1 ] || fail "READY, and no consumer on adu.export.requests"
is StatusText consuming || fail "the status line is $(property $UNIT StatusText)"
say "READY only when it consumes"
as_daemon cat /etc/credstore/adu-export.broker 2>/dev/null && fail "the daemon can read root's secrets"
as_daemon test -r /run/credentials/$UNIT/broker || fail "the daemon has no credential"
su nobody -s /bin/sh -c "cat /run/credentials/$UNIT/broker" 2>/dev/null && fail "anybody can read its credentials"
tr '\0' ' ' <"/proc/$(property $UNIT MainPID)/environ" | grep -Eq 'of-the-(broker|source)' && fail "a secret is in its environment"
say "secrets came as credentials"

echo "==> work"
submit --table public.numbers --job-id first --wait >/dev/null 2>&1 || fail "a job ends with $?"
[ "$(stat -c '%a %U' "$ROOT/public_numbers")" = "2750 adu-export" ] || fail "the directory: $(stat -c '%a %U' "$ROOT/public_numbers")"
[ "$(stat -c '%a %U' "$ROOT"/public_numbers/part-000000.parquet)" = "640 adu-export" ] || fail "the mode of a part"
completed first || fail "the archive does not say completed"
eventually 5 "the journal has fields" journalctl -q -u $UNIT ADU_JOB=first --grep "the job is finished"
say "a job is exported"
pid=$(property $UNIT MainPID)
sed -i 's/level = "info"/level = "debug"/' $CONFIG
systemctl reload $UNIT
eventually 10 "the reload" journalctl -q -u $UNIT --grep "are read again"
eventually 5 "active after the reload" is ActiveState active
is MainPID "$pid" || fail "the reload was a restart"
say "reload"
timeout 60 systemctl start adu-export@9951 || fail "a second daemon does not start"
exec 3<>/dev/tcp/127.0.0.1/9951
printf 'GET /readyz HTTP/1.0\r\n\r\n' >&3
head -n 1 <&3 | grep -q ' 200' || fail "a second daemon is not ready on its port"
exec 3>&-
[ "$(consumers)" = 2 ] || fail "two daemons, and $(consumers) consumers"
systemctl stop adu-export@9951
say "a second daemon on a port of its own"

echo "==> deaths"
kill -KILL "$(property $UNIT MainPID)"
eventually 60 "restarted after kill -9" active_as_another "$pid"
is NRestarts 1 || fail "restarts: $(property $UNIT NRestarts)"
say "kill -9: restarted"
pid=$(property $UNIT MainPID)
kill -STOP "$pid"
eventually 60 "a hung daemon is restarted" active_as_another "$pid"
journalctl -q -u $UNIT --grep "Watchdog timeout" >/dev/null || fail "it was not the watchdog"
say "SIGSTOP: killed by the watchdog, restarted"

echo "==> nothing outside the root"
# Runs as root, so that only the sandbox can prevent the writes.
for place in /etc /etc/adu-export /var/lib /usr /home /opt /data; do
  in_sandbox test -d "$place" || fail "there is no $place"
  in_sandbox touch "$place/written" 2>/dev/null && fail "the sandbox lets it write to $place"
done
in_sandbox touch $ROOT/.temp/written || fail "the sandbox does not let it write to its root"
rm $ROOT/.temp/written
find / /run /tmp /dev/shm -xdev -user adu-export -not -path "$ROOT*" -not -path "$DISK*" -not -path '/run/credentials/*' -not -path '/proc/*' \
  >/run/strays
[ ! -s /run/strays ] || fail "written outside the root: $(cat /run/strays)"
[ -n "$(find $ROOT -newer /run/started -user adu-export -name '*.parquet')" ] || fail "the search finds nothing at all"
say "nothing is written outside the root"

echo "==> upgrade, stop, removal"
pid=$(property $UNIT MainPID)
submit --table public.slow --table public.numbers --job-id upgraded >/dev/null
eventually 30 "the job runs" test -e $ROOT/.temp/job_upgraded/plans/e1.json
archived upgraded && fail "the job was over before the upgrade"
dpkg -i /check/new.deb >/dev/null 2>&1 || fail "the package does not upgrade"
archived upgraded && fail "the job was over before the upgrade ended"
eventually 120 "restarted by the upgrade" active_as_another "$pid"
eventually 120 "the job goes on after the upgrade" archived upgraded
completed upgraded || fail "the job did not complete: $(cat $ROOT/.archive/by-id/upgraded.json)"
grep -q debug $CONFIG || fail "the upgrade replaced the configuration"
say "an upgrade with a job running: the job completes"
submit --table public.slow --job-id stopped >/dev/null
eventually 30 "the job runs" test -e $ROOT/.temp/job_stopped/plans/e1.json
before=$SECONDS
systemctl stop $UNIT
[ $((SECONDS - before)) -le 35 ] || fail "the stop took $((SECONDS - before)) s, and the grace is 30"
[ "$(property $UNIT Result) $(property $UNIT ExecMainStatus)" = "success 0" ] ||
  fail "stopped as $(property $UNIT Result), exit code $(property $UNIT ExecMainStatus)"
say "stop within the grace ($((SECONDS - before)) s), exit code 0"
journalctl -q -u $UNIT --grep "State 'stop-sigterm' timed out" >/dev/null && fail "a stop was not in time for systemd"
systemctl start $UNIT adu-export@9951
systemctl --quiet enable $UNIT adu-export@9951
eventually 90 "the job goes on after the stop" archived stopped
completed stopped || fail "the job did not complete: $(cat $ROOT/.archive/by-id/stopped.json)"
say "the job of the stopped daemon completes"
before=$SECONDS
systemctl stop $UNIT
[ $((SECONDS - before)) -le 10 ] || fail "an idle daemon took $((SECONDS - before)) s to stop"
[ "$(property $UNIT Result) $(property $UNIT ExecMainStatus)" = "success 0" ] || fail "an idle stop: $(property $UNIT Result)"
say "an idle daemon stops at once"
systemctl start $UNIT
pids="$(property $UNIT MainPID) $(property adu-export@9951 MainPID)"
dpkg -r adu-export >/dev/null 2>&1 || fail "the package cannot be removed"
for pid in $pids; do
  [ ! -e "/proc/$pid" ] || fail "a daemon outlives the package"
done
[ -z "$(find /etc/systemd /usr/lib/systemd /usr/bin -name 'adu-export*')" ] || fail "the removal left things behind"
[ -e $CONFIG ] || fail "the removal took the configuration"
dpkg -P adu-export >/dev/null 2>&1 || fail "the package cannot be purged"
[ ! -e $CONFIG ] || fail "the purge left the configuration"
[ -s $ROOT/public_numbers/part-000000.parquet ] || fail "the exports went with the package"
say "removal: the daemon ends, exports stay"
