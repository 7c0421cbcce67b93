#!/usr/bin/env bash
# Boots Debian 12 with systemd and cgroup v2 under QEMU, does there what a user
# would (make run, make install, reboot, cleanup) and checks what came of it.
# guest/ holds what runs inside. Prints a line per check; fails when one fails.
#
# Nothing is built slowly inside: Go, its module cache and its build cache go
# along on a disk, so that `make run` in there finds everything built.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
project=$(cd "$here/../.." && pwd)
export PATH=$PATH:/usr/sbin:/sbin
cache=${PINNACE_VM_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/pinnace-vm}
limit=${PINNACE_VM_LIMIT:-2400} # seconds for the guest, reboots included

[ "$(id -u)" = 0 ] || { echo "make vmtest needs root: it makes a Debian root folder" >&2; exit 1; }
want=()
need() { command -v "$1" >/dev/null || want+=("$2"); }
need qemu-system-x86_64 qemu-system-x86
need mmdebstrap mmdebstrap
need mke2fs e2fsprogs
if [ ${#want[@]} -gt 0 ]; then
  echo "installing: ${want[*]}"
  apt-get update -qq
  if apt-get install -s --no-install-recommends "${want[@]}" | grep -E '^Remv '; then
    echo "apt would remove these, so nothing was done; install yourself: ${want[*]}" >&2
    exit 1
  fi
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${want[@]}" >/dev/null
fi

mkdir -p "$cache"
exec 9> "$cache/lock"
flock -n 9 || { echo "another make vmtest runs with $cache" >&2; exit 1; }
work=$(mktemp -d "$cache/work.XXXXXX")
qemu=
end() {
  [ -z "$qemu" ] || kill "$qemu" 2>/dev/null || true
  wait
  rm -rf "$work"
}
trap end EXIT
trap 'exit 1' INT TERM

image=$("$here/image.sh" "$cache")

# The project as it would be checked out, and its binaries, built from that
# very copy: the build in the guest then agrees that nothing is to be done.
echo "packing project, Go and caches"
disk=$work/disk
mkdir -p "$disk/project" "$disk/cache" "$disk/mod"
pick() { tar -c --null --ignore-failed-read -T - 2>/dev/null | tar -x -C "$1"; } # a file may vanish meanwhile
(cd "$project" && git ls-files -coz --exclude-standard | pick "$disk/project")
cp -a "$here/guest" "$disk/vmtest"
marker=$work/marker
touch -d '-65 minutes' "$marker" # Go refreshes an entry's time when it is older than an hour
(
  cd "$disk/project"
  export CGO_ENABLED=0
  nice ./deploy/build.sh bin
  nice go test -c -o "$disk/vmtest/cgroup.test" ./agent/cgroup
  nice go list -deps -f '{{with .Module}}{{.Dir}}{{end}}' ./cmd/... ./images/... | sort -u | grep -F "$(go env GOMODCACHE)/" > "$work/modules"
)
gocache=$(go env GOCACHE) mods=$(go env GOMODCACHE)
(cd "$gocache" && find . -type f -newer "$marker" -print0 | pick "$disk/cache")
(cd "$mods" && { sed "s|^$mods/||" "$work/modules"; find cache/download -type f ! -name '*.zip'; } | tr '\n' '\0' | pick "$disk/mod")
cp -a "$(go env GOROOT)" "$disk/go"
printf 'goroot=%q\nmods=%q\nexport GOFLAGS=%q\n' "$(go env GOROOT)" "$mods" "$(go env GOFLAGS)" > "$disk/vmtest/go"
mke2fs -q -t ext4 -L payload -d "$disk" "$work/disk.ext4" "$(($(du -sm "$disk" | cut -f1) * 13 / 10 + 512))M" > /dev/null
rm -rf "$disk"

# Both disks are thrown away with the guest: snapshot=on writes beside them.
# To look inside: socat - UNIX:$work/console, and log in as root.
echo "booting; at most $((limit / 60)) minutes"
: > "$cache/result.log"
TMPDIR=$work timeout -k 10 "$limit" nice qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 2048 \
  -display none -monitor none -no-user-config -nodefaults \
  -kernel "$image/vmlinuz" -initrd "$image/initrd" \
  -append "root=/dev/vda ro console=ttyS0 quiet systemd.show_status=1 mitigations=off" \
  -drive "file=$image/root.ext4,format=raw,if=virtio,snapshot=on" \
  -drive "file=$work/disk.ext4,format=raw,if=virtio,snapshot=on" \
  -nic user,model=virtio-net-pci,restrict=on -device virtio-rng-pci \
  -chardev "socket,id=console,path=$work/console,server=on,wait=off,logfile=$cache/console.log" -serial chardev:console -serial "file:$cache/result.log" &
qemu=$!
tail -n +1 -f --pid="$qemu" "$cache/result.log" 2>/dev/null | tr -d '\r' &
code=0
wait "$qemu" || code=$?
qemu=
wait

result=$(tr -d '\r' < "$cache/result.log")
passed=$(grep -c '^PASS' <<<"$result" || true) failed=$(grep -c '^FAIL' <<<"$result" || true)
echo
echo "$passed passed, $failed failed; the whole story: $cache/result.log, $cache/console.log"
if ! grep -q '^DONE$' <<<"$result"; then
  [ "$code" != 124 ] || echo "the guest was stopped after $limit s"
  echo "the guest did not get to its end; the console's last lines:"
  tail -20 "$cache/console.log" | tr -d '\r'
  exit 1
fi
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
