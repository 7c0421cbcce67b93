#!/usr/bin/env bash
# Installs the Debian packages that the project needs and that are not there.
# A program found on PATH counts, whoever packaged it. Stops before apt would
# remove or downgrade anything.
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin

want=()
need() { command -v "$1" >/dev/null || want+=("$2"); }
need containerd containerd
need runc runc
need iptables iptables
need ip iproute2
need nft nftables
need curl curl
need git git
# The pause program is C, linked without anything around it.
need cc gcc
[ -e /usr/include/stdlib.h ] || want+=(libc6-dev)
# The demo image carries a busybox that needs no libraries.
busybox=$(command -v busybox || true)
if [ -z "$busybox" ] || ldd "$busybox" >/dev/null 2>&1; then want+=(busybox-static); fi
[ -d /etc/ssl/certs ] && [ -n "$(ls -A /etc/ssl/certs 2>/dev/null)" ] || want+=(ca-certificates)

[ ${#want[@]} -gt 0 ] || exit 0
if ! command -v apt-get >/dev/null; then
  echo "pinnace needs these, and there is no apt-get to install them: ${want[*]}" >&2
  exit 1
fi
if [ "$(id -u)" != 0 ]; then
  echo "pinnace needs these packages; as root: apt-get install --no-install-recommends ${want[*]}" >&2
  exit 1
fi
echo "installing: ${want[*]}"
export DEBIAN_FRONTEND=noninteractive
plan() { apt-get install -s --no-install-recommends "${want[@]}" 2>&1; }
out=$(plan) || { apt-get update -qq; out=$(plan) || { echo "$out" >&2; exit 1; }; }
if grep -qE '^Remv |DOWNGRADED|^The following packages will be REMOVED' <<<"$out"; then
  echo "apt would remove or downgrade packages for this, so nothing was done:" >&2
  grep -E '^Remv ' <<<"$out" >&2 || true
  echo "install these yourself, in any way you like: ${want[*]}" >&2
  exit 1
fi
apt-get install -y -qq --no-install-recommends "${want[@]}" >/dev/null \
  || { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${want[@]}" >/dev/null; }
