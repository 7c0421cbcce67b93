package e2e

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"pinnace/testenv/agentproc"
	"pinnace/testenv/netns"
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if os.Geteuid() != 0 {
		return m.Run() // every test says so itself
	}
	dir, err := os.MkdirTemp("", "pinnace-bin")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	// More tests at once than there are cores: they mostly wait.
	flag.Parse()
	if err := flag.Set("test.parallel", "6"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := agentproc.Build(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// isolated runs a test in namespaces of its own, beside the others.
func isolated(t *testing.T, fn func(t *testing.T)) {
	t.Helper()
	t.Parallel()
	netns.Run(t, func(t *testing.T) {
		for _, tool := range []string{"containerd", "runc", "nft"} {
			if _, err := exec.LookPath(tool); err != nil {
				if os.Getenv("CI") != "" {
					t.Fatal(err)
				}
				t.Skip(err)
			}
		}
		forgetOthers(t)
		fn(t)
	})
}

// forgetOthers unmounts, in this private mount namespace, the network
// namespaces that others have bound: our copies would keep them alive.
func forgetOthers(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) > 4 && strings.HasPrefix(f[4], "/run/netns/") {
			if err := unix.Unmount(f[4], unix.MNT_DETACH); err != nil {
				t.Fatalf("unmount %s: %v", f[4], err)
			}
		}
	}
}
