// Package netns gives a test its own network: Run repeats the test in a child
// process that lives in a new network and mount namespace, New makes further
// namespaces that play hosts and pods, and Join links two of them with a
// veth. The machine's own network is never touched, and everything is gone
// when the test's process is. For tests only; it decides nothing.
package netns

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// childEnv names, inside the child process, the test that it repeats.
const childEnv = "PINNACE_NETNS_TEST"

// Run runs fn in a process of its own whose network namespace holds nothing
// but lo, up, and whose mounts are private. It must be a test's first call;
// what stands before it runs twice. Without root the test is skipped, and
// fails under CI.
func Run(t *testing.T, fn func(t *testing.T)) {
	t.Helper()
	if os.Getenv(childEnv) == t.Name() {
		loopbackUp(t)
		fn(t)
		return
	}
	NeedRoot(t)
	args := []string{"-test.run=" + exactly(t.Name()), "-test.v=true", "-test.count=1"}
	if deadline, ok := t.Deadline(); ok {
		args = append(args, "-test.timeout="+time.Until(deadline).Round(time.Second).String())
	}
	if testing.Short() {
		args = append(args, "-test.short")
	}
	out, err := repeat(t, args)
	if err != nil {
		t.Fatalf("in its own namespace: %v\n%s", err, out)
	}
	if !bytes.Contains(out, []byte("--- PASS: "+t.Name()+" ")) {
		if bytes.Contains(out, []byte("--- SKIP: "+t.Name()+" ")) {
			t.Skipf("in its own namespace:\n%s", out)
		}
		t.Fatalf("did not run in its own namespace:\n%s", out)
	}
	if testing.Verbose() {
		t.Logf("in its own namespace:\n%s", out)
	}
}

// Bench is Run for a benchmark; the child's own figures are logged, since
// they cannot be handed to b.
func Bench(b *testing.B, fn func(b *testing.B)) {
	b.Helper()
	if os.Getenv(childEnv) == b.Name() {
		loopbackUp(b)
		b.ResetTimer()
		fn(b)
		return
	}
	if b.N > 1 {
		return // the child chooses its own N
	}
	NeedRoot(b)
	args := []string{"-test.run=^$", "-test.bench=" + exactly(b.Name())}
	for _, name := range []string{"benchtime", "benchmem"} {
		if f := flag.Lookup("test." + name); f != nil {
			args = append(args, "-test."+name+"="+f.Value.String())
		}
	}
	out, err := repeat(b, args)
	if err != nil {
		b.Fatalf("in its own namespace: %v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "Benchmark") {
			b.Log(strings.TrimSpace(line))
		}
	}
}

// NeedRoot skips a test that needs root; under CI it fails instead.
func NeedRoot(tb testing.TB) {
	tb.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") != "" {
		tb.Fatal("needs root, and CI promises it")
	}
	tb.Skip("needs root")
}

// repeat runs this test binary again in new namespaces. The child dies with
// its parent: the thread that started it waits for it.
func repeat(tb testing.TB, args []string) ([]byte, error) {
	self, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	runtime.LockOSThread() // Pdeathsig looks at the thread
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(context.Background(), self, args...)
	cmd.Env = append(os.Environ(), childEnv+"="+tb.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Unshareflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, // Go makes the mounts private
		Pdeathsig:    syscall.SIGKILL,
	}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) {
		return out, fmt.Errorf("make namespaces: %w", err)
	}
	return out, err
}

func exactly(name string) string {
	parts := strings.Split(name, "/")
	for i, p := range parts {
		parts[i] = "^" + regexp.QuoteMeta(p) + "$"
	}
	return strings.Join(parts, "/")
}

func loopbackUp(tb testing.TB) {
	tb.Helper()
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		tb.Fatal(err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		tb.Fatal(err)
	}
}
