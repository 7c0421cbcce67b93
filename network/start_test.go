package network

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pinnace/network/lease"
	"pinnace/testenv/netns"
)

// TestStartTwice: the second start changes nothing and says nothing.
func TestStartTwice(t *testing.T) {
	netns.Run(t, func(t *testing.T) {
		cfg := testConfig(t)
		var log bytes.Buffer
		cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
		n, stop := serve(t, cfg)
		add(t, n, "sandbox", netns.New(t, "pod"))
		first := log.String()
		for _, want := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "tool=iptables", "tool=ip6tables"} {
			if strings.Count(first, want) != 1 {
				t.Errorf("the first start told %d times of %s:\n%s", strings.Count(first, want), want, first)
			}
		}
		before := kernel(t)
		log.Reset()
		if err := n.Heal(t.Context()); err != nil {
			t.Error(err)
		}
		stop()
		serve(t, cfg)
		if diff := difference(before, kernel(t)); diff != "" || log.Len() > 0 {
			t.Errorf("changed:\n%s\nand said:\n%s", diff, &log)
		}
	})
}

// TestHeal puts back what others took away, pods' routes included.
func TestHeal(t *testing.T) {
	netns.Run(t, func(t *testing.T) {
		n, _ := serve(t, testConfig(t))
		add(t, n, "sandbox", netns.New(t, "pod"))
		before := kernel(t)
		for _, cmd := range []string{
			"ip route flush proto 112", "ip -6 route flush proto 112", "ip addr del 10.85.0.1/32 dev lo", "ip addr del fd85::1/128 dev lo",
			"iptables -t nat -F", "ip6tables -F FORWARD", "ip neigh flush nud permanent",
		} {
			args := strings.Fields(cmd)
			run(t, args[0], args[1:]...)
			if err := n.Heal(t.Context()); err != nil {
				t.Fatal(err)
			}
			if diff := difference(before, kernel(t)); diff != "" {
				t.Errorf("after %s:\n%s", cmd, diff)
			}
		}
	})
}

// TestCollision names both sides and the flag; nothing is changed.
func TestCollision(t *testing.T) {
	netns.Run(t, func(t *testing.T) {
		cable(t)
		for setup, want := range map[string]string{
			"addr add 10.85.1.7/24 dev up0":                      "pod prefix 10.85.0.0/23 collides with address 10.85.1.7/24 of up0: choose another with --pod-cidr",
			"addr add 10.85.0.1/32 dev lo":                       "collides with address 10.85.0.1/32 of lo",
			"addr add 10.85.0.1/32 dev lo label lo:other":        "collides with address 10.85.0.1/32 of lo",
			"addr add fd85::9/64 dev up0 nodad":                  "pod prefix fd85::/64 collides with address fd85::9/64 of up0",
			"route add 10.85.1.0/25 via 192.0.2.1":               "pod prefix 10.85.0.0/23 collides with route 10.85.1.0/25 of up0",
			"route add 10.85.0.0/23 via 192.0.2.1":               "collides with route 10.85.0.0/23",
			"route add 10.80.0.0/12 dev up0":                     "collides with route 10.80.0.0/12",
			"route add unreachable 10.85.0.0/24":                 "collides with route 10.85.0.0/24",
			"route add 10.0.0.0/8 via 192.0.2.1":                 "", // the rest of the world, like the default route
			"route add 0.0.0.0/1 via 192.0.2.1":                  "", // how VPNs write a default route
			"route add fd85:0:0:1::/64 via 2001:db8::1 dev up0":  "", // a neighbour
			"route add 10.86.0.0/16 via 192.0.2.1 metric 5":      "",
			"route add blackhole 10.85.0.0/16 proto 112":         "", // ours, for the cluster
			"route add 10.85.0.77/32 via 192.0.2.1 proto static": "collides with route 10.85.0.77/32",
		} {
			run(t, "ip", strings.Fields(setup)...)
			before := kernel(t)
			n, err := New(testConfig(t))
			if err != nil {
				t.Fatal(err)
			}
			h := netns.Here(t).Links(t)
			err = nil
			for _, p := range n.cfg.Prefixes {
				if err == nil {
					err = n.collide(h, p, false)
				}
			}
			if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("after ip %s: %v, want %q", setup, err, want)
			}
			if want != "" {
				if err := n.Start(t.Context()); err == nil {
					t.Errorf("started after ip %s", setup)
				}
				if diff := difference(before, kernel(t)); diff != "" {
					t.Errorf("a refused start changed:\n%s", diff)
				}
			}
			undo := strings.Replace(setup, " add ", " del ", 1)
			undo = strings.TrimSuffix(undo, " nodad")
			undo, _, _ = strings.Cut(undo, " label")
			run(t, "ip", strings.Fields(undo)...)
		}
	})
}

// TestOtherPrefix: a node that starts with another prefix keeps nothing of
// the old one but the pods that run.
func TestOtherPrefix(t *testing.T) {
	netns.Run(t, func(t *testing.T) {
		cfg := testConfig(t)
		n, stop := serve(t, cfg)
		old := netns.New(t, "old")
		addrs := add(t, n, "old", old)
		stop()
		cfg.Prefixes = parse("10.99.0.0/24")
		n, _ = serve(t, cfg)
		got := kernel(t)
		for _, gone := range []string{"10.85.0.1", "10.85.0.0/23", "fd85::1 ", "fd85::/64", "ip6tables -N PIN"} {
			if strings.Contains(got, gone) {
				t.Errorf("%s is still there:\n%s", gone, got)
			}
		}
		reaches(t, old, addrs[:1])
		if next := add(t, n, "new", netns.New(t, "new")); fmt.Sprint(next) != "[10.99.0.2]" {
			t.Errorf("a new pod got %v", next)
		}
	})
}

// TestAdvertisedRoute: a host that lives on router advertisements goes on
// listening to them when forwarding is turned on.
func TestAdvertisedRoute(t *testing.T) {
	netns.Run(t, func(t *testing.T) {
		cable(t)
		run(t, "ip", "-6", "route", "replace", "default", "via", "fe80::99", "dev", "up0", "proto", "ra")
		serve(t, testConfig(t))
		if v := sysctlValue(t, "ipv6/conf/up0/accept_ra"); v != "2" {
			t.Errorf("accept_ra of the uplink is %s", v)
		}
		if v := sysctlValue(t, "ipv6/conf/lo/accept_ra"); v == "2" {
			t.Error("accept_ra changed where no route was learned")
		}
	})
}

// TestRestart: leases come back, a dead agent's quarantine still holds, the
// wall clock has no say.
func TestRestart(t *testing.T) {
	netns.Run(t, func(t *testing.T) {
		cfg := testConfig(t)
		cfg.Prefixes = parse("10.85.0.0/29") // .2 to .6
		n, stop := serve(t, cfg)
		pod := netns.New(t, "pod")
		addrs := add(t, n, "lives", pod)
		for _, id := range []string{"dies1", "dies2"} {
			add(t, n, id, netns.New(t, id))
			if err := n.detach(id); err != nil {
				t.Fatal(err)
			}
		}
		stop()
		n, stop = serve(t, cfg)
		reaches(t, pod, addrs)
		if held := n.held(); len(held) != 1 || held[0].Sandbox != "lives" {
			t.Errorf("after the restart: %v", held)
		}
		for i, want := range []string{"[10.85.0.5]", "[10.85.0.6]", "[10.85.0.3]", "[10.85.0.4]"} {
			if got := add(t, n, fmt.Sprint("next", i), netns.New(t, "next")); fmt.Sprint(got) != want {
				t.Errorf("pod %d got %v, want %s: the resting ones come last", i, got, want)
			}
		}
		stop()
	})
}

// TestPurge removes the file of a lease that has rested.
func TestPurge(t *testing.T) {
	netns.Run(t, func(t *testing.T) {
		cfg := testConfig(t)
		n, _ := serve(t, cfg)
		add(t, n, "dies", netns.New(t, "dies"))
		if err := n.detach("dies"); err != nil {
			t.Fatal(err)
		}
		for _, after := range []time.Duration{0, lease.Quarantine} {
			later(n, after)
			add(t, n, "next"+after.String(), netns.New(t, "next"))
			_, err := os.Stat(filepath.Join(cfg.RunDir, leaseDir, "dies"))
			if resting := after == 0; resting != (err == nil) {
				t.Errorf("%v after the release: resting %v, file: %v", after, resting, err)
			}
		}
	})
}

// TestLostRun: RUN is gone while pods go on. Their addresses are read from
// the host's routes and not given away.
func TestLostRun(t *testing.T) {
	netns.Run(t, func(t *testing.T) {
		cfg := testConfig(t)
		n, stop := serve(t, cfg)
		pod := netns.New(t, "pod")
		addrs := add(t, n, "lives", pod)
		stop()
		before := kernel(t)
		if err := os.RemoveAll(cfg.RunDir); err != nil {
			t.Fatal(err)
		}
		n, _ = serve(t, cfg)
		if err := n.Reconcile(t.Context(), []string{"lives"}); err != nil {
			t.Fatal(err)
		}
		if held := n.held(); len(held) != 1 || fmt.Sprint(held[0].Addresses) != fmt.Sprint(addrs) {
			t.Errorf("adopted %v, want %v", held, addrs)
		}
		if diff := difference(before, kernel(t)); diff != "" {
			t.Errorf("changed:\n%s", diff)
		}
		if next := add(t, n, "next", netns.New(t, "next")); next[0] == addrs[0] || next[1] == addrs[1] {
			t.Errorf("gave %v away", next)
		}
		reaches(t, pod, addrs)
	})
}

// TestReconcile keeps the living, the young, and what is not ours.
func TestReconcile(t *testing.T) {
	netns.Run(t, func(t *testing.T) {
		n, _ := serve(t, testConfig(t))
		// Three that are not ours, each nearly.
		run(t, "ip", "link", "add", "p7f3a2c01234567", "type", "bridge")
		run(t, "ip", "link", "add", "p7f3a2cabcdef01", "type", "veth", "peer", "name", "theirs")
		run(t, "ip", "link", "add", "other", "type", "veth", "peer", "name", "other2")
		run(t, "ip", "link", "set", "other", "alias", "pinnace p7f3a2d sandbox")
		before := kernel(t)
		live := netns.New(t, "live")
		addrs := add(t, n, "live", live)
		add(t, n, "dead", netns.New(t, "dead"))
		later(n, 2*settle)
		young := netns.New(t, "young")
		youngAddrs := add(t, n, "young", young)
		if err := n.Reconcile(t.Context(), []string{"live", "unknown"}); err != nil {
			t.Fatal(err)
		}
		reaches(t, live, addrs)
		reaches(t, young, youngAddrs)
		if held := n.held(); len(held) != 2 {
			t.Errorf("leases %v, want live and young", held)
		}
		later(n, 2*settle)
		if err := n.Reconcile(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if diff := difference(before, kernel(t)); diff != "" {
			t.Errorf("left or taken too much:\n%s", diff)
		}
	})
}

// TestForgottenNamespace: a runtime was killed while it started a sandbox.
func TestForgottenNamespace(t *testing.T) {
	netns.Run(t, func(t *testing.T) {
		n, _ := serve(t, testConfig(t))
		before := kernel(t)
		path := filepath.Join(t.TempDir(), "cni-1")
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		pod := netns.New(t, "pod")
		if err := unix.Mount(pod.Path(), path, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		a := begin(n, "dead", pod)
		a.netns = path
		if err := runSteps(t.Context(), a.steps()); err != nil {
			t.Fatal(err)
		}
		_ = a.closeHandles()
		later(n, 2*settle)
		if err := n.Reconcile(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("the namespace is still there: %v", err)
		}
		if diff := difference(before, kernel(t)); diff != "" {
			t.Errorf("left behind:\n%s", diff)
		}
	})
}

// TestCleanup removes exactly ours, twice, also when RUN was lost.
func TestCleanup(t *testing.T) {
	netns.Run(t, func(t *testing.T) {
		cable(t)
		run(t, "ip", "route", "add", "10.200.0.0/16", "via", "192.0.2.1", "proto", "112")
		run(t, "ip", "addr", "add", "10.201.0.1/32", "dev", "lo", "label", "lo:other")
		run(t, "iptables", "-P", "FORWARD", "DROP")
		before := kernel(t)
		for _, lost := range []bool{false, true} {
			cfg := testConfig(t)
			n, stop := serve(t, cfg)
			add(t, n, "sandbox", netns.New(t, "pod"))
			stop()
			if lost {
				if err := os.RemoveAll(cfg.RunDir); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 {
				if err := Cleanup(cfg); err != nil {
					t.Fatal(err)
				}
			}
			if diff := difference(before, kernel(t)); diff != "" {
				t.Errorf("RUN lost %v: left or taken too much:\n%s", lost, diff)
			}
			if files, err := os.ReadDir(cfg.RunDir); !lost && (err != nil || len(files) != 0) {
				t.Errorf("left files %v, %v", files, err)
			}
		}
	})
}

// TestCleanupOfAnother: an instance that never started here takes nothing
// from the one that did.
func TestCleanupOfAnother(t *testing.T) {
	netns.Run(t, func(t *testing.T) {
		n, _ := serve(t, testConfig(t))
		add(t, n, "sandbox", netns.New(t, "pod"))
		before := kernel(t)
		other := testConfig(t)
		other.Instance = "other"
		if err := Cleanup(other); err != nil {
			t.Fatal(err)
		}
		if diff := difference(before, kernel(t)); diff != "" {
			t.Errorf("took:\n%s", diff)
		}
	})
}

func TestConfig(t *testing.T) {
	good := Config{Instance: "p1", RunDir: "/run/x", Prefixes: dual()}
	for want, change := range map[string]func(*Config){
		`instance "P-1"`:          func(c *Config) { c.Instance = "P-1" },
		"must be an absolute":     func(c *Config) { c.RunDir = "run" },
		"no pod prefix":           func(c *Config) { c.Prefixes = nil },
		"of one family":           func(c *Config) { c.Prefixes = parse("10.0.0.0/24", "10.1.0.0/24") },
		"too small":               func(c *Config) { c.Prefixes = parse("10.0.0.0/31") },
		"meant may be 10.0.0.0/2": func(c *Config) { c.Prefixes = parse("10.0.0.7/24") },
		"not a prefix":            func(c *Config) { c.Prefixes = []netip.Prefix{{}} },
		"can be routed to a pod":  func(c *Config) { c.Prefixes = parse("127.0.0.0/8") },
	} {
		c := good
		change(&c)
		if err := c.validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if err := good.validate(); err != nil {
		t.Error(err)
	}
}
