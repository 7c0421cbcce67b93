#!/usr/bin/env bash
# Makes the guest's root disk: Debian 12 from the mirror that this machine's
# own apt uses, with what a user of pinnace has on it. Prints the folder that
# holds disk, kernel and initrd. It is made once per text of this file.
set -euo pipefail
cache=$1

# A machine as Debian installs it, then what deploy/packages.sh asks for, then
# jq and procps for the checks.
packages=(
  systemd systemd-sysv dbus udev kmod apparmor linux-image-cloud-amd64 e2fsprogs iproute2
  containerd runc iptables curl git gcc libc6-dev busybox-static ca-certificates make
  jq procps
)

image=$cache/base-$(sha256sum "$0" | cut -c1-12)
if [ -e "$image/root.ext4" ]; then
  echo "$image"
  exit
fi
part=$image.part
rm -rf "$part"
mkdir -p "$part"
trap 'rm -rf "$part"' EXIT

sources=$(apt-get indextargets --format 'deb $(REPO_URI) $(CODENAME) $(COMPONENT)' 'Created-By: Packages' 'Origin: Debian' |
  sort -u | grep -E ' bookworm(-updates|-security)? main$' || true)
[ -n "$sources" ] || { echo "apt here knows no Debian 12: run apt-get update, or add its sources" >&2; exit 1; }
echo "making the guest's disk, once: some minutes" >&2
root=$part/root
nice mmdebstrap --quiet --variant=minbase --include="$(IFS=,; echo "${packages[*]}")" \
  --aptopt='APT::Install-Recommends "false"' \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' \
  bookworm "$root" - <<<"$sources" >&2

passwd -q -R "$root" -d root # the console is for who looks into a failure
echo vmtest > "$root/etc/hostname"
printf '127.0.0.1 localhost vmtest\n' > "$root/etc/hosts"
printf 'nameserver 10.0.2.3\n' > "$root/etc/resolv.conf"
printf 'LABEL=root / ext4 errors=remount-ro 0 1\nLABEL=payload /payload ext4 nofail 0 0\n' > "$root/etc/fstab"
mkdir -p "$root/payload" "$root/var/log/journal"
cat > "$root/etc/systemd/network/lan.network" <<'UNIT'
[Match]
Name=en*
[Network]
DHCP=yes
UNIT
cat > "$root/etc/systemd/system/vmtest.service" <<'UNIT'
[Unit]
Description=What run.sh wants done in here
RequiresMountsFor=/payload
After=network-online.target
Wants=network-online.target
[Service]
Type=exec
ExecStart=/payload/vmtest/run.sh
TimeoutStopSec=5
[Install]
WantedBy=multi-user.target
UNIT
# The host's containerd stays off, so that nobody but pinnace loads overlayfs.
systemctl --root "$root" --quiet enable systemd-networkd systemd-networkd-wait-online vmtest
systemctl --root "$root" --quiet disable containerd
mv "$root"/boot/vmlinuz-* "$part/vmlinuz"
mv "$root"/boot/initrd.img-* "$part/initrd"
mke2fs -q -t ext4 -L root -d "$root" "$part/root.ext4" 6G >&2
rm -rf "$root"
mv "$part" "$image"
find "$cache" -maxdepth 1 -name 'base-*' ! -path "$image" -exec rm -rf {} +
echo "$image"
