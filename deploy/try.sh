#!/usr/bin/env bash
# Starts the agent in the foreground with the sample manifests, and says what
# runs and what to try as soon as the sample pods answer.
set -euo pipefail
bin=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
root=${PINNACE_ROOT:-/var/lib/pinnace} run=${PINNACE_RUN:-/run/pinnace}
manifests=${PINNACE_MANIFESTS:-/etc/pinnace/manifests}
export PATH=$PATH:/usr/sbin:/sbin

[ "$(id -u)" = 0 ] || { echo "make run needs root: it makes network links, mounts and cgroups" >&2; exit 1; }
mkdir -p "$root/images" "$manifests"
for image in "$bin"/images/*.tar; do
  cmp -s "$image" "$root/images/${image##*/}" || cp "$image" "$root/images/"
done
for sample in "$here"/samples/*.yaml; do
  [ -e "$manifests/${sample##*/}" ] || cp "$sample" "$manifests/"
done

flags=
[ "$root" = /var/lib/pinnace ] || flags+=" --root $root"
[ "$run" = /run/pinnace ] || flags+=" --run $run"

tell() {
  # shellcheck disable=SC2086
  for _ in $(seq 150); do
    ip=$("$bin/pinnace" status $flags 2>/dev/null | awk '$2=="web" && $3=="1/1" {split($7, a, ","); print a[1]}') || true
    [ -z "$ip" ] || break
    sleep 0.2
  done
  if [ -z "$ip" ]; then
    echo "The sample pod web is not ready yet; see: $bin/pinnace status" >&2
    return
  fi
  cat <<TEXT

$("$bin/pinnace" status $flags)

Try, in another terminal:
$(printf '  %-52s %s\n' "curl http://$ip:8080/" "ask a pod" \
  "$bin/pinnace status$flags" "see pods, and a verdict on every manifest" \
  "\$EDITOR $manifests/web.yaml" "change a pod: it is replaced" \
  "rm $manifests/web.yaml" "take it away")
Ctrl-C ends the agent only: the pods go on, and the next make run takes them up.
$(printf '  %-52s %s\n' "$bin/pinnace cleanup$flags" "ends the pods and removes all that was made")

TEXT
}
tell &
[ "$manifests" = /etc/pinnace/manifests ] || flags+=" --manifests $manifests"
# shellcheck disable=SC2086
exec "$bin/pinnace" agent $flags
