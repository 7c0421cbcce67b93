package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"pinnace/network/lease"
)

// setNode brings the node's own part to the desired state: one address per
// prefix on lo, and one unreachable route that answers for addresses no pod
// has, so that such packets do not leave by the default route. What an
// earlier run kept for other prefixes goes.
func (n *Network) setNode(h *netlink.Handle) error {
	before, err := rememberedPrefixes(n.cfg.RunDir)
	if err != nil {
		return err
	}
	for _, p := range n.cfg.Prefixes {
		if err := n.collide(h, p, slices.Contains(before, p)); err != nil {
			return err
		}
	}
	if !slices.Equal(before, n.cfg.Prefixes) {
		all := append(slices.Clone(n.cfg.Prefixes), before...)
		if err := rememberPrefixes(n.cfg.RunDir, all); err != nil {
			return err
		}
		for _, p := range before {
			if !slices.Contains(n.cfg.Prefixes, p) {
				if err := unsetPrefix(h, n.cfg.Instance, p); err != nil {
					return err
				}
				n.cfg.Logger.Info("removed pod prefix", "prefix", p)
			}
		}
		if err := rememberPrefixes(n.cfg.RunDir, n.cfg.Prefixes); err != nil {
			return err
		}
	}
	for _, p := range n.cfg.Prefixes {
		if err := setPrefix(h, n.cfg.Instance, p); err != nil {
			return err
		}
	}
	return nil
}

func setPrefix(h *netlink.Handle, instance string, p netip.Prefix) error {
	lo, err := h.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	if err := h.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	if err := h.AddrReplace(lo, nodeLoAddr(instance, p)); err != nil {
		return fmt.Errorf("add address %s to lo: %w", nodeAddr(p), err)
	}
	if err := h.RouteReplace(refusal(p)); err != nil {
		return fmt.Errorf("set unreachable route %s: %w", p, err)
	}
	return nil
}

func unsetPrefix(h *netlink.Handle, instance string, p netip.Prefix) error {
	lo, err := h.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	var errs []error
	if err := h.AddrDel(lo, nodeLoAddr(instance, p)); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
		errs = append(errs, fmt.Errorf("remove address %s from lo: %w", nodeAddr(p), err))
	}
	if err := h.RouteDel(refusal(p)); err != nil && !errors.Is(err, unix.ESRCH) {
		errs = append(errs, fmt.Errorf("remove unreachable route %s: %w", p, err))
	}
	return errors.Join(errs...)
}

func nodeLoAddr(instance string, p netip.Prefix) *netlink.Addr {
	label := ""
	if p.Addr().Is4() {
		label = addrLabel(instance)
	}
	return singleAddr(nodeAddr(p), label)
}

// refusal is the route that answers for a prefix's unused addresses.
func refusal(p netip.Prefix) *netlink.Route {
	return &netlink.Route{Dst: ipNet(p), Type: unix.RTN_UNREACHABLE, Protocol: routeProtocol}
}

// collide refuses a prefix that this host uses for something else. known
// says that an earlier run of this instance held the prefix.
func (n *Network) collide(h *netlink.Handle, p netip.Prefix, known bool) error {
	links, err := h.LinkList()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	names, ours := map[int]string{}, map[int]bool{}
	for _, l := range links {
		at := l.Attrs()
		names[at.Index] = at.Name
		_, ours[at.Index] = sandboxOf(n.cfg.Instance, at.Alias)
		ours[at.Index] = ours[at.Index] || at.Alias == "" && hasLinkName(n.cfg.Instance, at)
	}
	family := netlink.FAMILY_V6
	if p.Addr().Is4() {
		family = netlink.FAMILY_V4
	}
	addrs, err := h.AddrList(nil, family)
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range addrs {
		if taken := prefixOf(a.IPNet); taken.Overlaps(p) && !n.isNodeAddr(a, names[a.LinkIndex], p, known) {
			return fmt.Errorf("pod prefix %s collides with address %s of %s: choose another with --pod-cidr", p, taken, names[a.LinkIndex])
		}
	}
	routes, err := h.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	for _, r := range routes {
		mine := r.Protocol == routeProtocol && (r.Type != unix.RTN_UNICAST || ours[r.LinkIndex])
		if taken := prefixOf(r.Dst); !mine && steals(p, taken, r) && taken != hostPrefix(nodeAddr(p)) {
			return fmt.Errorf("pod prefix %s collides with route %s of %s: choose another with --pod-cidr", p, taken, names[r.LinkIndex])
		}
	}
	return nil
}

// isNodeAddr reports whether an address is the one that we keep on lo. IPv6
// has no label to prove it; there only this very address on lo passes.
func (n *Network) isNodeAddr(a netlink.Addr, link string, p netip.Prefix, known bool) bool {
	if link != "lo" || prefixOf(a.IPNet) != hostPrefix(nodeAddr(p)) {
		return false
	}
	return known || p.Addr().Is6() || a.Label == addrLabel(n.cfg.Instance)
}

// steals reports whether a route takes addresses from p, or p takes
// neighbours from it. A wider route through a gateway is the rest of the
// world, like the default route: p may lie inside it.
func steals(p, taken netip.Prefix, r netlink.Route) bool {
	if !taken.IsValid() || !taken.Overlaps(p) || taken.Bits() == 0 {
		return false
	}
	return taken.Bits() >= p.Bits() || len(r.Gw) == 0 && len(r.MultiPath) == 0 && r.Type == unix.RTN_UNICAST
}

// rememberPrefixes records for which prefixes the kernel holds addresses and
// routes of ours, before they are made.
func rememberPrefixes(runDir string, prefixes []netip.Prefix) error {
	raw, err := json.Marshal(prefixes)
	if err != nil {
		return fmt.Errorf("record pod prefixes: %w", err)
	}
	if err := lease.Replace(prefixPath(runDir), raw); err != nil {
		return fmt.Errorf("record pod prefixes: %w", err)
	}
	return nil
}

// rememberedPrefixes is nil when nothing, or nothing legible, is recorded.
func rememberedPrefixes(runDir string) ([]netip.Prefix, error) {
	raw, err := os.ReadFile(prefixPath(runDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read pod prefixes: %w", err)
	}
	var all []netip.Prefix
	if json.Unmarshal(raw, &all) != nil {
		return nil, nil
	}
	return slices.DeleteFunc(all, func(p netip.Prefix) bool { return checkPrefix(p) != nil }), nil
}

func prefixPath(runDir string) string { return filepath.Join(runDir, prefixFile) }
