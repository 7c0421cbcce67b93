package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Two runs into two folders give the same bytes.
func TestPackReproduces(t *testing.T) {
	var logs [2]bytes.Buffer
	dirs := [2]string{t.TempDir(), t.TempDir()}
	for i, dir := range dirs {
		if err := run([]string{"-out", dir, "-busybox"}, &logs[i]); err != nil {
			t.Fatal(err)
		}
	}
	if logs[0].String() != logs[1].String() {
		t.Errorf("digests differ:\n%s%s", &logs[0], &logs[1])
	}
	for _, name := range []string{"pause.tar", "demo.tar", "busybox.tar"} {
		a, err := os.ReadFile(filepath.Join(dirs[0], name))
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(dirs[1], name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a, b) {
			t.Errorf("%s differs from run to run", name)
		}
	}
	img, err := tarball.ImageFromPath(filepath.Join(dirs[0], "demo.tar"), nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if got := cfg.Config.Entrypoint; len(got) != 1 || got[0] != "/bin/demo" || len(cfg.RootFS.DiffIDs) != 2 {
		t.Errorf("demo: entrypoint %v, %d layers", got, len(cfg.RootFS.DiffIDs))
	}
}

// The pause program needs a few pages and no library, and SIGTERM ends it with
// success.
func TestPauseProgram(t *testing.T) {
	work := t.TempDir()
	bin, err := compilePause(work)
	if err != nil {
		t.Fatal(err)
	}
	if len(bin) > 16<<10 {
		t.Errorf("pause has %d bytes", len(bin))
	}
	cmd := exec.Command(filepath.Join(work, "pause"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	proc := fmt.Sprintf("/proc/%d/status", cmd.Process.Pid)
	for deadline := time.Now().Add(10 * time.Second); ; runtime.Gosched() {
		status, err := os.ReadFile(proc)
		if err != nil {
			t.Fatal(err)
		}
		if regexp.MustCompile(`State:\s+S`).Match(status) { // it waits for signals now
			if m := regexp.MustCompile(`VmRSS:\s+(\d{3,}) kB`).Find(status); m != nil {
				t.Errorf("pause is too fat: %s", m)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("it never came to rest:\n%s", status)
		}
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
}

func TestFindBusybox(t *testing.T) {
	text := filepath.Join(t.TempDir(), "busybox")
	if err := os.WriteFile(text, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if got, err := findBusybox("/nonexistent", text); err == nil || !strings.Contains(err.Error(), "busybox-static") {
		t.Errorf("got %q, %v", got, err)
	}
}

// As PID 1 of a PID namespace it reaps orphans, and ends on SIGTERM there too.
func TestPauseReaps(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("root is needed")
		}
		t.Skip("root is needed")
	}
	work := t.TempDir()
	if _, err := compilePause(work); err != nil {
		t.Fatal(err)
	}
	pause := exec.Command(filepath.Join(work, "pause"))
	pause.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	if err := pause.Start(); err != nil {
		t.Fatal(err)
	}
	defer pause.Process.Kill()
	hold, release, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer release.Close()
	enter := exec.Command("nsenter", "-t", strconv.Itoa(pause.Process.Pid), "-p", "sh", "-c", "cat <&3 >/dev/null 2>&1 & exit 0")
	enter.ExtraFiles = []*os.File{hold}
	if out, err := enter.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	hold.Close()
	children := func(want int) {
		t.Helper()
		file := fmt.Sprintf("/proc/%d/task/%[1]d/children", pause.Process.Pid)
		for deadline := time.Now().Add(10 * time.Second); ; runtime.Gosched() {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if len(strings.Fields(string(raw))) == want {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("children of pause: %q, want %d", raw, want)
			}
		}
	}
	children(1)
	release.Close() // the orphan ends
	children(0)
	if err := pause.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := pause.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
}
