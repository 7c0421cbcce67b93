package network

import (
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pinnace/testenv/netns"
)

// withHook builds the hook once, outside, and hands it to the test inside.
func withHook(t *testing.T, fn func(t *testing.T, hook string)) {
	t.Helper()
	netns.NeedRoot(t)
	hook := os.Getenv("NETWORK_TEST_HOOK")
	if hook == "" {
		hook = buildHook(t)
		t.Setenv("NETWORK_TEST_HOOK", hook)
	}
	netns.Run(t, func(t *testing.T) { fn(t, hook) })
}

// TestHook is a pod's whole life as the runtime's calls make it: ADD, ADD
// again, DEL, DEL with an empty namespace, and what becomes of it all.
func TestHook(t *testing.T) {
	withHook(t, func(t *testing.T, hook string) {
		cfg := testConfig(t)
		n, stop := serve(t, cfg)
		conf := plugin(t, cfg.socketPath())
		before, files, routines := kernel(t), descriptors(t), runtime.NumGoroutine()
		t.Run("life", func(t *testing.T) {
			pod := netns.New(t, "pod")
			out, err := cni(t, hook, "ADD", "sandbox", pod.Path(), conf)
			if err != nil {
				t.Fatal(err, out)
			}
			checkResult(t, out, pod)
			reaches(t, pod, n.held()[0].Addresses)
			if again, err := cni(t, hook, "ADD", "sandbox", pod.Path(), conf); err != nil || again != out {
				t.Errorf("a second ADD answers %s, %v, not %s", again, err, out)
			}
			if lo, err := pod.Links(t).LinkByName("lo"); err != nil || lo.Attrs().Flags&net.FlagUp == 0 {
				t.Errorf("lo is not up: %v, %v", lo, err)
			}
			for _, ns := range []string{pod.Path(), ""} {
				if out, err := cni(t, hook, "DEL", "sandbox", ns, conf); err != nil || out != "" {
					t.Errorf("DEL answers %s, %v", out, err)
				}
			}
			if held := n.held(); len(held) != 0 {
				t.Errorf("leases after DEL: %v", held)
			}
			if err := n.detach("sandbox"); err != nil { // what the runtime does by destroying the namespace
				t.Fatal(err)
			}
			pod.Destroy()
		})
		if diff := difference(before, kernel(t)); diff != "" {
			t.Errorf("left behind:\n%s", diff)
		}
		stop()
		if got := runtime.NumGoroutine(); got > routines {
			t.Errorf("%d goroutines, %d before", got, routines)
		}
		if got := descriptors(t); got > files {
			t.Errorf("%d open files, %d before", got, files)
		}
	})
}

func checkResult(t *testing.T, out string, pod *netns.Host) {
	t.Helper()
	var res result
	if err := json.Unmarshal([]byte(out), &res); err != nil {
		t.Fatal(err, out)
	}
	if res.Version != "1.0.0" || len(res.Interfaces) != 2 || res.Interfaces[1].Name != "eth0" || res.Interfaces[1].Sandbox != pod.Path() {
		t.Errorf("result %s", out)
	}
	var got []string
	for _, ip := range res.IPs {
		got = append(got, ip.Address.String()+" "+ip.Gateway.String())
		if ip.Interface != 1 {
			t.Errorf("%s is on interface %d", ip.Address, ip.Interface)
		}
	}
	if want := []string{"10.85.0.2/32 169.254.1.1", "fd85::2/128 fe80::1"}; !slices.Equal(got, want) {
		t.Errorf("addresses %q, want %q", got, want)
	}
	link, err := pod.Links(t).LinkByName("eth0")
	if err != nil || link.Attrs().HardwareAddr.String() != res.Interfaces[1].MAC {
		t.Errorf("eth0 is %v, %v, the result says %s", link, err, res.Interfaces[1].MAC)
	}
}

// TestAgentAway: ADD asks to try again and says what to do, DEL succeeds
// soon, whether nobody listens, nobody answers, or nothing is there.
func TestAgentAway(t *testing.T) {
	withHook(t, func(t *testing.T, hook string) {
		cfg := testConfig(t)
		conf := plugin(t, cfg.socketPath())
		pod := netns.New(t, "pod")
		check := func(name string) {
			t.Helper()
			out, err := cni(t, hook, "ADD", "sandbox", pod.Path(), conf)
			var exit *exec.ExitError
			if !errors.As(err, &exit) || !strings.Contains(out, `"code":11`) || !strings.Contains(out, "start the agent") {
				t.Errorf("%s: ADD answers %s, %v", name, out, err)
			}
			checkDel(t, name, func() (string, error) { return cni(t, hook, "DEL", "sandbox", pod.Path(), conf) })
			if out, err := cni(t, hook, "STATUS", "", "", conf); err == nil || !strings.Contains(out, `"code":50`) {
				t.Errorf("%s: STATUS answers %s, %v", name, out, err)
			}
		}
		check("no socket")
		_, stop := serve(t, cfg)
		if out, err := cni(t, hook, "STATUS", "", "", conf); err != nil {
			t.Errorf("STATUS with an agent answers %s, %v", out, err)
		}
		stop()
		check("no listener")
		mute, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := mute.Start(t.Context()); err != nil { // listens, but nobody runs
			t.Fatal(err)
		}
		defer mute.listener.Close()
		checkDel(t, "no answer", func() (string, error) { return cni(t, hook, "DEL", "sandbox", pod.Path(), conf) })
	})
}

func checkDel(t *testing.T, name string, del func() (string, error)) {
	t.Helper()
	began := time.Now()
	if out, err := del(); err != nil || out != "" {
		t.Errorf("%s: DEL answers %s, %v", name, out, err)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("%s: DEL took %v", name, took)
	}
}

// TestOtherVerbs are those that the agent is not asked about.
func TestOtherVerbs(t *testing.T) {
	withHook(t, func(t *testing.T, hook string) {
		conf := plugin(t, "/nowhere")
		for _, verb := range []string{"CHECK", "GC"} {
			if out, err := cni(t, hook, verb, "sandbox", "", conf); err != nil || out != "" {
				t.Errorf("%s answers %s, %v", verb, out, err)
			}
		}
		if out, err := cni(t, hook, "VERSION", "", "", nil); err != nil || out != `{"cniVersion":"1.0.0","supportedVersions":["1.0.0"]}`+"\n" {
			t.Errorf("VERSION answers %s, %v", out, err)
		}
		loopback := t.TempDir() + "/loopback"
		if err := os.Symlink(hook, loopback); err != nil {
			t.Fatal(err)
		}
		out, err := cni(t, loopback, "ADD", "sandbox", "/run/netns/x", []byte(`{"cniVersion":"0.3.1","name":"cni-loopback","type":"loopback"}`))
		want := `{"cniVersion":"0.3.1","interfaces":[{"mac":"00:00:00:00:00:00","name":"lo","sandbox":"/run/netns/x"}]}` + "\n"
		if err != nil || out != want {
			t.Errorf("loopback answers %s, %v, want %s", out, err, want)
		}
	})
}

// TestRefusals come back as CNI errors with the server's own sentence.
func TestRefusals(t *testing.T) {
	withHook(t, func(t *testing.T, hook string) {
		cfg := testConfig(t)
		cfg.Prefixes = parse("10.85.0.0/30")
		n, _ := serve(t, cfg)
		conf := plugin(t, cfg.socketPath())
		pod := netns.New(t, "pod")
		before := kernel(t)
		for want, call := range map[string][]string{
			"the node's own network namespace": {"sandbox", "/proc/self/ns/net"},
			"not a network namespace":          {"sandbox", "/dev/null"},
			"no such file or directory":        {"sandbox", "/run/netns/none"},
			`container id \"../x\" is malfor`:  {"../x", pod.Path()},
		} {
			if out, err := cni(t, hook, "ADD", call[0], call[1], conf); err == nil || !strings.Contains(out, want) {
				t.Errorf("ADD of %v answers %s, %v; want %s", call, out, err, want)
			}
		}
		if diff := difference(before, kernel(t)); diff != "" {
			t.Errorf("refusals changed:\n%s", diff)
		}
		add(t, n, "only", netns.New(t, "only"))
		out, err := cni(t, hook, "ADD", "more", pod.Path(), conf)
		if err == nil || !strings.Contains(out, "lease address of 10.85.0.0/30: every address is in use (1): widen it with --pod-cidr or stop pods") {
			t.Errorf("ADD on a full prefix answers %s, %v", out, err)
		}
	})
}

// TestAbandoned: the runtime kills the hook while the agent works. What was
// made for nobody is gone again without a DEL.
func TestAbandoned(t *testing.T) {
	netns.Run(t, func(t *testing.T) {
		cfg := testConfig(t)
		n, stop := serve(t, cfg)
		before := kernel(t)
		pod := netns.New(t, "pod")
		raw, err := json.Marshal(request{Command: "ADD", Container: "sandbox", IfName: "eth0"})
		if err != nil {
			t.Fatal(err)
		}
		// Holding the sandbox's turn keeps the ADD waiting until the hook is
		// surely gone.
		unlock := n.busy.lock("sandbox")
		c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: cfg.socketPath(), Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := c.WriteMsgUnix(raw, unix.UnixRights(int(pod.File.Fd())), nil); err != nil {
			t.Fatal(err)
		}
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		for range time.Tick(time.Millisecond) {
			n.busy.mu.Lock()
			waiting := n.busy.locks["sandbox"].waiting
			n.busy.mu.Unlock()
			if waiting == 2 {
				break
			}
		}
		c.Close()
		unlock()
		stop() // waits for the call
		if held := n.held(); len(held) != 0 {
			t.Errorf("leases %v", held)
		}
		if _, known := n.leaseOf("sandbox"); !known {
			t.Error("the ADD was never tried")
		}
		if diff := difference(before, kernel(t)); diff != "" {
			t.Errorf("left behind:\n%s", diff)
		}
	})
}

// TestSocketMode: root alone may call.
func TestSocketMode(t *testing.T) {
	netns.Run(t, func(t *testing.T) {
		cfg := testConfig(t)
		serve(t, cfg)
		info, err := os.Stat(cfg.socketPath())
		if err != nil || info.Mode() != os.ModeSocket|0o600 {
			t.Errorf("socket is %v, %v", info.Mode(), err)
		}
	})
}

func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"command":"ADD","container":"a","netns":"/x","ifname":"eth0","config":{"a":1}}`))
	f.Add([]byte(`{"command":"DEL","container":"a"}`))
	f.Add([]byte(`{"command":"ADD","container":"../a","ifname":".."}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := parseRequest(raw)
		if err != nil {
			return
		}
		for _, name := range []string{r.Container, r.IfName} {
			if strings.ContainsAny(name, "/ \n\x00") || name == "." || name == ".." {
				t.Errorf("accepted the name %q", name)
			}
		}
		if name := linkName("p7f3a2c", r.Container); len(name) != linkNameSize {
			t.Errorf("link name %q", name)
		}
		if id, ok := sandboxOf("p7f3a2c", linkAlias("p7f3a2c", r.Container)); !ok || id != r.Container {
			t.Errorf("the alias of %q reads %q, %v", r.Container, id, ok)
		}
	})
}
