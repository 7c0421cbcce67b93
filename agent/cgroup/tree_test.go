package cgroup

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// tree is a root of the test's own, gone afterwards.
func tree(t testing.TB) *Tree {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("needs root")
		}
		t.Skip("needs root")
	}
	tr, err := New(Config{Root: fmt.Sprintf("/pinnace-test-%d", os.Getpid())})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tr.Clean(); err != nil {
			t.Error(err)
		}
		for controller, p := range tr.paths {
			if exists(p) {
				t.Errorf("left behind in %q: %s", controller, p)
			}
		}
	})
	return tr
}

func limitedPod(uid string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: types.UID(uid)},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{with(list("cpu", "500m"), list("cpu", "2", "memory", "64Mi"))}},
	}
}

func value(t *testing.T, tr *Tree, controller, uid, file string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(tr.paths[controller], "pod"+uid, file))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(raw))
}

func TestEnsure(t *testing.T) {
	tr := tree(t)
	if tr.Unified() {
		t.Skip("the values below are those of cgroup v1; TestUnified has the others")
	}
	for range 2 { // twice is once
		if err := tr.Ensure(limitedPod("a")); err != nil {
			t.Fatal(err)
		}
	}
	got := map[string]string{}
	for file, controller := range map[string]string{
		"cpu.shares": "cpu", "cpu.cfs_quota_us": "cpu", "cpu.cfs_period_us": "cpu", "memory.limit_in_bytes": "memory",
	} {
		got[file] = value(t, tr, controller, "a", file)
	}
	want := map[string]string{
		"cpu.shares": "512", "cpu.cfs_quota_us": "200000", "cpu.cfs_period_us": "100000", "memory.limit_in_bytes": "67108864",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if mems := value(t, tr, "cpuset", "a", "cpuset.mems"); mems == "" {
		t.Error("cpuset.mems is empty: no process can enter")
	}
	if got := value(t, tr, "pids", "a", "pids.max"); got != "max" {
		t.Errorf("pids.max %s, want no limit", got)
	}
}

func TestPodsAndRemove(t *testing.T) {
	tr := tree(t)
	pods := func(want ...string) {
		t.Helper()
		got, err := tr.Pods()
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, want) {
			t.Errorf("pods %v, want %v", got, want)
		}
	}
	pods() // no root yet
	for _, uid := range []string{"b-2", "a-1"} {
		if err := tr.Ensure(limitedPod(uid)); err != nil {
			t.Fatal(err)
		}
	}
	pods("a-1", "b-2")
	for range 2 {
		if err := tr.Remove("a-1"); err != nil {
			t.Fatal(err)
		}
	}
	pods("b-2")
	for controller, p := range tr.paths {
		if exists(filepath.Join(p, "poda-1")) {
			t.Errorf("removed pod is still in %q", controller)
		}
	}
}

// TestRemoveKills: a process that was left in a container's cgroup, with a
// child that ignores signals, does not survive its pod. Others do.
func TestRemoveKills(t *testing.T) {
	tr := tree(t)
	inherited := []string{"cpuset.cpus", "cpuset.mems"} // by the runtime's doing
	if tr.Unified() {
		inherited = nil // by the kernel's
	}
	for _, uid := range []string{"a", "b"} {
		if err := tr.Ensure(limitedPod(uid)); err != nil {
			t.Fatal(err)
		}
	}
	start := func(uid string) *exec.Cmd {
		t.Helper()
		cmd := exec.Command("sh", "-c", "trap '' TERM HUP; echo ready; read x; (sleep 1000)")
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill(); in.Close() })
		if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		for _, p := range tr.paths {
			if !exists(filepath.Join(p, "pod"+uid)) {
				continue // devices: nothing to set, so the runtime makes it
			}
			sub := filepath.Join(p, "pod"+uid, "container")
			if err := os.Mkdir(sub, 0o755); err != nil {
				t.Fatal(err)
			}
			for _, file := range inherited {
				if raw, err := os.ReadFile(filepath.Join(p, "pod"+uid, file)); err == nil {
					if err := os.WriteFile(filepath.Join(sub, file), raw, 0); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := os.WriteFile(filepath.Join(sub, "cgroup.procs"), []byte(strconv.Itoa(cmd.Process.Pid)), 0); err != nil {
				t.Fatal(err)
			}
		}
		return cmd
	}
	victim, bystander := start("a"), start("b")
	ended := make(chan error, 1)
	go func() { ended <- victim.Wait() }()
	if err := tr.Remove("a"); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("the process ended with %v, want killed", err)
	}
	if err := bystander.Process.Signal(unix.Signal(0)); err != nil {
		t.Errorf("the other pod's process: %v", err)
	}
	if err := tr.Remove("b"); err != nil {
		t.Fatal(err)
	}
	bystander.Wait()
}

func TestRootRefused(t *testing.T) {
	for _, root := range []string{"", "/", "/x/.."} {
		if _, err := New(Config{Root: root}); err == nil || !strings.Contains(err.Error(), "name of its own") {
			t.Errorf("root %q: %v", root, err)
		}
	}
}

func TestSystemdAbsent(t *testing.T) {
	if _, err := os.Stat("/run/systemd/system"); err == nil {
		t.Skip("systemd runs here")
	}
	if _, err := New(Config{Root: "/x", Systemd: true}); err == nil || !strings.Contains(err.Error(), "systemd does not run here") {
		t.Errorf("error %v", err)
	}
}

// TestUnified runs the tests above with cgroup v2 at the usual place, in a
// mount namespace of its own. A host of v1 has no controllers to offer there:
// what remains to see is creation, listing, killing and removal.
func TestUnified(t *testing.T) {
	if os.Getenv("PINNACE_TEST_UNIFIED") != "" || tree(t).Unified() {
		t.Skip("cgroup v2 is what the other tests run on")
	}
	cmd := exec.Command("sh", "-c", `umount -l /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec "$0" -test.v -test.run '^(TestPodsAndRemove|TestRemoveKills|TestUnifiedWeight)$'`, "/proc/self/exe")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Args[3] = self
	cmd.Env = append(os.Environ(), "PINNACE_TEST_UNIFIED=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if n := strings.Count(string(out), "--- PASS"); n != 3 {
		t.Errorf("%d tests passed, want 3\n%s", n, out)
	}
}

// TestUnifiedWeight: on v2 the limits are written in its own terms.
func TestUnifiedWeight(t *testing.T) {
	l := Resources(limitedPod("a"))
	v2 := (&Tree{unified: true}).resourcesWith(l, func(string) bool { return true })
	if v2.CpuShares != 0 || v2.CpuWeight != 20 || v2.CpuQuota != 200_000 || v2.Memory != 64<<20 {
		t.Errorf("v2: shares %d weight %d quota %d memory %d", v2.CpuShares, v2.CpuWeight, v2.CpuQuota, v2.Memory)
	}
	none := (&Tree{unified: true}).resourcesWith(l, func(string) bool { return false })
	if none.CpuWeight != 0 || none.CpuQuota != 0 || none.Memory != 0 {
		t.Errorf("limits for controllers that are not there: %+v", none)
	}
}

func BenchmarkEnsure(b *testing.B) {
	tr := tree(b)
	b.Run("new", func(b *testing.B) {
		for i := range b.N {
			uid := strconv.Itoa(i)
			if err := tr.Ensure(limitedPod(uid)); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			tr.Remove(uid)
			b.StartTimer()
		}
	})
	b.Run("again", func(b *testing.B) {
		for b.Loop() {
			if err := tr.Ensure(limitedPod("same")); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("remove", func(b *testing.B) {
		for i := range b.N {
			uid := strconv.Itoa(i)
			b.StopTimer()
			tr.Ensure(limitedPod(uid))
			b.StartTimer()
			if err := tr.Remove(uid); err != nil {
				b.Fatal(err)
			}
		}
	})
}
