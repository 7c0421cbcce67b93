package network

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/vishvananda/netlink"

	"pinnace/network/rule"
)

// Cleanup removes what this instance ever put into the kernel and its own
// files below RunDir: rules, links, routes, addresses, leases, the socket. It
// goes on after a failure and returns them all; what is absent is removed
// already. Forwarding stays on: others may have come to need it.
func Cleanup(cfg Config) error {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if !instancePattern.MatchString(cfg.Instance) {
		return fmt.Errorf("clean network: instance %q: must match %s", cfg.Instance, instancePattern)
	}
	n := &Network{cfg: cfg}
	errs := []error{rule.Remove(cfg.Instance, cfg.Logger), n.cleanKernel()}
	for _, path := range []string{filepath.Join(cfg.RunDir, leaseDir), cfg.socketPath()} {
		errs = append(errs, os.RemoveAll(path))
	}
	// The memory of prefixes goes last: a cleanup that could not finish needs
	// it again.
	if errors.Join(errs...) == nil {
		errs = append(errs, os.RemoveAll(prefixPath(cfg.RunDir)))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("clean network: %w", err)
	}
	return nil
}

func (n *Network) cleanKernel() error {
	h, err := netlink.NewHandle(netlinkRoute)
	if err != nil {
		return fmt.Errorf("open netlink socket: %w", err)
	}
	defer h.Close()
	var errs []error
	marked, unmarked, err := n.ownLinks(h)
	if err != nil {
		return err
	}
	for _, links := range []map[string]netlink.Link{marked, unmarked} {
		for _, link := range links {
			errs = append(errs, n.deleteLink(h, link))
		}
	}
	prefixes, err := n.ownPrefixes(h)
	errs = append(errs, err)
	for _, p := range prefixes {
		errs = append(errs, unsetPrefix(h, n.cfg.Instance, p))
	}
	return errors.Join(errs...)
}

// ownPrefixes are those that RunDir remembers. With RunDir lost, our label on
// lo proves that the configured ones are ours; without IPv4 nothing can, and
// the configuration is believed.
func (n *Network) ownPrefixes(h *netlink.Handle) ([]netip.Prefix, error) {
	prefixes, err := rememberedPrefixes(n.cfg.RunDir)
	if err != nil {
		return nil, err
	}
	lo, err := h.LinkByName("lo")
	if err != nil {
		return nil, fmt.Errorf("find lo: %w", err)
	}
	addrs, err := h.AddrList(lo, netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("list addresses of lo: %w", err)
	}
	_, v4 := n.cfg.prefix(true)
	if !v4 || slices.ContainsFunc(addrs, func(a netlink.Addr) bool { return a.Label == addrLabel(n.cfg.Instance) }) {
		prefixes = append(prefixes, n.cfg.Prefixes...)
	}
	slices.SortFunc(prefixes, netip.Prefix.Compare)
	return slices.DeleteFunc(slices.Compact(prefixes), func(p netip.Prefix) bool { return checkPrefix(p) != nil }), nil
}
