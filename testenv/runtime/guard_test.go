package runtime_test

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"pinnace/testenv/runtime"
)

// A test process that is killed leaves nothing either.
func TestGuard(t *testing.T) {
	if os.Getenv("PINNACE_TEST_GUARD") != "" {
		r := runtime.Start(t)
		pod := r.RunPod(t, "left", runtime.Busybox, "sleep", "1000")
		fmt.Printf("left %s %d\n", r.Dir, r.PID(t, pod.Container))
		select {} // until killed
	}
	runtime.Archives(t)
	cmd := exec.Command(os.Args[0], "-test.run=^TestGuard$", "-test.v")
	cmd.Env = append(os.Environ(), "PINNACE_TEST_GUARD=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	var dir string
	var pid int
	for lines := bufio.NewScanner(out); pid == 0 && lines.Scan(); {
		if strings.Contains(lines.Text(), "SKIP") {
			t.Skip(lines.Text())
		}
		fmt.Sscanf(lines.Text(), "left %s %d", &dir, &pid)
	}
	if pid == 0 {
		t.Fatal("the inner test did not come to its pod")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 1000 {
		mounts, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			t.Fatal(err)
		}
		_, stat := os.Stat(dir)
		cgroups, _ := filepath.Glob("/sys/fs/cgroup/*/" + filepath.Base(dir))
		if os.IsNotExist(stat) && syscall.Kill(pid, 0) != nil && !bytes.Contains(mounts, []byte(dir)) && len(cgroups) == 0 {
			return
		}
		<-tick.C
	}
	t.Errorf("left: folder %s or process %d or a mount or a cgroup", dir, pid)
}
