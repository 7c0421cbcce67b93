package network

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"pinnace/network/hook"
	"pinnace/testenv/netns"
)

const testInstance = "p7f3a2c"

func dual() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("10.85.0.0/23"), netip.MustParsePrefix("fd85::/64")}
}

func testConfig(t testing.TB) Config {
	t.Helper()
	dir, err := os.MkdirTemp("", "pin") // short: a socket's path is at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return Config{Instance: testInstance, RunDir: dir, Prefixes: dual(), Logger: slog.New(slog.DiscardHandler)}
}

// cable joins the node, which is this process's namespace, to a host that
// stands for the outside world and knows no way to pods.
func cable(t testing.TB) *netns.Host {
	t.Helper()
	outside := netns.New(t, "outside")
	netns.Join(t,
		netns.End{Host: netns.Here(t), Link: "up0", Addrs: parse("192.0.2.2/24", "2001:db8::2/64")},
		netns.End{Host: outside, Link: "eth0", Addrs: parse("192.0.2.1/24", "2001:db8::1/64")})
	h := netns.Here(t).Links(t)
	link, err := h.LinkByName("up0")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.LinkSetMTU(link, 1400); err != nil {
		t.Fatal(err)
	}
	netns.Default(t, netns.Here(t), netip.MustParseAddr("192.0.2.1"))
	netns.Default(t, netns.Here(t), netip.MustParseAddr("2001:db8::1"))
	return outside
}

func parse(all ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range all {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// serve starts a network and returns what stops it.
func serve(t testing.TB, cfg Config) (*Network, func()) {
	t.Helper()
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	stopped := false
	stop := func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return n, stop
}

// buildHook builds the hook as it ships.
func buildHook(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pinnace-cni")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, "pinnace/cmd/pinnace-cni")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build hook: %v\n%s", err, out)
	}
	return path
}

// cni calls the hook as a runtime does.
func cni(t testing.TB, hook, command, id, ns string, conf []byte) (string, error) {
	t.Helper()
	cmd := exec.Command(hook)
	cmd.Env = []string{"CNI_COMMAND=" + command, "CNI_CONTAINERID=" + id, "CNI_NETNS=" + ns, "CNI_IFNAME=eth0",
		"CNI_ARGS=K8S_POD_NAMESPACE=a;K8S_POD_NAME=b", "CNI_PATH=/nowhere"}
	cmd.Stdin = bytes.NewReader(conf)
	out, err := cmd.Output()
	return string(out), err
}

// plugin is the one plugin's configuration as libcni makes it of a list.
func plugin(t testing.TB, socket string) []byte {
	t.Helper()
	var list struct {
		Version string           `json:"cniVersion"`
		Name    string           `json:"name"`
		Plugins []map[string]any `json:"plugins"`
	}
	if err := json.Unmarshal(hook.Conflist(socket), &list); err != nil {
		t.Fatal(err)
	}
	p := list.Plugins[0]
	p["cniVersion"], p["name"] = list.Version, list.Name
	p["runtimeConfig"] = map[string]any{"io.kubernetes.cri.pod-annotations": map[string]string{"a": strings.Repeat("b", 200<<10)}}
	raw, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// add attaches a namespace without the hook and returns its addresses.
func add(t testing.TB, n *Network, id string, pod *netns.Host) []netip.Addr {
	t.Helper()
	unlock := n.busy.lock(id)
	defer unlock()
	a, err := n.attach(context.Background(), request{Command: "ADD", Container: id, IfName: "eth0", Netns: pod.Path(), namespace: pod.File})
	if err != nil {
		t.Fatal(err)
	}
	return a.lease.Addresses
}

// echo serves the peer's address on a host until the test ends.
func echo(t testing.TB, h *netns.Host, at netip.AddrPort) {
	t.Helper()
	l := h.Listen(t, at)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(c, c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap())
			c.Close()
		}
	}()
}

// seenAs connects and returns the address under which the other side saw it.
func seenAs(from *netns.Host, to netip.AddrPort) (string, error) {
	c, err := from.Dial(to)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return "", err
	}
	raw, err := io.ReadAll(c)
	return string(raw), err
}

func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func sysctlValue(t testing.TB, key string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(sysctlRoot, key))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(raw))
}

// operState is what a link's line says of its carrier; it follows with a
// delay of the kernel's own.
var operState = regexp.MustCompile(`NO-CARRIER,|state [A-Z]+ `)

// kernel is everything in this namespace that we could leave behind, one
// thing a line, sorted.
func kernel(t testing.TB) string {
	t.Helper()
	var lines []string
	for _, cmd := range []string{
		"ip -o link", "ip -o addr", "ip -4 route show table all", "ip -6 route show table main", "ip neigh show nud permanent",
		"iptables -t nat -S", "iptables -t filter -S", "ip6tables -t nat -S", "ip6tables -t filter -S",
	} {
		args := strings.Fields(cmd)
		for line := range strings.Lines(run(t, args[0], args[1:]...)) {
			line = operState.ReplaceAllString(strings.Join(strings.Fields(line), " "), "")
			if !strings.Contains(line, "fe80::") && !strings.Contains(line, "ff00::") && !strings.Contains(line, "anycast") {
				lines = append(lines, args[0]+" "+line) // the kernel's own come and go with a delay
			}
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// difference names the lines that only one of two states has.
func difference(before, after string) string {
	var out []string
	b, a := strings.Split(before, "\n"), strings.Split(after, "\n")
	for _, l := range b {
		if !slices.Contains(a, l) {
			out = append(out, "- "+l)
		}
	}
	for _, l := range a {
		if !slices.Contains(b, l) {
			out = append(out, "+ "+l)
		}
	}
	return strings.Join(out, "\n")
}

// descriptors counts this process's open files.
func descriptors(t testing.TB) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// begin makes an attachment as attach does, for a test that runs its steps.
func begin(n *Network, id string, pod *netns.Host) *attachment {
	return &attachment{net: n, sandbox: id, ifName: "eth0", netns: pod.Path(), file: pod.File}
}

// reaches asserts that the node reaches a pod over every address.
func reaches(t testing.TB, pod *netns.Host, addrs []netip.Addr) {
	t.Helper()
	for _, a := range addrs {
		at := netip.AddrPortFrom(a, 9)
		l := pod.Listen(t, at)
		c, err := net.DialTimeout("tcp", at.String(), 2*time.Second)
		if err != nil {
			t.Errorf("%s: %v", pod.Name, err)
		} else {
			c.Close()
		}
		l.Close()
	}
}

// later moves a network's clock.
func later(n *Network, by time.Duration) {
	clock := n.clock
	n.clock = func() (time.Duration, error) {
		now, err := clock()
		return now + by, err
	}
}
