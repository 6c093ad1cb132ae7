#!/usr/bin/env bash
# Everything that must hold before a change lands. Installs the tools it lacks with apt-get.
#
# usage: ./test.sh         all of it: some 60 minutes on 2 cores from an empty target directory
#        ./test.sh fast    without the network laboratory and the checks for other systems
#
# NETLAB_THREADS=N sets how many laboratory tests run side by side (2).
set -euo pipefail
cd "$(dirname "$0")"

# The tools live in sbin, which an ordinary user's path on Debian leaves out.
export PATH="$PATH:/usr/sbin:/sbin"

# program:package, for the laboratory and the tests that judge the daemon from outside.
TOOLS=(
  cc:build-essential ip:iproute2 nft:nftables ping:iputils-ping iperf3:iperf3 turnserver:coturn
  conntrack:conntrack tcpdump:tcpdump ethtool:ethtool strace:strace curl:curl nc:netcat-openbsd sqlite3:sqlite3 chromium:chromium
  avahi-browse:avahi-utils avahi-daemon:avahi-daemon dbus-daemon:dbus-daemon python3:python3 faketime:faketime miniupnpd:miniupnpd-nftables
  nginx:nginx-light openssl:openssl tinyproxy:tinyproxy dnsmasq:dnsmasq-base
)
FAILED=()

main() {
  local mode=${1:-all}
  case $mode in
    all | fast) ;;
    *) echo "usage: ./test.sh [fast]" >&2; exit 2 ;;
  esac
  [ "$mode" = fast ] || must "tools" install_tools
  [ "$mode" = fast ] || must "schema tester" install_schema_tester
  must "rust components" install_components
  # One profile for everything: clippy and rustdoc share their checked dependencies, the build and the tests share
  # their compiled ones, and the programs under test are those that users run.
  step "format" cargo fmt --all --check
  step "clippy" cargo clippy --workspace --all-targets --release -- -D warnings
  step "documentation" env RUSTDOCFLAGS="-D warnings" \
    cargo doc --workspace --release --no-deps --document-private-items
  must "build" cargo build --release --workspace
  step "tests" cargo test --release --workspace --exclude netlab --no-fail-fast
  if [ "$mode" = all ]; then
    step "discovery server on PostgreSQL" \
      env KILL_ROUNDS=100 scripts/with-postgres.sh cargo test --release --workspace --exclude netlab --test server --no-fail-fast
    step "network laboratory" netlab
    step "other systems" scripts/cross-check.sh
  fi
  finish
}

# Runs one step under a heading, with its time; a failure is remembered and the rest still runs.
step() {
  local name=$1 start=$SECONDS
  shift
  printf '\n=== %s: %s\n' "$name" "$*"
  if "$@" </dev/null; then
    printf '=== %s: ok, %d s\n' "$name" $((SECONDS - start))
  else
    printf '=== %s: FAILED, %d s\n' "$name" $((SECONDS - start))
    FAILED+=("$name")
  fi
}

# A step without which the rest says nothing new.
must() {
  step "$@"
  [ ${#FAILED[@]} -eq 0 ] || [ "${FAILED[-1]}" != "$1" ] || finish
}

finish() {
  printf '\n=== %d s in all; ' "$SECONDS"
  if [ ${#FAILED[@]} -eq 0 ]; then
    echo "everything passed"
    exit 0
  fi
  local IFS=,
  echo "failed: ${FAILED[*]}"
  exit 1
}

install_tools() {
  local tool packages=()
  for tool in "${TOOLS[@]}"; do
    command -v "${tool%%:*}" >/dev/null || packages+=("${tool#*:}")
  done
  # Debian keeps the server's programs out of the path.
  compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null || packages+=(postgresql)
  # Debian keeps the second half of venv in a package of its own.
  python3 -c 'import ensurepip' 2>/dev/null || packages+=(python3 python3-venv)
  [ ${#packages[@]} -gt 0 ] || return 0
  if ! command -v apt-get >/dev/null; then
    echo "These packages are missing and there is no apt-get to install them: ${packages[*]}." >&2
    echo "Install them with this system's package manager (the names are Debian's), or use './test.sh fast'." >&2
    return 1
  fi
  # On a booted system these packages would start servers open to the network; the tests run their own.
  local service
  for service in coturn avahi-daemon postgresql miniupnpd nginx tinyproxy; do
    if [[ " ${packages[*]} " == *" $service"* && -d /run/systemd/system ]]; then
      echo "masking $service.service, undo with: systemctl unmask $service"
      as_root systemctl mask --quiet "$service.service" || return 1
    fi
  done
  as_root apt-get update -q &&
    as_root apt-get install -q -y --no-install-recommends "${packages[@]}"
}

# Judges the discovery server by the OpenAPI document that it serves. Beside the programs under test, so that nothing of
# the system changes.
install_schema_tester() {
  local tools=${CARGO_TARGET_DIR:-target}/tools/schemathesis version=4.32.5
  # Its hooks sign records with the second.
  if [ -x "$tools/bin/st" ] && "$tools/bin/st" --version | grep -qF "$version" && "$tools/bin/python" -c 'import cryptography' 2>/dev/null; then
    return 0
  fi
  python3 -m venv "$tools" && "$tools/bin/pip" install --quiet "schemathesis==$version" "cryptography==50.0.2"
}

# A minimal toolchain has neither of the two.
install_components() {
  cargo fmt --version >/dev/null && cargo clippy --version >/dev/null && return
  rustup component add rustfmt clippy
}

# The laboratory's tests build network namespaces, which takes root; cargo itself stays the caller.
netlab() {
  local host runner=()
  if [ "$(id -u)" != 0 ]; then
    host=$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
    runner=("CARGO_TARGET_${host}_RUNNER=sudo -E")
  fi
  env "${runner[@]}" cargo test --release --package netlab --no-fail-fast -- --test-threads="${NETLAB_THREADS:-2}"
}

as_root() {
  if [ "$(id -u)" = 0 ]; then
    DEBIAN_FRONTEND=noninteractive "$@"
  else
    sudo DEBIAN_FRONTEND=noninteractive "$@"
  fi
}

main "$@"
