#!/usr/bin/env bash
# Boots a Debian with systemd, PostgreSQL and RabbitMQ, installs the package there, and runs
# service-check/inside.sh in it. The tree is kept below target/service; changes inside it are not kept.
set -euo pipefail
cd "$(dirname "$0")/.."

TARGET=${CARGO_TARGET_DIR:-target}
WORK=$(mkdir -p "$TARGET/service" && cd "$TARGET/service" && pwd -P)
NAME=adu-service-check-$$

fail() { echo "service-check: $*" >&2; exit 1; }

[ "$(id -u)" = 0 ] || fail "systemd-nspawn wants root"
command -v systemd-nspawn >/dev/null || fail "systemd-nspawn is missing: apt-get install systemd-container"
package=$(ls -t "$TARGET"/debian/adu-export_*.deb 2>/dev/null | head -n 1)
[ -n "$package" ] || fail "there is no package: make deb"

echo "==> a Debian with PostgreSQL and RabbitMQ"
tree=$(scripts/debian-tree.sh "$WORK/tree" systemd systemd-sysv dbus init-system-helpers procps postgresql rabbitmq-server)

printf '127.0.0.1 localhost\n' >"$tree/etc/hosts"

echo "==> the package, and the same one as an upgrade"
share=$WORK/share
rm -rf "$share" && mkdir -p "$share"
cp "$package" "$share/old.deb"
dpkg-deb -R "$package" "$share/new"
version=$(dpkg-deb -f "$package" Version)
sed -i "s/^Version: .*/Version: $version+check/" "$share/new/DEBIAN/control"
dpkg-deb --root-owner-group -b "$share/new" "$share/new.deb" >/dev/null
rm -rf "$share/new"
cp scripts/service-check/* "$share/"

echo "==> it boots"
systemd-nspawn --quiet --boot --directory="$tree" --volatile=overlay --bind-ro="$share:/check" \
  --machine="$NAME" --hostname=localhost --private-network --register=no --keep-unit --console=pipe \
  </dev/null >"$WORK/console.log" 2>&1 &
machine=$!
leader=
shut_down() {
  # SIGRTMIN+4 asks the systemd inside to power off.
  [ -z "$leader" ] || kill -s RTMIN+4 "$leader" 2>/dev/null || true
  for _ in $(seq 300); do
    kill -0 "$machine" 2>/dev/null || return 0
    sleep 0.1
  done
  kill -KILL "$machine" ${leader:+"$leader"} 2>/dev/null || true
}
trap shut_down EXIT
inside() { nsenter -t "$leader" -m -u -i -n -p env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 "$@"; }
for _ in $(seq 300); do
  kill -0 "$machine" 2>/dev/null || fail "it did not boot: $(tail -n 5 "$WORK/console.log")"
  leader=$(cat "/proc/$machine/task/$machine/children" 2>/dev/null | cut -d' ' -f1)
  [ -n "$leader" ] && inside test -S /run/systemd/private 2>/dev/null && break
  sleep 0.1
done
[ -n "$leader" ] || fail "it did not boot within 30 s; see $WORK/console.log"
inside bash /check/inside.sh
echo "==> all of it holds"
