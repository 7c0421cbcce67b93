package containerd_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"pinnace/containerd"
	"pinnace/testenv/runtime"
)

// recorded is the daemon's pid by its record; 0 without one.
func recorded(t *testing.T, r *runtime.Runtime) int {
	t.Helper()
	var rec struct{ Process struct{ PID int } }
	raw, err := os.ReadFile(filepath.Join(r.Run, "daemon.json"))
	if errors.Is(err, os.ErrNotExist) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &rec); err != nil {
		t.Fatal(err)
	}
	return rec.Process.PID
}

// start is what the next agent does.
func start(t *testing.T, cfg containerd.Config) *containerd.Daemon {
	t.Helper()
	d, err := containerd.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return d
}

// eventually waits for what another process does.
func eventually(t *testing.T, what string, happened func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range 3000 {
		if happened() {
			return
		}
		<-tick.C
	}
	t.Fatalf("%s: not within 30 s", what)
}

// daemons counts the containerds on this runtime's configuration.
func daemons(t *testing.T, r *runtime.Runtime) int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, file := range files {
		if raw, err := os.ReadFile(file); err == nil && strings.HasSuffix(string(raw), "\x00--config\x00"+filepath.Join(r.Root, "config.toml")+"\x00") {
			n++
		}
	}
	return n
}

func sleeper(t *testing.T, r *runtime.Runtime) (pod runtime.Pod, pid int) {
	t.Helper()
	pod = r.RunPod(t, "sleeper", runtime.Busybox, "sleep", "1000")
	if pid = r.PID(t, pod.Container); pid == 0 {
		t.Fatal("the pod does not run")
	}
	return pod, pid
}

func TestAdopt(t *testing.T) {
	r := runtime.Start(t)
	_, pid := sleeper(t, r)
	first := recorded(t, r)

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Daemon.Run(ctx) }()
	cancel() // the agent leaves
	if err := <-done; err != nil {
		t.Errorf("run: %v", err)
	}
	start(t, r.Config)
	if now := recorded(t, r); now != first {
		t.Errorf("the next agent runs containerd %d, it was %d", now, first)
	}

	changed := r.Config
	changed.SandboxImage = runtime.Busybox
	pod, _ := r.CRI.ListContainers(t.Context(), &runtimeapi.ListContainersRequest{})
	start(t, changed)
	second := recorded(t, r)
	if second == first {
		t.Error("a changed configuration was not taken up")
	}
	if now := r.PID(t, pod.GetContainers()[0].GetId()); now != pid {
		t.Errorf("the pod's process was %d, is %d after the restart", pid, now)
	}

	if err := os.Remove(filepath.Join(r.Run, "daemon.json")); err != nil { // as if the agent had died before it was written
		t.Fatal(err)
	}
	start(t, changed)
	if n := daemons(t, r); n != 1 || recorded(t, r) == second {
		t.Errorf("%d daemons run after the record was lost, recorded is %d", n, recorded(t, r))
	}
}

// An upgrade in place changes the binary under the same path.
func TestUpgrade(t *testing.T) {
	r := runtime.Start(t)
	first := recorded(t, r)
	cfg := r.Config
	path, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", first))
	if err != nil {
		t.Fatal(err)
	}
	cfg.Binary = filepath.Join(r.Dir, "containerd")
	if out, err := exec.Command("cp", path, cfg.Binary).CombinedOutput(); err != nil {
		t.Fatalf("%s", out)
	}
	start(t, cfg)
	if n := daemons(t, r); n != 1 || recorded(t, r) == first {
		t.Errorf("%d daemons run after the upgrade, recorded is %d, was %d", n, recorded(t, r), first)
	}
}

func TestRunStartsAgain(t *testing.T) {
	r := runtime.Start(t)
	pod, pid := sleeper(t, r)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Daemon.Run(ctx) }()
	for range 2 {
		before := recorded(t, r)
		if err := syscall.Kill(before, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, "another containerd", func() bool { return recorded(t, r) != before })
		eventually(t, "CRI", func() bool {
			_, err := r.CRI.Version(t.Context(), &runtimeapi.VersionRequest{})
			return err == nil
		})
		if now := r.PID(t, pod.Container); now != pid {
			t.Errorf("the pod's process was %d, is %d", pid, now)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("run: %v", err)
	}
	if n := daemons(t, r); n != 1 {
		t.Errorf("%d daemons run", n)
	}
}

// A daemon that cannot start says why, in the error itself.
func TestLastWords(t *testing.T) {
	r := runtime.Prepare(t)
	if err := os.MkdirAll(r.Root, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.Root, "root"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	err := r.Daemon.Start(t.Context())
	if err == nil || !strings.Contains(err.Error(), "not a directory") {
		t.Errorf("start on a file for a folder: %v", err)
	}
}

// With pods still running, nothing of containerd is left after Stop.
func TestStop(t *testing.T) {
	r := runtime.Start(t)
	pod, pid := sleeper(t, r)
	socket := shimSocket(t, r, pod.Sandbox)
	for range 2 { // and again: nothing to do
		if err := r.Daemon.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the container's process %d: %v", pid, err)
	}
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if raw, err := os.ReadFile(file); err == nil && strings.Contains(string(raw), "containerd") && strings.Contains(string(raw), r.Dir+"/") {
			t.Errorf("left: %s %q", file, raw)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mounts), r.Dir+"/") {
		t.Errorf("mounts are left:\n%s", mounts)
	}
	if _, err := os.Stat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the shim's socket %s: %v", socket, err)
	}
	if dirs, _ := filepath.Glob("/sys/fs/cgroup/*/pinnace-" + r.Config.Instance + "-containerd"); len(dirs) > 0 {
		t.Errorf("cgroups are left: %v", dirs)
	}
	if recorded(t, r) != 0 {
		t.Error("the record is left")
	}
}

func shimSocket(t *testing.T, r *runtime.Runtime, sandbox string) string {
	t.Helper()
	bundle := filepath.Join(r.Run, "state", "io.containerd.runtime.v2.task", "k8s.io", sandbox)
	raw, err := os.ReadFile(filepath.Join(bundle, "address"))
	if err != nil {
		if raw, err = os.ReadFile(filepath.Join(bundle, "bootstrap.json")); err != nil {
			t.Fatal(err)
		}
		var boot struct{ Address string }
		if err := json.Unmarshal(raw, &boot); err != nil {
			t.Fatal(err)
		}
		raw = []byte(boot.Address)
	}
	path := strings.TrimPrefix(strings.TrimSpace(string(raw)), "unix://")
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// The container's end is told, that of an exec in another one is not.
func TestExits(t *testing.T) {
	r := runtime.Start(t)
	ctx, cancel := context.WithCancel(t.Context())
	told, done := make(chan string, 100), make(chan error, 1)
	go func() { done <- containerd.Exits(ctx, r.Endpoint, func(id string) { told <- id }) }()
	stays, _ := sleeper(t, r)
	probe := r.RunPod(t, "probe", runtime.Busybox, "sleep", "1000")
	next := func() string {
		select {
		case id := <-told:
			return id
		case <-time.After(20 * time.Second):
			return "nothing"
		}
	}
	end := func(id string) {
		t.Helper()
		if _, err := r.CRI.StopContainer(t.Context(), &runtimeapi.StopContainerRequest{ContainerId: id}); err != nil {
			t.Fatal(err)
		}
	}
	end(probe.Container)
	if id := next(); id != probe.Container {
		t.Errorf("told %s, want the container %s", id, probe.Container)
	}
	if _, err := r.CRI.ExecSync(t.Context(), &runtimeapi.ExecSyncRequest{ContainerId: stays.Container, Cmd: []string{"true"}}); err != nil {
		t.Fatal(err)
	}
	end(stays.Container) // after the exec's end in the stream
	if id := next(); id != stays.Container {
		t.Errorf("told %s, want the container %s", id, stays.Container)
	}
	select {
	case id := <-told:
		t.Errorf("told %s too", id)
	default:
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("exits: %v", err)
	}
}

// The stream's end is an error while it is wanted.
func TestExitsEnd(t *testing.T) {
	r := runtime.Start(t)
	told, done := make(chan string, 100), make(chan error, 1)
	go func() { done <- containerd.Exits(t.Context(), r.Endpoint, func(id string) { told <- id }) }()
	pod := r.RunPod(t, "short", runtime.Busybox, "true")
	if id := <-told; id != pod.Container {
		t.Errorf("told %s", id)
	}
	if err := syscall.Kill(recorded(t, r), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err == nil {
		t.Error("no error after containerd died")
	}
}
