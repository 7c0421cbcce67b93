#!/usr/bin/env bash
# Installs pinnace on this host; PREFIX and DESTDIR work as usual.
set -euo pipefail
bin=$1 here=$(cd "$(dirname "$0")" && pwd)
prefix=${PREFIX:-/usr/local} dest=${DESTDIR:-}
install -D -m 0755 -t "$dest$prefix/bin" "$bin/pinnace" "$bin/pinnace-cni"
install -D -m 0644 -t "$dest/var/lib/pinnace/images" "$bin"/images/*.tar
install -d -m 0755 "$dest/etc/pinnace/manifests"
[ -e "$dest/etc/pinnace/config.yaml" ] || install -D -m 0644 "$here/config.yaml" "$dest/etc/pinnace/config.yaml"
install -d -m 0755 "$dest/etc/systemd/system"
sed "s|@prefix@|$prefix|g" "$here/pinnace.service" > "$dest/etc/systemd/system/pinnace.service"
[ -n "$dest" ] || ! [ -d /run/systemd/system ] || systemctl daemon-reload
echo "installed; put manifests into /etc/pinnace/manifests and run: systemctl enable --now pinnace"
