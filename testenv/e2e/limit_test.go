package e2e

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func resources(t *testing.T, l *live) {
	if _, err := os.Stat("/sys/fs/cgroup/memory"); err != nil {
		t.Skip("this host has cgroup v2; vmtest looks at it there")
	}
	l.pod(t, "limits", `
  containers:
  - {name: c, image: IMAGE, resources: {requests: {cpu: 50m, memory: 32Mi}, limits: {cpu: 100m, memory: 64Mi}}}
`)
	l.pod(t, "best", "  containers: [{name: c, image: IMAGE}]")
	l.pod(t, "sure", `
  containers: [{name: c, image: IMAGE, resources: {limits: {cpu: 100m, memory: 64Mi}}}]
`)
	p := l.ready(t, "limits")
	id := l.container(t, "limits", "c").ID
	for _, c := range []struct{ controller, file, want string }{
		{"memory", "memory.limit_in_bytes", "67108864"},
		{"cpu", "cpu.shares", "51"},
		{"cpu", "cpu.cfs_quota_us", "10000"},
		{"cpu", "cpu.cfs_period_us", "100000"},
	} {
		for _, dir := range []string{"", id} {
			path := filepath.Join("/sys/fs/cgroup", c.controller, "pinnace-"+l.Instance, "pod"+p.UID, dir, c.file)
			text, err := os.ReadFile(path)
			if err != nil || strings.TrimSpace(string(text)) != c.want {
				t.Errorf("%s: %q (%v), want %s", path, text, err, c.want)
			}
		}
	}
	same(t, "QoS", p.Status.QOSClass, corev1.PodQOSBurstable)
	best, sure := l.ready(t, "best"), l.ready(t, "sure")
	same(t, "QoS", best.Status.QOSClass, corev1.PodQOSBestEffort)
	same(t, "QoS", sure.Status.QOSClass, corev1.PodQOSGuaranteed)
	same(t, "OOM score of the best-effort pod", score(t, l, "best"), 1000)
	if s := score(t, l, "limits"); s < 3 || s > 999 {
		t.Errorf("OOM score of the burstable pod: %d, want 3 to 999", s)
	}
	// Without CAP_SYS_RESOURCE no score can be lowered: then -997 stays at 0.
	if s := score(t, l, "sure"); s > 0 {
		t.Errorf("OOM score of the guaranteed pod: %d, want none above 0", s)
	}
}

func score(t *testing.T, l *live, pod string) int {
	t.Helper()
	text, err := os.ReadFile("/proc/" + strconv.Itoa(l.PIDOf(t, l.container(t, pod, "c").ID)) + "/oom_score_adj")
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func security(t *testing.T, l *live) {
	l.pod(t, "secure", `
  securityContext: {runAsUser: 1001, runAsGroup: 2002, fsGroup: 3003, supplementalGroups: [4004], seccompProfile: {type: RuntimeDefault}}
  volumes: [{name: v, emptyDir: {}}]
  containers:
  - name: tight
    image: IMAGE
    volumeMounts: [{name: v, mountPath: /v}]
    securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
  - name: root
    image: IMAGE
    command: [sleep, "1000"]
    securityContext: {runAsUser: 0, capabilities: {drop: [ALL], add: [NET_ADMIN]}, seccompProfile: {type: Unconfined}}
  - name: mighty
    image: IMAGE
    command: [sleep, "1000"]
    securityContext: {runAsUser: 0, privileged: true}
`)
	l.ready(t, "secure")
	same(t, "user and groups", l.sh(t, "secure", "tight", "echo $(id -u) $(id -g) $(id -G)"), "1001 2002 2002 3003 4004")
	status := func(container string) string {
		return l.sh(t, "secure", container, "grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/1/status | tr -s '\\t\\n' '  '")
	}
	same(t, "tight", status("tight"), "CapEff: 0000000000000000 NoNewPrivs: 1 Seccomp: 2")
	same(t, "root", status("root"), "CapEff: 0000000000001000 NoNewPrivs: 0 Seccomp: 0")
	own, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, all, _ := strings.Cut(string(own), "CapBnd:")
	holds(t, "mighty", status("mighty"), "CapEff: "+strings.Fields(all)[0], "Seccomp: 0")
	if out, err := l.try(t, "secure", "tight", "echo x > /x"); err != nil || out.ExitCode == 0 {
		t.Errorf("a read-only root was written to: %v", err)
	}
	same(t, "fsGroup", l.sh(t, "secure", "tight", "echo x > /v/x && stat -c %g /v"), "3003")
	if out, err := l.try(t, "secure", "root", "mount -t tmpfs none /mnt"); err != nil || out.ExitCode == 0 {
		t.Errorf("an unprivileged container could mount: %v", err)
	}
	l.sh(t, "secure", "mighty", "mkdir -p /mnt && mount -t tmpfs none /mnt && [ -e /dev/kmsg ]")
}
