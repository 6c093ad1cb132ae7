#!/usr/bin/env bash
# A mesh on one machine: builds the programs, then a little internet of network namespaces with a public server and two
# homes behind NAT, links the homes, pings, fetches a shared file, shows the status, and cleans up.
set -euo pipefail
cd "$(dirname "$0")"
export PATH="$PATH:/usr/sbin:/sbin"

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

packages=()
for tool in ip:iproute2 nft:nftables ping:iputils-ping curl:curl cc:build-essential; do
  command -v "${tool%%:*}" >/dev/null || packages+=("${tool#*:}")
done
if [ ${#packages[@]} -gt 0 ]; then
  command -v apt-get >/dev/null || {
    echo "Please install first (Debian's names): ${packages[*]}" >&2
    exit 1
  }
  echo "installing: ${packages[*]}"
  as_root apt-get update -q
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${packages[@]}"
fi

cargo build --release --workspace
as_root "${CARGO_TARGET_DIR:-target}/release/demo"
