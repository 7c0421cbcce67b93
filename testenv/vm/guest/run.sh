#!/bin/bash
# What the guest does at each boot: first.sh, and after its reboot second.sh.
set -uo pipefail
# shellcheck source=check.sh
. /payload/vmtest/check.sh
# shellcheck source=/dev/null
. /payload/vmtest/go
export HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:$goroot/bin
export GOMODCACHE=$mods GOCACHE=/payload/cache GOPROXY=off GOSUMDB=off GOTOOLCHAIN=local
# Go at the very places where it built: nothing is to be built then.
mkdir -p "$goroot" "$mods"
mount --bind /payload/go "$goroot"
mount --bind /payload/mod "$mods"
stty -F "$tell" raw -echo
state=/var/lib/vmtest
mkdir -p "$state"
cd /payload/project || exit 1

if [ ! -e "$state/rebooting" ]; then
  say "INFO first boot: $(uptime -p), $(uname -r), $(systemctl --version | head -1)"
  . /payload/vmtest/first.sh
  date +%s > "$state/rebooting"
  sync
  systemctl reboot
else
  say "INFO second boot: $(uptime -p)"
  . /payload/vmtest/second.sh
  say DONE
  sync
  systemctl poweroff
fi
