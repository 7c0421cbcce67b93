package agentproc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"pinnace/cri"
	"pinnace/node"
	"pinnace/testenv/runtime"
)

// Node is one agent's folders and its process, when it runs.
type Node struct {
	Dir, Root, Run, Manifests string
	Instance                  string
	Endpoint                  string   // of the runtime that it uses
	Args                      []string // further flags for the agent

	disk   bool // Root is a file system of its own
	agent  *exec.Cmd
	before baseline
	client *cri.Client
	raw    runtimeapi.RuntimeServiceClient // for what cri leaves out
}

// Options change what New prepares.
type Options struct {
	Endpoint string // of a runtime that runs already; its own without
	Direct   string // where the test itself reaches that runtime
	Disk     string // size of a file system of its own for --root, "96m"
}

// New prepares folders and images for an agent and starts nothing. When the
// test ends, everything of it is cleaned away and proven to be gone; when the
// test's process dies before, a guard cleans up.
func New(tb testing.TB, o Options) *Node {
	tb.Helper()
	dir, err := os.MkdirTemp("/tmp", "pn-") // short: a socket's path has 108 bytes
	if err != nil {
		tb.Fatal(err)
	}
	n := &Node{
		Dir: dir, Root: filepath.Join(dir, "root"), Run: filepath.Join(dir, "run"),
		Manifests: filepath.Join(dir, "manifests"),
	}
	n.Instance = (&node.Config{Root: n.Root}).Instance()
	if o.Endpoint != "" {
		n.Args, n.Endpoint = []string{"--cri-endpoint", o.Endpoint, "--network", "pinnace"}, o.Direct
	} else {
		n.Endpoint = "unix://" + filepath.Join(n.Run, "containerd", "containerd.sock")
	}
	for _, dir := range []string{n.Manifests, filepath.Join(n.Root, "images")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			tb.Fatal(err)
		}
	}
	n.before = look(tb)
	guard(tb, n)
	tb.Cleanup(func() { n.end(tb) })
	if o.Disk != "" {
		n.mountRoot(tb, o.Disk)
	}
	if o.Endpoint == "" {
		n.AddImages(tb)
	}
	return n
}

func (n *Node) mountRoot(tb testing.TB, size string) {
	tb.Helper()
	if err := unix.Mount("disk", n.Root, "tmpfs", 0, "size="+size); err != nil {
		tb.Fatalf("mount a small disk: %v", err)
	}
	n.disk = true
	if err := os.Mkdir(filepath.Join(n.Root, "images"), 0o755); err != nil {
		tb.Fatal(err)
	}
}

// AddImages puts the pause and demo images where the agent loads them from.
func (n *Node) AddImages(tb testing.TB) {
	tb.Helper()
	from := runtime.Archives(tb)
	for _, name := range []string{"pause.tar", "demo.tar"} {
		text, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			tb.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(n.Root, "images", name), text, 0o644); err != nil {
			tb.Fatal(err)
		}
	}
}

// args are the flags that every command of this node needs.
func (n *Node) args(verb string) []string {
	return append([]string{verb, "--root", n.Root, "--run", n.Run, "--manifests", n.Manifests, "--node-name", "testnode"}, n.Args...)
}

func (n *Node) command(ctx context.Context, verb string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, binary("pinnace"), n.args(verb)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if other := os.Getenv("PINNACE_TEST_CONTAINERD"); other != "" {
		cmd.Env = append(os.Environ(), "PATH="+other+":"+os.Getenv("PATH"))
	}
	return cmd
}

// LogFile is what the agents have written so far.
func (n *Node) LogFile() string { return filepath.Join(n.Dir, "agent.log") }

// Launch starts an agent and does not wait for it.
func (n *Node) Launch(tb testing.TB) {
	tb.Helper()
	log, err := os.OpenFile(n.LogFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		tb.Fatal(err)
	}
	defer log.Close()
	fmt.Fprintf(log, "--- %s\n", time.Now().Format(time.StampMicro))
	cmd := n.command(context.Background(), "agent")
	if os.Getenv("PINNACE_TEST_DEBUG") != "" {
		cmd.Args = append(cmd.Args, "--log-level", "debug")
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	n.agent = cmd
}

// Start starts an agent and returns when it answers.
func (n *Node) Start(tb testing.TB) {
	tb.Helper()
	n.Launch(tb)
	n.Await(tb, "the agent answers", func(node.Report) error { return nil })
}

// PID is the agent's.
func (n *Node) PID() int { return n.agent.Process.Pid }

// Signal sends the agent a signal; one that has ended is fine.
func (n *Node) Signal(tb testing.TB, s os.Signal) {
	tb.Helper()
	if err := n.agent.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		tb.Fatal(err)
	}
}

// Wait waits for the agent's end.
func (n *Node) Wait() error {
	if n.agent == nil {
		return nil
	}
	err := n.agent.Wait()
	n.agent = nil
	return err
}

// Kill ends the agent with SIGKILL and returns when it is gone.
func (n *Node) Kill(tb testing.TB) {
	tb.Helper()
	if n.agent == nil {
		return
	}
	n.Signal(tb, syscall.SIGKILL)
	_ = n.Wait() // it was killed: that is what it says
}

// Stop tells the agent to leave, as an operator does, and asserts that it
// does so in good order.
func (n *Node) Stop(tb testing.TB) {
	tb.Helper()
	n.Signal(tb, syscall.SIGTERM)
	if err := n.Wait(); err != nil {
		tb.Errorf("the agent left with %v", err)
	}
}

// Client speaks to the node's runtime.
func (n *Node) Client(tb testing.TB) *cri.Client {
	tb.Helper()
	if n.client == nil {
		c, err := cri.Dial(n.Endpoint)
		if err != nil {
			tb.Fatal(err)
		}
		n.client = c
		tb.Cleanup(func() { c.Close() })
	}
	return n.client
}

// Raw speaks to the node's runtime in its own words.
func (n *Node) Raw(tb testing.TB) runtimeapi.RuntimeServiceClient {
	tb.Helper()
	if n.raw == nil {
		conn, err := grpc.NewClient(n.Endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(func() { conn.Close() })
		n.raw = runtimeapi.NewRuntimeServiceClient(conn)
	}
	return n.raw
}

// PIDOf is a container's first process, seen from the host; 0 without one.
func (n *Node) PIDOf(tb testing.TB, id string) int {
	tb.Helper()
	resp, err := n.Raw(tb).ContainerStatus(tb.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: id, Verbose: true})
	if err != nil {
		tb.Fatal(err)
	}
	var info struct {
		PID int `json:"pid"`
	}
	if err := json.Unmarshal([]byte(resp.GetInfo()["info"]), &info); err != nil {
		tb.Fatal(err)
	}
	return info.PID
}

// end cleans up with the product's own command and proves that all is gone.
func (n *Node) end(tb testing.TB) {
	if tb.Failed() {
		n.dump(tb)
	}
	if n.agent != nil {
		_ = n.agent.Process.Kill()
		_ = n.Wait()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if out, err := n.command(ctx, "cleanup").CombinedOutput(); err != nil {
		tb.Errorf("pinnace cleanup: %v: %s", err, out)
	}
	if n.disk {
		if err := unix.Unmount(n.Root, 0); err != nil {
			tb.Errorf("unmount the node's disk: %v", err)
		}
	}
	n.before.verify(tb, n)
	if err := os.RemoveAll(n.Dir); err != nil {
		tb.Error(err)
	}
}

// dump shows the end of the agent's log and its status after a failure.
func (n *Node) dump(tb testing.TB) {
	if n.agent != nil {
		if r, err := n.Status(); err == nil {
			tb.Logf("status:\n%s", describe(r))
		}
	}
	f, err := os.Open(n.LogFile())
	if err != nil {
		return
	}
	defer f.Close()
	text, _ := io.ReadAll(f)
	const most = 6 << 10
	tb.Logf("the agent's log ends with:\n%s", strings.TrimSpace(string(text[max(0, len(text)-most):])))
	if keep := os.Getenv("PINNACE_TEST_KEEP"); keep != "" {
		n.Keep(tb, keep)
	}
}

// Keep copies the node's logs into a folder.
func (n *Node) Keep(tb testing.TB, dir string) {
	tb.Helper()
	for from, suffix := range map[string]string{n.LogFile(): ".log", filepath.Join(n.Root, "containerd", "containerd.log"): ".containerd.log"} {
		if text, err := os.ReadFile(from); err == nil {
			err = os.WriteFile(filepath.Join(dir, filepath.Base(n.Dir)+suffix), text, 0o644)
			tb.Logf("kept %s, %v", from, err)
		}
	}
}
