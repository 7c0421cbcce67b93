package netns

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
)

func TestRunIsAlone(t *testing.T) {
	outside := os.Getenv("NETNS_TEST_OUTSIDE")
	if outside == "" {
		t.Setenv("NETNS_TEST_OUTSIDE", inode(t))
	}
	Run(t, func(t *testing.T) {
		if inode(t) == outside {
			t.Fatal("the child lives in its parent's network namespace")
		}
		links, err := netlink.LinkList()
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range links {
			if l.Type() == "veth" {
				t.Errorf("a fresh namespace holds the veth %s", l.Attrs().Name)
			}
		}
	})
}

func TestHostsTalk(t *testing.T) {
	Run(t, func(t *testing.T) {
		a, b := New(t, "a"), New(t, "b")
		Join(t, End{a, "eth0", prefixes("192.0.2.1/24", "2001:db8::1/64")}, End{b, "eth0", prefixes("192.0.2.2/24", "2001:db8::2/64")})
		for _, addr := range []string{"192.0.2.2", "2001:db8::2"} {
			at := netip.AddrPortFrom(netip.MustParseAddr(addr), 80)
			l := b.Listen(t, at)
			go func() {
				if c, err := l.Accept(); err == nil {
					fmt.Fprint(c, "b")
					c.Close()
				}
			}()
			c, err := a.Dial(at)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(c); err != nil || string(got) != "b" {
				t.Errorf("read %q, %v from %s", got, err, at)
			}
			c.Close()
			if c, err := Here(t).Dial(at); err == nil {
				c.Close()
				t.Errorf("the test's own namespace reaches %s", at)
			} else if !errors.Is(err, syscall.ENETUNREACH) {
				t.Errorf("dial %s from outside: %v", at, err)
			}
		}
	})
}

func inode(t *testing.T) string {
	t.Helper()
	id, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func prefixes(all ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range all {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}
