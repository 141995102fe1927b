# Sourced by the scripts that compare exports with their server: . scripts/compared.sh NAME [DIR]
# DIR, target/NAME by default, is made and keeps all that the script needs.
target=${CARGO_TARGET_DIR:-target}
mkdir -p "${2:-$target/$1}"
dir=$(cd "${2:-$target/$1}" && pwd -P)
adu=$(realpath "${ADU_EXPORT:-$target/release/adu-export}")

start_servers() { # sets PG_PORT and DATA; they end with the script
  trap 'scripts/services.sh stop "$dir/services"' EXIT
  trap 'exit 130' INT TERM
  scripts/services.sh start "$dir/services" $$
  . "$dir/services/env"
}
