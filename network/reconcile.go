package network

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"

	"pinnace/network/lease"
)

// Release ends a sandbox's lease; its addresses rest for a minute. It is
// idempotent, and leaves the link to the runtime, which destroys it with the
// sandbox's namespace: deleting a veth costs 13 to 40 ms.
func (n *Network) Release(sandboxID string) error {
	if !lease.ValidID(sandboxID) {
		return fmt.Errorf("release sandbox %q: not a sandbox id", sandboxID)
	}
	unlock := n.busy.lock(sandboxID)
	defer unlock()
	return n.release(sandboxID)
}

// release is Release for a caller that has the sandbox's turn. The file says
// when the lease ended, so that the quarantine survives a restart.
func (n *Network) release(id string) error {
	now, err := n.clock()
	if err != nil {
		return err
	}
	n.mu.Lock()
	l, ok := n.table.Release(id, now)
	n.mu.Unlock()
	if !ok {
		return nil
	}
	return n.ledger.Save(l)
}

// detach removes a sandbox's link, then its lease.
func (n *Network) detach(id string) error {
	unlock := n.busy.lock(id)
	defer unlock()
	h, err := netlink.NewHandle(netlinkRoute)
	if err != nil {
		return fmt.Errorf("detach sandbox %s: %w", id, err)
	}
	defer h.Close()
	link, err := h.LinkByName(linkName(n.cfg.Instance, id))
	if err == nil && link.Attrs().Alias == linkAlias(n.cfg.Instance, id) {
		if err := h.LinkDel(link); err != nil && !isNotFound(err) {
			return fmt.Errorf("detach sandbox %s: %w", id, err)
		}
	}
	return n.release(id)
}

// Reconcile squares what we hold with the sandboxes that the runtime lists,
// in whatever state. The lease of any other is released, its link removed, and
// the namespace that a killed runtime forgot is unmounted.
// A sandbox that the runtime is still starting is not listed yet, so that a
// link younger than a minute is left for the next call, with its lease.
func (n *Network) Reconcile(ctx context.Context, live []string) error {
	n.start.Lock()
	defer n.start.Unlock()
	h, err := netlink.NewHandle(netlinkRoute)
	if err != nil {
		return fmt.Errorf("reconcile network: %w", err)
	}
	defer h.Close()
	// Links without lease are adopted first, dead ones too: from there on
	// every link has an age.
	if _, err := n.restoreLinks(h); err != nil {
		return fmt.Errorf("reconcile network: %w", err)
	}
	marked, unmarked, err := n.ownLinks(h)
	if err != nil {
		return fmt.Errorf("reconcile network: %w", err)
	}
	var errs []error
	for id, link := range marked {
		if ctx.Err() != nil {
			return fmt.Errorf("reconcile network: %w", ctx.Err())
		}
		if !slices.Contains(live, id) {
			errs = append(errs, n.prune(h, id, link))
		}
	}
	for name, link := range unmarked {
		if !n.beingMade(name) {
			errs = append(errs, n.deleteLink(h, link))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("reconcile network: %w", err)
	}
	return nil
}

// prune removes a dead sandbox's link, then its lease: an address is not
// free while a link has it.
func (n *Network) prune(h *netlink.Handle, id string, link netlink.Link) error {
	unlock := n.busy.lock(id)
	defer unlock()
	now, err := n.clock()
	if err != nil {
		return err
	}
	l, ok := n.leaseOf(id)
	if ok && l.Held() && now-l.Since < settle {
		return nil
	}
	if err := n.deleteLink(h, link); err != nil {
		return err
	}
	return errors.Join(n.release(id), dropNamespace(l.Netns))
}

func (n *Network) deleteLink(h *netlink.Handle, link netlink.Link) error {
	name := link.Attrs().Name
	if err := h.LinkDel(link); err != nil && !isNotFound(err) {
		return fmt.Errorf("delete link %s: %w", name, err)
	}
	n.cfg.Logger.Info("deleted link of no sandbox", "link", name, "alias", link.Attrs().Alias)
	return nil
}

// beingMade reports whether a link's name belongs to a held lease: then an
// ADD is between creating and marking it.
func (n *Network) beingMade(name string) bool {
	return slices.ContainsFunc(n.held(), func(l lease.Lease) bool { return linkName(n.cfg.Instance, l.Sandbox) == name })
}

func (n *Network) held() []lease.Lease {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.DeleteFunc(n.table.List(), func(l lease.Lease) bool { return !l.Held() })
}

func (n *Network) leaseOf(id string) (lease.Lease, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.table.Get(id)
}
