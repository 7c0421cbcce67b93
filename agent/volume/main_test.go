package volume

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

const inside = "PINNACE_TEST_MOUNT_NAMESPACE"

// TestMain runs the tests in a mount namespace of their own: whatever they
// mount is gone with the process.
func TestMain(m *testing.M) {
	if os.Geteuid() != 0 || os.Getenv(inside) != "" {
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "tests in their own mount namespace:", err)
		os.Exit(1)
	}
}

// needRoot skips what cannot be tried, but never on the test host.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal("needs root")
	}
	t.Skip("needs root")
}

// sharedDir is a file system of its own, shared like a host's root usually is.
func sharedDir(t *testing.T) string {
	t.Helper()
	needRoot(t)
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	mustMount(t, "tmpfs", dir, "tmpfs", 0)
	mustMount(t, "", dir, "", unix.MS_SHARED)
	t.Cleanup(func() {
		for _, at := range mountsBelow(t, dir) {
			unix.Unmount(at, unix.MNT_DETACH)
		}
	})
	return dir
}

func mustMount(t *testing.T, src, at, fs string, flags uintptr) {
	t.Helper()
	if err := unix.Mount(src, at, fs, flags, ""); err != nil {
		t.Fatalf("mount %s: %v", at, err)
	}
}

// mountsBelow lists mount points at and below dir, those below others first.
func mountsBelow(t *testing.T, dir string) []string {
	t.Helper()
	list, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, m := range list {
		out = append(out, m.Mountpoint)
	}
	slices.Sort(out)
	slices.Reverse(out)
	return out
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func wantError(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one that says %q", words)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not say %q", err, w)
		}
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
