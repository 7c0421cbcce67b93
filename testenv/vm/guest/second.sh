# After the reboot: everything is back, and then nothing is left.

systemctl is-system-running --wait >/dev/null
took=$(($(awk '/^btime/ {print $2}' /proc/stat) - $(cat "$state/rebooting")))
check "the host went down without waiting ($took s)" [ "$took" -lt 60 ]
check "no unit failed at boot" eval 'same failed "$(systemctl --failed --plain --no-legend)" ""'
check "pods are back: web" await 180 answers web
for name in web sidecar ledger guaranteed burstable besteffort; do
  check "$name is ready" await 90 ready "$name"
done
for name in web guaranteed burstable besteffort; do
  check "the host reaches $name" answers "$name"
done

# counts: pod, uid, container, restart count; wanted is one more for those
# that run and no change for those that had ended.
counts() { everyone | awk '{print $1, $2, $3, $5}'; }
wanted() { awk '{n = $5 + ($1 !~ /^(job|once|oom)$/); print $1, $2, $3, n}' "$state/unit"; }
check "restart counts: one more for running, none for finished" same counts "$(counts)" "$(wanted)"
check "finished pods keep their containers" same containers \
  "$(everyone | grep -E '^(job|once|oom) ')" "$(grep -E '^(job|once|oom) ' "$state/unit")"
check "job stays Succeeded" is phase job Succeeded
check "once stays Succeeded and ran once" eval 'is phase once Succeeded && same runs "$(wc -l < /srv/vmtest/once)" 1'
check "oom stays Failed" is phase oom Failed
check "hostPath keeps its data" eval 'same starts "$(wc -l < /srv/vmtest/starts)" 2'
last() { pod web '.status.containerStatuses[0].lastState.terminated | "\(.reason) \(.exitCode)"'; }
say "INFO web's last state: $(last)"
check "limits are back" eval 'd=$(slice burstable) && holds "$d" cpu.weight 20 && holds "$d" memory.max 134217728'
story

check "systemctl disable --now" systemctl disable --now pinnace
check "cleanup" pinnace cleanup
footprint > "$state/after"
check "nothing is left on the host" diff -u "$state/before" "$state/after"
check "below $root the images are left" same files "$(find "$root" -mindepth 1 -maxdepth 1)" "$root/images"
check "cleanup again changes nothing" pinnace cleanup
check "manifests and hostPath data are left" eval 'ls /srv/vmtest/starts "$manifests/web.yaml"'
