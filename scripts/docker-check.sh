#!/usr/bin/env bash
# Builds the image without a network, runs compose.yaml with it, and checks its containers. The base images
# are Debian trees under the names that Dockerfile and compose.yaml use. dockerd and its data are below
# target/docker.
set -euo pipefail
cd "$(dirname "$0")/.."

TARGET=${CARGO_TARGET_DIR:-target}
WORK=$(mkdir -p "$TARGET/docker" && cd "$TARGET/docker" && pwd -P)
PYTHON=$TARGET/venv/bin/python3
SOCKET=/tmp/adu-docker-$$.sock # the path of a socket has to be short
export DOCKER_HOST=unix://$SOCKET DOCKER_BUILDKIT=0 COMPOSE_DOCKER_CLI_BUILD=0 # Debian's Docker has no buildx

fail() { echo "docker-check: $*" >&2; exit 1; }
say() { echo "    $*"; }
eventually() { # SECONDS WHAT COMMAND…
  local until=$((SECONDS + $1)) what=$2
  shift 2
  until "$@"; do
    [ $SECONDS -lt $until ] || fail "not within time: $what"
    sleep 0.5
  done
  say "$what"
}

[ "$(id -u)" = 0 ] || fail "dockerd wants root"
for program in dockerd docker debootstrap; do
  command -v $program >/dev/null || fail "$program is missing: apt-get install docker.io docker-compose debootstrap"
done
docker compose version >/dev/null 2>&1 || command -v docker-compose >/dev/null ||
  fail "Compose is missing: apt-get install docker-compose"

echo "==> Debian trees for the base images"
slim=$(SUITE=trixie scripts/debian-tree.sh "$WORK/tree" ca-certificates)
services=$(SUITE=trixie scripts/debian-tree.sh "$WORK/tree" \
  gcc libc6-dev make ca-certificates postgresql rabbitmq-server prometheus procps)

echo "==> dockerd in a network that leads nowhere"
setsid scripts/docker-check/dockerd.sh "$WORK" "$SOCKET" >"$WORK/dockerd.log" 2>&1 &
dockerd=$!
# Compose is a plugin, or Debian 12's docker-compose.
if docker compose version >/dev/null 2>&1; then compose=(docker compose); else compose=(docker-compose); fi
compose() { "${compose[@]}" --file docker/compose.yaml "$@"; }
shut_down() {
  compose --profile monitoring down --volumes --timeout 5 >/dev/null 2>&1 || true
  kill "$dockerd" 2>/dev/null || true
  wait "$dockerd" 2>/dev/null || true
  rm -f "$SOCKET"
}
trap shut_down EXIT
ready() { kill -0 "$dockerd" 2>/dev/null && docker version >/dev/null 2>&1; }
eventually 30 "$(dockerd --version)" ready

echo "==> base images"
image_of() { # the default of ${NAME:-default}
  awk -v "service=  $1:" '$0 == service { on = 1 } on && $1 == "image:" { print $2; exit }' docker/compose.yaml | sed 's/.*:-\(.*\)}/\1/'
}
import() { # TREE NAME OPTIONS…: unless it is there from an earlier run; what is built on it is then not built again
  [ "$(docker image inspect --format '{{.Config.Labels.tree}}' "$2" 2>/dev/null)" != "$1" ] || return 0
  tar --create --directory="$1" --exclude=./proc/* --exclude=./sys/* --exclude=./dev/* . | docker import --change "LABEL tree=$1" "${@:3}" - "$2" >/dev/null
}
builder=$(awk '$1 == "FROM" { print $2; exit }' docker/Dockerfile)
runtime=$(awk '$1 == "FROM" { name = $2 } END { print name }' docker/Dockerfile)
import "$slim" "$runtime" --change 'CMD ["bash"]'
import "$services" debian-with-services
for service in postgres rabbitmq prometheus; do
  { cat scripts/docker-check/stand-ins/Dockerfile && echo "CMD [\"$service\"]"; } |
    docker build --quiet --tag "$(image_of $service)" --file - scripts/docker-check/stand-ins >/dev/null 2>&1 ||
    fail "no stand-in for $service"
done
toolchain=$WORK/toolchain
rm -rf "$toolchain" && mkdir "$toolchain"
cp -a "$(rustc --print sysroot)" "$toolchain/rust" && rm -rf "$toolchain/rust/share"
printf 'FROM debian-with-services\nCOPY rust /usr/local/rust\nENV PATH=/usr/local/rust/bin:/usr/bin:/bin\n' >"$toolchain/Dockerfile"
docker build --quiet --tag "$builder" "$toolchain" >/dev/null 2>&1 || fail "no stand-in for $builder"
rm -rf "$toolchain"
say "$builder and $runtime, and of compose.yaml: $(image_of postgres), $(image_of rabbitmq), $(image_of prometheus)"

echo "==> the image, from vendored crates, without a network"
sources=$WORK/sources
rm -rf "$sources" && mkdir "$sources"
git ls-files -z --cached --others --exclude-standard | tar --create --null --files-from=- | tar --extract --directory="$sources"
(cd "$sources" && cargo vendor --quiet --locked vendor >/dev/null)
docker build --network none --tag adu-export --file "$sources/docker/Dockerfile" "$sources" >"$WORK/build.log" 2>&1 ||
  fail "the image cannot be built: $(tail -n 5 "$WORK/build.log")"
rm -rf "$sources"
size=$(docker image inspect --format '{{.Size}}' adu-export)
added=$((size - $(docker image inspect --format '{{.Size}}' "$runtime")))
[ $added -lt 100000000 ] || fail "the image adds $added bytes to $runtime"
say "built; it adds $((added / 1000000)) MB to $runtime"
docker save adu-export | gzip -1 >"$WORK/adu-export.tar.gz"
docker image rm adu-export >/dev/null
docker load --quiet --input "$WORK/adu-export.tar.gz" >/dev/null
rm "$WORK/adu-export.tar.gz"
docker run --rm adu-export --version >/dev/null || fail "the image does not survive docker save and docker load"
say "docker save, docker load"
docker run --rm --entrypoint cat adu-export /usr/share/adu-export/sql/page-reader.sql | cmp -s - sql/page-reader.sql ||
  fail "the image has not the page-reader.sql of this release"

echo "==> compose up"
compose up -d >"$WORK/compose.log" 2>&1 || fail "$(tail -n 5 "$WORK/compose.log"); $(compose logs init | tail -n 5)"
container() { compose ps -q "$1"; }
health() { docker inspect --format '{{.State.Health.Status}}' "$(container "$1")"; }
is() { [ "$(health "$1")" = "$2" ]; }
pid_of() { docker inspect --format '{{.State.Pid}}' "$(container "$1")"; }
eventually 60 "the first daemon is healthy" is adu-export-1 healthy
eventually 60 "the second daemon is healthy" is adu-export-2 healthy
in_daemon() { docker exec "$(container adu-export-1)" "$@"; }
[ "$(in_daemon id -u)" = 10001 ] || fail "it runs as $(in_daemon id -un)"
for place in /tmp /var/tmp; do # where anybody may write
  in_daemon touch $place/written 2>/dev/null && fail "it can write to $place"
done
in_daemon touch /data/exports/.temp/written || fail "it cannot write into the export folder"
in_daemon rm /data/exports/.temp/written
[ "$(in_daemon awk '/^CapEff/ { print $2 }' /proc/1/status)" = 0000000000000000 ] || fail "it has capabilities"
say "no root, no capabilities, nothing writable but the export folder"

echo "==> work"
operator() { compose --profile operator run --rm -T operator "$@"; }
psql() { docker exec -i "$(container postgres)" psql --no-psqlrc -U postgres -d warehouse -qAt "$@"; }
# Compares the rows of a table: those of the server and those in the files.
compare() { # TABLE DIRECTORY
  docker cp "$(container adu-export-1):/data/exports/$2" "$WORK/exported" >/dev/null
  psql -c "COPY (SELECT id, customer, amount, to_char(ordered_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') FROM $1 ORDER BY id) TO STDOUT" >"$WORK/expected"
  "$PYTHON" - "$WORK/exported" >"$WORK/found" <<'PYTHON'
import sys
import pyarrow.dataset
table = pyarrow.dataset.dataset(sys.argv[1]).to_table().sort_by("id")
for row in zip(*(table[name].to_pylist() for name in ("id", "customer", "amount", "ordered_at"))):
    print(row[0], row[1], row[2], row[3].strftime("%Y-%m-%d %H:%M:%S"), sep="\t")
PYTHON
  [ -s "$WORK/expected" ] || fail "the server has no rows of $1"
  cmp "$WORK/expected" "$WORK/found" || fail "$2 is not $1"
  rm -rf "$WORK/exported"
}
operator submit --job-id first --table public.orders --wait >"$WORK/submit.log" 2>&1 || fail "$(tail -n 5 "$WORK/submit.log")"
compare public.orders public_orders
say "a job, through RabbitMQ: $(wc -l <"$WORK/expected") rows, all as PostgreSQL says"

line=$(awk '/^mkdir -p exports$/ { on = 1 } on { print } on && /--out/ { exit }' README.md)
[[ $line == *"docker run"* ]] || fail "README.md has no line docker run"
folder=$WORK/one-shot
rm -rf "$folder" && mkdir "$folder"
echo "$line" | sed "s|docker run|docker run --network adu-export_default|; s|postgres://[^ ]*|postgres://exporter:exporter-secret@postgres/warehouse|" \
  >"$WORK/line.sh"
(cd "$folder" && bash -eu "$WORK/line.sh" >"$WORK/line.log" 2>&1) || fail "README's docker run: $(tail -n 5 "$WORK/line.log")"
[ "$(find "$folder" -name '*.parquet' | wc -l)" -gt 0 ] || fail "README's docker run wrote nothing: $(find "$folder")"
rm -rf "$folder"
say "README's docker run exports the table"

echo "==> a daemon that hangs, one that dies, one that is stopped"
kill -STOP "$(pid_of adu-export-1)"
eventually 120 "stopped by SIGSTOP: unhealthy" is adu-export-1 unhealthy
kill -CONT "$(pid_of adu-export-1)"
eventually 60 "goes on: healthy" is adu-export-1 healthy
psql -c "CREATE TABLE wide AS SELECT i AS id, repeat('customer ', 60) || i AS customer, i / 100.0 AS amount, now() AS ordered_at FROM generate_series(1, 2000000) AS i" \
  -c "ALTER TABLE wide ALTER amount TYPE numeric(12, 2); ALTER TABLE wide ALTER ordered_at TYPE timestamptz(0)" -c "GRANT SELECT ON wide TO exporter" -c "VACUUM ANALYZE wide"
begun() { docker exec "$(container adu-export-2)" find /data/exports/.temp/job_second/parts -type f 2>/dev/null | grep -q .; }
operator submit --job-id second --table public.wide >/dev/null 2>&1
eventually 60 "a job is at work" begun
old=$(pid_of adu-export-1)
kill -KILL "$old"
before=$SECONDS
compose stop adu-export-2 >/dev/null 2>&1
code=$(docker inspect --format '{{.State.ExitCode}}' "$(container adu-export-2)")
[ "$code" = 0 ] || fail "docker stop: exit code $code after $((SECONDS - before)) s"
say "docker stop amid the job: exit code 0 after $((SECONDS - before)) s"
[ "$(pid_of adu-export-1)" != "$old" ] || fail "the killed daemon was not started again"
eventually 60 "killed by SIGKILL: started again, healthy" is adu-export-1 healthy
completed() { in_daemon cat /data/exports/.archive/by-id/second.json 2>/dev/null | grep -Eq '"status": *"completed"'; }
eventually 120 "the job completes" completed
compare public.wide public_wide
say "$(wc -l <"$WORK/expected") rows, all as PostgreSQL says"
compose up -d adu-export-2 >/dev/null 2>&1

echo "==> Prometheus of the stack"
compose --profile monitoring up -d prometheus >/dev/null 2>&1
query() { docker exec "$(container prometheus)" bash -c "exec 3<>/dev/tcp/127.0.0.1/9090; printf 'GET %s HTTP/1.0\r\n\r\n' '$1' >&3; timeout 10 cat <&3"; }
scraped() { query '/api/v1/query?query=count(adu_export_ready%3D%3D1)' 2>/dev/null | grep -q '"2"\]'; }
eventually 90 "both daemons are scraped" scraped
queues() { query '/api/v1/query?query=count(rabbitmq_detailed_queue_messages_ready)' 2>/dev/null | grep -q '"value"'; }
eventually 60 "and RabbitMQ's queues" queues
query /api/v1/rules | grep -q AduExportNoCoordinator || fail "its rules are not loaded"
say "the alert rules are loaded"
compose --profile monitoring --profile operator config >"$WORK/config.log" 2>&1 || fail "$(tail -n 5 "$WORK/config.log")"
echo "==> all of it holds"
