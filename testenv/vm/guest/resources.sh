# Needs a running agent: what the kernel was told of three QoS classes.

cp /payload/vmtest/pods/qos.yaml /payload/vmtest/pods/oom.yaml "$manifests/"
for name in guaranteed burstable besteffort; do
  check "$name runs" await 90 ready "$name"
done
address web | sed 's/$/:8080/' > "$state/web"

# limits POD WEIGHT CPU MEMORY: of the pod's slice.
limits() {
  local dir
  dir=$(slice "$1") && holds "$dir" cpu.weight "$2" && holds "$dir" cpu.max "$3" && holds "$dir" memory.max "$4"
}
check "slice of guaranteed: cpu.weight, cpu.max, memory.max" limits guaranteed 10 "25000 100000" 67108864
check "slice of burstable" limits burstable 20 "100000 100000" 134217728
check "slice of besteffort" limits besteffort 1 "max 100000" max

# inner POD CPU MEMORY: of its container.
inner() {
  local dir
  dir=$(scope "$(container "$1")") && holds "$dir" cpu.max "$2" && holds "$dir" memory.max "$3" && holds "$dir" memory.oom.group 1 &&
    case $dir in "$(slice "$1")"/*) ;; *) echo "$dir is not in the pod's slice"; false ;; esac
}
check "container of guaranteed: also memory.oom.group" inner guaranteed "25000 100000" 67108864
check "container of burstable" inner burstable "100000 100000" 134217728
check "container of besteffort" inner besteffort "max 100000" max

# score POD WANT: what the kernel's OOM killer thinks of its container.
score() {
  local pid
  pid=$(head -1 "$(scope "$(container "$1")")/cgroup.procs") && same oom_score_adj "$(cat "/proc/$pid/oom_score_adj")" "$2"
}
memory=$(awk '/^MemTotal/ {print $2}' /proc/meminfo)
check "oom_score_adj of guaranteed" score guaranteed -997
check "oom_score_adj of burstable" score burstable $((1000 - 1000 * 64 * 1024 / memory))
check "oom_score_adj of besteffort" score besteffort 1000
check "oom_score_adj of pauses" eval 'for p in $(pgrep -x pause); do same "of $p" "$(cat /proc/$p/oom_score_adj)" -998 || exit 1; done; pgrep -x pause >/dev/null'

check "OOM kill ends the whole container" await 90 is phase oom Failed
killed() { pod oom '.status.containerStatuses[0].state.terminated | "\(.reason) \(.exitCode)"'; }
check "and gives OOMKilled, 137" is killed oom "OOMKilled 137"

outside() { grep -E '^0::/system.slice/pinnace-containerd-[^/]*\.scope$' "/proc/$(daemon)/cgroup"; }
check "containerd runs in a scope of its own" outside
check "tests of agent/cgroup on v2" eval 'cd agent/cgroup && CI=1 /payload/vmtest/cgroup.test -test.timeout 5m'
