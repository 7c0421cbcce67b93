package network

import (
	"errors"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"pinnace/testenv/netns"
)

// TestTraffic sends real connections every way that docs/datapath.md draws,
// both families, on a host whose FORWARD chain drops.
func TestTraffic(t *testing.T) {
	netns.Run(t, func(t *testing.T) {
		outside := cable(t)
		here := netns.Here(t)
		run(t, "iptables", "-P", "FORWARD", "DROP")
		run(t, "ip6tables", "-P", "FORWARD", "DROP")
		n, _ := serve(t, testConfig(t))
		one, two := netns.New(t, "one"), netns.New(t, "two")
		oneAddrs, twoAddrs := add(t, n, "sandbox-one", one), add(t, n, "sandbox-two", two)
		for i, p := range dual() {
			world := parse("192.0.2.1/32", "2001:db8::1/128")[i].Addr()
			uplink := parse("192.0.2.2/32", "2001:db8::2/128")[i].Addr()
			pod, other, self := oneAddrs[i], twoAddrs[i], nodeAddr(p)
			port := func(a netip.Addr) netip.AddrPort { return netip.AddrPortFrom(a, 8080) }
			echo(t, outside, port(world))
			echo(t, one, port(pod))
			echo(t, two, port(other))
			echo(t, here, port(self))
			echo(t, here, port(uplink))
			for _, c := range []struct {
				name string
				from *netns.Host
				to   netip.Addr
				want netip.Addr
			}{
				{"pod to pod", one, other, pod},
				{"pod to itself", one, pod, pod},
				{"pod to node address", one, self, pod},
				{"pod to uplink address", one, uplink, pod},
				{"pod to outside", one, world, uplink},
				{"host to pod", here, pod, self},
			} {
				if got, err := seenAs(c.from, port(c.to)); err != nil || got != c.want.String() {
					t.Errorf("%s: %s seen as %q (%v), want %s", c.name, c.to, got, err, c.want)
				}
			}
			// Refused by the route, not left to time out or to leave the node.
			dead := other.Next().Next()
			for _, from := range []*netns.Host{one, here} {
				_, err := seenAs(from, port(dead))
				if !errors.Is(err, syscall.EHOSTUNREACH) && !errors.Is(err, syscall.ENETUNREACH) {
					t.Errorf("%s to an address of no pod: %v", from.Name, err)
				}
			}
		}
	})
}

// TestBareNode has no address but lo's: the host still reaches its pods.
func TestBareNode(t *testing.T) {
	netns.Run(t, func(t *testing.T) {
		n, _ := serve(t, testConfig(t))
		pod := netns.New(t, "pod")
		for i, a := range add(t, n, "sandbox", pod) {
			at := netip.AddrPortFrom(a, 8080)
			echo(t, pod, at)
			if got, err := seenAs(netns.Here(t), at); err != nil || got != nodeAddr(dual()[i]).String() {
				t.Errorf("%s saw the host as %q, %v", a, got, err)
			}
		}
	})
}

// TestPodSide is what a pod finds in its namespace.
func TestPodSide(t *testing.T) {
	netns.Run(t, func(t *testing.T) {
		cable(t)
		n, _ := serve(t, testConfig(t))
		pod := netns.New(t, "pod")
		add(t, n, "sandbox", pod)
		link, err := pod.Links(t).LinkByName("eth0")
		if err != nil {
			t.Fatal(err)
		}
		if mtu := link.Attrs().MTU; mtu != 1400 {
			t.Errorf("MTU %d, want the default route's 1400", mtu)
		}
		got := map[string]string{}
		err = pod.Do(func() error {
			for _, key := range []string{"eth0/accept_ra", "eth0/disable_ipv6"} {
				got[key] = sysctlValue(t, "ipv6/conf/"+key)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for key, value := range got {
			if value != "0" {
				t.Errorf("%s is %s in the pod", key, value)
			}
		}
		if v := sysctlValue(t, "ipv6/conf/"+linkName(testInstance, "sandbox")+"/accept_ra"); v != "0" {
			t.Errorf("accept_ra is %s on the host side", v)
		}
		if out := run(t, "ip", "-6", "addr", "show"); strings.Contains(out, "fd85") && strings.Contains(out, "tentative scope global") {
			t.Errorf("an address waits for duplicate detection:\n%s", out)
		}
	})
}

// TestOneFamily leaves the other family alone.
func TestOneFamily(t *testing.T) {
	netns.Run(t, func(t *testing.T) {
		cfg := testConfig(t)
		cfg.Prefixes = cfg.Prefixes[:1]
		n, _ := serve(t, cfg)
		if addrs := add(t, n, "sandbox", netns.New(t, "pod")); len(addrs) != 1 {
			t.Errorf("leased %v, want one address", addrs)
		}
		if v := sysctlValue(t, "ipv6/conf/all/forwarding"); v != "0" {
			t.Error("IPv6 forwarding is on without an IPv6 prefix")
		}
		if out := run(t, "ip6tables-save"); strings.Contains(out, "PIN-") {
			t.Errorf("IPv6 rules without an IPv6 prefix:\n%s", out)
		}
	})
}
