package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"pinnace/network/lease"
)

const netlinkRoute = unix.NETLINK_ROUTE

// createVeth makes the pair, the host side up and marked, the pod side born
// inside the pod's namespace. A pair that an earlier ADD of the same sandbox
// made is taken over when both its ends are where they belong, else replaced.
func (a *attachment) createVeth() error {
	err := a.addVeth()
	if errors.Is(err, unix.EEXIST) {
		var whole bool
		if whole, err = a.takeOver(); err == nil && !whole {
			err = a.addVeth()
		}
	}
	if err != nil {
		return fmt.Errorf("create veth %s: %w", linkName(a.net.cfg.Instance, a.sandbox), err)
	}
	if a.hostSide == nil {
		return nil
	}
	if err := a.host.LinkSetAlias(a.hostSide, linkAlias(a.net.cfg.Instance, a.sandbox)); err != nil {
		return fmt.Errorf("mark veth %s: %w", a.hostSide.Attrs().Name, err)
	}
	return quietLink(a.hostSide.Attrs().Name)
}

func (a *attachment) addVeth() error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = linkName(a.net.cfg.Instance, a.sandbox)
	attrs.HardwareAddr = hostMAC()
	attrs.Flags = net.FlagUp
	attrs.MTU = uplinkMTU(a.host)
	veth := netlink.NewVeth(attrs)
	veth.PeerName = a.ifName
	veth.PeerHardwareAddr = podMAC(a.sandbox)
	veth.PeerNamespace = netlink.NsFd(a.file.Fd())
	if err := a.host.LinkAdd(veth); err != nil {
		return err
	}
	a.created = true
	a.hostSide = veth
	return nil
}

// takeOver looks at the link that is in the way. It returns true when it is
// this sandbox's whole pair, and false after removing what was not.
func (a *attachment) takeOver() (bool, error) {
	name := linkName(a.net.cfg.Instance, a.sandbox)
	host, err := a.host.LinkByName(name)
	if isNotFound(err) {
		return false, fmt.Errorf("%s is there already in the pod's namespace", a.ifName)
	}
	if err != nil {
		return false, err
	}
	if alias := host.Attrs().Alias; alias != "" && alias != linkAlias(a.net.cfg.Instance, a.sandbox) {
		return false, fmt.Errorf("the name is taken by a link with alias %q", alias)
	}
	pod, err := a.pod.LinkByName(a.ifName)
	if err == nil && !a.fresh && pod.Attrs().ParentIndex == host.Attrs().Index && host.Attrs().ParentIndex == pod.Attrs().Index {
		a.hostSide = host
		return true, nil
	}
	if err := a.host.LinkDel(host); err != nil && !isNotFound(err) {
		return false, err
	}
	return false, nil
}

// deleteVeth takes both ends, with their addresses, neighbours and routes.
func (a *attachment) deleteVeth() error {
	if !a.created {
		return nil
	}
	if err := a.host.LinkDel(a.hostSide); err != nil && !isNotFound(err) {
		return fmt.Errorf("delete veth %s: %w", a.hostSide.Attrs().Name, err)
	}
	return nil
}

// addressPod gives the pod side its addresses, each a single-address prefix
// without duplicate address detection, which would cost IPv6 nearly 2 s.
func (a *attachment) addressPod() error {
	link, err := a.pod.LinkByName(a.ifName)
	if err != nil {
		return fmt.Errorf("find %s: %w", a.ifName, err)
	}
	a.podSide = link
	for _, addr := range a.lease.Addresses {
		if err := a.pod.AddrReplace(link, singleAddr(addr, "")); err != nil {
			return fmt.Errorf("add address %s: %w", addr, err)
		}
	}
	if err := a.pod.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", a.ifName, err)
	}
	lo, err := a.pod.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	if err := a.pod.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	return nil
}

// routePod sends everything to a gateway that only the pod's permanent
// neighbour entry knows; no address resolution ever runs on the link.
func (a *attachment) routePod() error {
	index := a.podSide.Attrs().Index
	for _, addr := range a.lease.Addresses {
		gw := gateway(addr.Is4())
		if err := a.pod.NeighSet(permanent(index, gw, hostMAC())); err != nil {
			return fmt.Errorf("set neighbour %s: %w", gw, err)
		}
		err := a.pod.RouteReplace(&netlink.Route{
			LinkIndex: index, Gw: gw.AsSlice(), Flags: int(netlink.FLAG_ONLINK), Dst: everything(addr.Is4()),
		})
		if err != nil {
			return fmt.Errorf("set default route via %s: %w", gw, err)
		}
	}
	return nil
}

func (a *attachment) routeHost() error {
	return a.net.routeLease(a.host, a.hostSide.Attrs().Index, a.lease)
}

// routeLease points the host at a pod: one route and one permanent neighbour
// per address. The source hint is the node's pod-side address, so that the
// host reaches pods even when it has no other address. Idempotent.
func (n *Network) routeLease(h *netlink.Handle, index int, l lease.Lease) error {
	for _, addr := range l.Addresses {
		if err := h.NeighSet(permanent(index, addr, podMAC(l.Sandbox))); err != nil {
			return fmt.Errorf("set neighbour %s: %w", addr, err)
		}
		route := &netlink.Route{
			LinkIndex: index, Dst: ipNet(hostPrefix(addr)), Scope: netlink.SCOPE_LINK, Protocol: routeProtocol,
		}
		if p, ok := n.cfg.prefix(addr.Is4()); ok {
			route.Src = nodeAddr(p).AsSlice()
		}
		if err := h.RouteReplace(route); err != nil {
			return fmt.Errorf("set route to %s: %w", addr, err)
		}
	}
	return nil
}

// ownLinks returns this instance's host sides by sandbox. A link that died
// between its creation and its marking has the name, no alias, and no
// sandbox: it comes back under its link name.
func (n *Network) ownLinks(h *netlink.Handle) (marked, unmarked map[string]netlink.Link, err error) {
	links, err := h.LinkList()
	if err != nil {
		return nil, nil, fmt.Errorf("list links: %w", err)
	}
	marked, unmarked = map[string]netlink.Link{}, map[string]netlink.Link{}
	for _, l := range links {
		at := l.Attrs()
		if l.Type() != "veth" {
			continue
		}
		if id, ok := sandboxOf(n.cfg.Instance, at.Alias); ok && at.Name == linkName(n.cfg.Instance, id) {
			marked[id] = l
		} else if at.Alias == "" && hasLinkName(n.cfg.Instance, at) {
			unmarked[at.Name] = l
		}
	}
	return marked, unmarked, nil
}

// hasLinkName reports whether a link without alias is one that this instance
// began: our form of name and our host side's address.
func hasLinkName(instance string, at *netlink.LinkAttrs) bool {
	return len(at.Name) == linkNameSize && at.Name[:len(instance)] == instance && slices.Equal(at.HardwareAddr, hostMAC())
}

// uplinkMTU follows the link of the default route, the smaller one when the
// families differ: a pod must not send what its way out cannot carry.
func uplinkMTU(h *netlink.Handle) int {
	mtu := 0
	// Two addresses that no network announces (RFC 7600, RFC 6666): only the
	// default route can answer for them, in one message instead of a dump.
	for _, probe := range []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 0, 8}), netip.AddrFrom16([16]byte{0: 1, 15: 1})} {
		routes, err := h.RouteGet(probe.AsSlice())
		if err != nil || len(routes) == 0 {
			continue
		}
		if link, err := h.LinkByIndex(routes[0].LinkIndex); err == nil && link.Attrs().Name != "lo" {
			if m := link.Attrs().MTU; mtu == 0 || m < mtu {
				mtu = m
			}
		}
	}
	if mtu == 0 {
		return plainMTU
	}
	return max(mtu, minMTU)
}

func singleAddr(a netip.Addr, label string) *netlink.Addr {
	addr := &netlink.Addr{IPNet: ipNet(hostPrefix(a)), Label: label}
	if a.Is6() {
		addr.Flags = unix.IFA_F_NODAD
	}
	return addr
}

func permanent(index int, a netip.Addr, mac net.HardwareAddr) *netlink.Neigh {
	return &netlink.Neigh{LinkIndex: index, State: netlink.NUD_PERMANENT, IP: a.AsSlice(), HardwareAddr: mac}
}

func everything(v4 bool) *net.IPNet {
	if v4 {
		return ipNet(netip.PrefixFrom(netip.IPv4Unspecified(), 0))
	}
	return ipNet(netip.PrefixFrom(netip.IPv6Unspecified(), 0))
}

func isNotFound(err error) bool {
	var missing netlink.LinkNotFoundError
	return errors.As(err, &missing) || errors.Is(err, unix.ENODEV)
}
