package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"

	"pinnace/network/lease"
	"pinnace/network/rule"
)

// Start brings the node to the desired state and opens the hook's socket; a
// hook that calls from then on is answered as soon as Run runs. It refuses a
// pod prefix that the host uses for something else. Starting twice, also in
// two processes one after the other, changes nothing the second time.
func (n *Network) Start(ctx context.Context) error {
	n.start.Lock()
	defer n.start.Unlock()
	if n.listener != nil {
		return errors.New("start network: started before")
	}
	if err := os.MkdirAll(n.cfg.RunDir, 0o755); err != nil {
		return fmt.Errorf("start network: %w", err)
	}
	if err := n.setAll(ctx); err != nil {
		return fmt.Errorf("start network: %w", err)
	}
	l, err := listen(ctx, n.cfg.socketPath())
	if err != nil {
		return fmt.Errorf("start network: %w", err)
	}
	n.listener = l
	return nil
}

// Heal does again what Start did to the kernel, and points the host at every
// pod once more. It is for whoever noticed that somebody flushed our routes
// or rules; when all is well it changes nothing.
func (n *Network) Heal(ctx context.Context) error {
	n.start.Lock()
	defer n.start.Unlock()
	if err := n.setAll(ctx); err != nil {
		return fmt.Errorf("heal network: %w", err)
	}
	return nil
}

func (n *Network) setAll(ctx context.Context) error {
	h, err := netlink.NewHandle(netlinkRoute)
	if err != nil {
		return fmt.Errorf("open netlink socket: %w", err)
	}
	defer h.Close()
	if err := n.setNode(h); err != nil {
		return err
	}
	if err := n.forward(h); err != nil {
		return err
	}
	if err := rule.Apply(ctx, n.cfg.rules(), n.cfg.Logger); err != nil {
		return err
	}
	marked, err := n.restoreLinks(h)
	if err != nil {
		return err
	}
	for id, link := range marked {
		if err := n.restoreLink(h, id, link); err != nil {
			return err
		}
	}
	return nil
}

// restoreLinks squares the leases with the links: a link without lease gets
// its lease back, so that its address is not given away; a lease without
// link is released. It returns the links; where nothing is amiss it writes
// nothing to the kernel.
func (n *Network) restoreLinks(h *netlink.Handle) (map[string]netlink.Link, error) {
	marked, _, err := n.ownLinks(h)
	if err != nil {
		return nil, err
	}
	for _, l := range n.held() {
		if _, ok := marked[l.Sandbox]; !ok {
			if err := n.settleUnseen(h, l.Sandbox); err != nil {
				return nil, err
			}
		}
	}
	for id, link := range marked {
		if l, ok := n.leaseOf(id); ok && l.Held() {
			continue
		}
		if err := n.restoreLink(h, id, link); err != nil {
			return nil, err
		}
	}
	return marked, nil
}

// restoreLink gives a link its lease or, when it has one, its routes.
func (n *Network) restoreLink(h *netlink.Handle, id string, link netlink.Link) error {
	unlock := n.busy.lock(id)
	defer unlock()
	l, ok := n.leaseOf(id)
	if !ok || !l.Held() {
		return n.adopt(h, id, link)
	}
	if err := n.routeLease(h, link.Attrs().Index, l); err != nil && !isNotFound(err) {
		return fmt.Errorf("restore sandbox %s: %w", id, err)
	}
	return nil
}

// settleUnseen looks again, with the sandbox's turn in hand, for the link of a
// lease: an ADD may have been on its way. A link that a crash left unmarked
// is marked now, the lease proves whose it is; a lease without link is
// released.
func (n *Network) settleUnseen(h *netlink.Handle, id string) error {
	unlock := n.busy.lock(id)
	defer unlock()
	link, err := h.LinkByName(linkName(n.cfg.Instance, id))
	switch {
	case err == nil && link.Attrs().Alias == "":
		if err := h.LinkSetAlias(link, linkAlias(n.cfg.Instance, id)); err != nil && !isNotFound(err) {
			return fmt.Errorf("mark veth %s: %w", link.Attrs().Name, err)
		}
		return nil
	case err == nil:
		return nil
	case !isNotFound(err):
		return fmt.Errorf("find link of sandbox %s: %w", id, err)
	}
	if err := n.release(id); err != nil {
		return err
	}
	n.cfg.Logger.Info("released lease without link", "sandbox", id)
	return nil
}

// adopt rebuilds the lease of a link from the host's routes to it.
func (n *Network) adopt(h *netlink.Handle, id string, link netlink.Link) error {
	now, err := n.clock()
	if err != nil {
		return err
	}
	addrs, err := routedAddrs(h, link)
	if err != nil {
		return fmt.Errorf("adopt sandbox %s: %w", id, err)
	}
	if len(addrs) == 0 {
		return nil // never wired; Reconcile removes it when it is dead
	}
	n.mu.Lock()
	for _, a := range addrs {
		if other, ok := n.table.Holder(a); ok {
			n.mu.Unlock()
			n.cfg.Logger.Warn("left link without lease", "link", link.Attrs().Name, "address", a, "holder", other)
			return nil
		}
	}
	l := lease.Lease{Sandbox: id, Addresses: addrs, Since: now}
	n.table.Put(l)
	n.mu.Unlock()
	if err := n.ledger.Save(l); err != nil {
		return err
	}
	n.cfg.Logger.Info("adopted link", "sandbox", id, "addresses", addrs)
	return nil
}

// routedAddrs reads which single addresses our routes send to a link.
func routedAddrs(h *netlink.Handle, link netlink.Link) ([]netip.Addr, error) {
	var addrs []netip.Addr
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := h.RouteListFiltered(family,
			&netlink.Route{LinkIndex: link.Attrs().Index, Protocol: routeProtocol},
			netlink.RT_FILTER_OIF|netlink.RT_FILTER_PROTOCOL)
		if err != nil {
			return nil, fmt.Errorf("list routes of %s: %w", link.Attrs().Name, err)
		}
		for _, r := range routes {
			if p := prefixOf(r.Dst); p.IsValid() && p.IsSingleIP() {
				addrs = append(addrs, p.Addr())
			}
		}
	}
	return addrs, nil
}
