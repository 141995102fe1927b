#!/usr/bin/env bash
# Installs missing packages from Debian: PostgreSQL with PostGIS, RabbitMQ, PgBouncer, Python's venv, a C
# compiler, openssl, strace, valgrind. Arguments name more programs, each from the package of its name, or as
# PROGRAM:PACKAGE. The system services of the packages are neither needed nor left running: the programs are
# used on private ports.
set -euo pipefail

missing=()
[ -n "$(ls -d /usr/lib/postgresql/*/bin/initdb 2>/dev/null)" ] || missing+=(postgresql)
[ -n "$(ls /usr/share/postgresql/*/extension/postgis.control 2>/dev/null)" ] || missing+=(postgresql-postgis)
[ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || missing+=(rabbitmq-server)
python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3 python3-venv)
command -v cc >/dev/null || missing+=(gcc libc6-dev)
[ -x /usr/sbin/pgbouncer ] || missing+=(pgbouncer)
command -v setpriv >/dev/null || missing+=(util-linux)
command -v openssl >/dev/null || missing+=(openssl)
command -v strace >/dev/null || missing+=(strace)
command -v mount >/dev/null || missing+=(mount)
command -v valgrind >/dev/null || missing+=(valgrind)

for program in "$@"; do command -v "${program%%:*}" >/dev/null || missing+=("${program##*:}"); done

if ! command -v cargo >/dev/null; then
  echo "packages.sh: Rust 1.89 or newer is missing: see https://rustup.rs" >&2
  exit 1
fi
[ ${#missing[@]} -gt 0 ] || exit 0

echo "==> installing ${missing[*]}"
if [ "$(id -u)" = 0 ]; then
  as_root=(env)
elif command -v sudo >/dev/null; then
  as_root=(sudo env)
else
  echo "packages.sh: run this as root: apt-get install ${missing[*]}" >&2
  exit 1
fi

# Debian starts the services of a package at its installation, unless this file forbids it.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
  "${as_root[@]}" chmod 755 "$policy"
  trap '"${as_root[@]}" rm -f "$policy"' EXIT
fi
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
for service in postgresql rabbitmq-server pgbouncer; do
  case " ${missing[*]} " in
  *" $service "*) [ ! -d /run/systemd/system ] || "${as_root[@]}" systemctl disable --quiet --now "$service" || true ;;
  esac
done
