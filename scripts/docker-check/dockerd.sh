#!/usr/bin/env bash
# Starts a dockerd in its own network, which leads nowhere, with all its data below DIR: dockerd.sh DIR SOCKET
set -euo pipefail

dir=$1
mkdir -p "$dir/data" "$dir/run"
echo '{}' >"$dir/run/daemon.json" # never the host's
exec unshare --net --mount bash -c '
  ip link set lo up
  mount -t tmpfs tmpfs /run
  exec dockerd --data-root "$1/data" --exec-root "$1/run/exec" --pidfile "$1/run/pid" --host "unix://$2" \
    --config-file "$1/run/daemon.json" --log-level warn' dockerd "$dir" "$2"
