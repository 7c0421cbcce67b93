# Until the reboot: make run, resources, make install, the unit.

unloaded() { ! lsmod 2>/dev/null | grep -E '^(overlay|veth|nf_tables) '; }
nothingMissing() { same "packages.sh" "$(./deploy/packages.sh)" ""; }
v2() { same "file system of /sys/fs/cgroup" "$(stat -fc %T /sys/fs/cgroup)" cgroup2fs; }

check "cgroup v2 and systemd as PID 1" eval 'v2 && [ "$(cat /proc/1/comm)" = systemd ]'
check "the kernel's modules are not loaded yet" unloaded
check "every package is there" nothingMissing
check "the unit file is sound" eval 'mkdir -p /tmp/unit && sed "s|@prefix@|/usr|" deploy/pinnace.service > /tmp/unit/pinnace.service &&
  ln -sf /payload/project/bin/pinnace /usr/bin/pinnace && out=$(systemd-analyze verify /tmp/unit/pinnace.service 2>&1) && same said "$out" ""'
rm -f /usr/bin/pinnace
footprint > "$state/before"

# make run, as in a terminal: in a process group of its own.
export PATH=$PATH:/payload/project/bin
began=$SECONDS
env --default-signal=INT setsid make run < /dev/null > "$state/make-run.log" 2>&1 &
job=$!
printed() { grep -q 'Try, in another terminal' "$state/make-run.log"; }
check "make run says what to try" await 900 printed
say "INFO make run took $((SECONDS - began)) s to there, of these $(sed -n 's/.*msg=ready.* took=//p' "$state/make-run.log") until the agent was ready"
sed 's/^/     | /' "$state/make-run.log" > "$tell"
check "curl reaches the sample pod" await 60 answers web
check "sample job ends" await 60 is phase job Succeeded
check "sample sidecar is ready" await 60 ready sidecar

. /payload/vmtest/resources.sh

# Ctrl-C.
everyone > "$state/run"
kill -INT -- "-$job"
wait "$job"
check "Ctrl-C ends the agent" eval '! pgrep -x pinnace'
check "pods go on without it" eval 'curl -fsS -m 5 "http://$(cat "$state/web")/"'
check "containerd goes on without it" daemon

# The unit. It takes up what make run has left.
export PATH=${PATH%:/payload/project/bin}
check "make install" make install
check "systemctl enable --now" systemctl enable --now pinnace
check "the unit becomes ready" await 120 ready web
check "the unit adopts the pods of make run" same "pods" "$(everyone)" "$(cat "$state/run")"
inUnit() { same "processes of the unit" "$(cat /sys/fs/cgroup/system.slice/pinnace.service/cgroup.procs)" "$(pgrep -x pinnace)"; }
check "the unit holds the agent alone" inUnit
cp /payload/vmtest/pods/ledger.yaml "$manifests/"
check "a manifest dropped in runs" await 60 ready ledger
check "a job with restartPolicy Never ends" await 60 is phase once Succeeded

everyone > "$state/unit"
pid=$(daemon)
check "systemctl stop" systemctl stop pinnace
check "systemctl stop leaves the pods" eval '! pgrep -x pinnace && curl -fsS -m 5 "http://$(cat "$state/web")/"'
check "systemctl stop leaves containerd" same "its pid" "$(daemon)" "$pid"
check "systemctl start" systemctl start pinnace
check "systemctl start adopts" await 60 eval 'same pods "$(everyone)" "$(cat "$state/unit")"'
systemctl kill -s KILL pinnace
check "a killed agent comes back and adopts" await 90 eval 'systemctl is-active pinnace && same pods "$(everyone)" "$(cat "$state/unit")"'
kill -KILL "$pid"
check "a killed containerd comes back" await 90 eval '[ "$(daemon)" != "'"$pid"'" ] && daemon'
check "it has a scope of its own again" await 30 eval 'grep -E "^0::/system.slice/pinnace-containerd-[^/]*\.scope$" "/proc/$(daemon)/cgroup"'
check "its end did not touch the pods" await 60 eval 'answers web && same pods "$(everyone)" "$(cat "$state/unit")"'
story
