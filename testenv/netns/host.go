package netns

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Host is a network namespace that plays a machine or a pod. It lives until
// the test ends, or until Destroy.
type Host struct {
	Name string
	File *os.File
}

// New makes an empty namespace; lo is down, as a runtime hands it out.
func New(tb testing.TB, name string) *Host {
	tb.Helper()
	h := &Host{Name: name}
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make network namespace: %w", err)
		}
		var err error
		h.File, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	if err != nil {
		tb.Fatalf("make host %s: %v", name, err)
	}
	tb.Cleanup(func() { h.File.Close() })
	return h
}

// Here is the namespace in which the test's process lives.
func Here(tb testing.TB) *Host {
	tb.Helper()
	f, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { f.Close() })
	return &Host{Name: "here", File: f}
}

// Path names the namespace for other processes while this one lives.
func (h *Host) Path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), h.File.Fd()) }

// Destroy lets go of the namespace. The kernel takes it and its links down
// when nothing else holds it, some time later.
func (h *Host) Destroy() { h.File.Close() }

// Do runs fn on a thread inside the namespace. Sockets that fn opens itself
// belong there; goroutines that it starts do not.
func (h *Host) Do(fn func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(h.File.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter host %s: %w", h.Name, err)
		}
		return fn()
	})
}

// onThread runs fn on a thread of its own and brings the thread home. It must
// not simply die in another namespace: the main thread cannot die, and
// /proc/self would show its namespace from then on.
func onThread(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			done <- fmt.Errorf("open own network namespace: %w", err)
			return
		}
		defer unix.Close(home)
		err = fn()
		if unix.Setns(home, unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// Links opens a netlink handle inside the namespace.
func (h *Host) Links(tb testing.TB) *netlink.Handle {
	tb.Helper()
	var handle *netlink.Handle
	err := h.Do(func() (err error) {
		handle, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		tb.Fatalf("look into host %s: %v", h.Name, err)
	}
	tb.Cleanup(handle.Close)
	return handle
}

// Listen opens a TCP listener inside the namespace.
func (h *Host) Listen(tb testing.TB, addr netip.AddrPort) net.Listener {
	tb.Helper()
	var l net.Listener
	err := h.Do(func() (err error) {
		l, err = net.Listen("tcp", addr.String())
		return err
	})
	if err != nil {
		tb.Fatalf("listen on host %s: %v", h.Name, err)
	}
	tb.Cleanup(func() { l.Close() })
	return l
}

// Dial connects from inside the namespace within two seconds.
func (h *Host) Dial(addr netip.AddrPort) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	var c net.Conn
	err := h.Do(func() (err error) {
		c, err = (&net.Dialer{}).DialContext(ctx, "tcp", addr.String())
		return err
	})
	return c, err
}

// End is one side of a cable.
type End struct {
	Host  *Host
	Link  string
	Addrs []netip.Prefix
}

// Join lays a cable between two hosts, with addresses, both sides up. Each
// side knows the other's addresses beforehand: the kernel may hold neighbour
// discovery back for a second after a link came up.
func Join(tb testing.TB, a, b End) {
	tb.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = a.Link
	veth := netlink.NewVeth(attrs)
	veth.PeerName = b.Link
	veth.PeerNamespace = netlink.NsFd(b.Host.File.Fd())
	if err := a.Host.Links(tb).LinkAdd(veth); err != nil {
		tb.Fatalf("join %s and %s: %v", a.Host.Name, b.Host.Name, err)
	}
	aMAC, bMAC := a.up(tb), b.up(tb)
	a.know(tb, b.Addrs, bMAC)
	b.know(tb, a.Addrs, aMAC)
}

func (e End) up(tb testing.TB) net.HardwareAddr {
	tb.Helper()
	h, link := e.find(tb)
	for _, p := range e.Addrs {
		addr := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}
		if p.Addr().Is6() {
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := h.AddrAdd(link, addr); err != nil {
			tb.Fatalf("add %s to %s on %s: %v", p, e.Link, e.Host.Name, err)
		}
	}
	if err := h.LinkSetUp(link); err != nil {
		tb.Fatalf("set %s up on %s: %v", e.Link, e.Host.Name, err)
	}
	return link.Attrs().HardwareAddr
}

func (e End) know(tb testing.TB, peers []netip.Prefix, mac net.HardwareAddr) {
	tb.Helper()
	h, link := e.find(tb)
	for _, p := range peers {
		err := h.NeighSet(&netlink.Neigh{
			LinkIndex: link.Attrs().Index, State: netlink.NUD_PERMANENT, IP: p.Addr().AsSlice(), HardwareAddr: mac,
		})
		if err != nil {
			tb.Fatalf("tell %s of %s: %v", e.Host.Name, p, err)
		}
	}
}

func (e End) find(tb testing.TB) (*netlink.Handle, netlink.Link) {
	tb.Helper()
	h := e.Host.Links(tb)
	link, err := h.LinkByName(e.Link)
	if err != nil {
		tb.Fatalf("find %s on %s: %v", e.Link, e.Host.Name, err)
	}
	return h, link
}

// Default routes everything of one family on a host through a gateway.
func Default(tb testing.TB, h *Host, via netip.Addr) {
	tb.Helper()
	any := &net.IPNet{IP: make(net.IP, via.BitLen()/8), Mask: net.CIDRMask(0, via.BitLen())}
	if err := h.Links(tb).RouteAdd(&netlink.Route{Dst: any, Gw: via.AsSlice()}); err != nil {
		tb.Fatalf("route %s via %s: %v", h.Name, via, err)
	}
}
