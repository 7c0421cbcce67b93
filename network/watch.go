package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"pinnace/network/lease"
)

// Whoever removes one route of ours removes many, as systemd-networkd does
// with routes that it did not make: wait for the end of it before healing.
const (
	flushed  = 200 * time.Millisecond
	rewatch  = 10 * time.Second
	watchers = 256 // route changes that may wait to be looked at
)

// routes is a subscription to the kernel's route changes.
type routes struct {
	updates chan netlink.RouteUpdate
	done    chan struct{}
}

func subscribe() (*routes, error) {
	r := &routes{make(chan netlink.RouteUpdate, watchers), make(chan struct{})}
	if err := netlink.RouteSubscribe(r.updates, r.done); err != nil {
		return nil, fmt.Errorf("watch routes: %w", err)
	}
	return r, nil
}

// end gives the subscription up and waits until the library has.
func (r *routes) end() {
	close(r.done)
	for range r.updates {
	}
}

// watch sets our routes again when somebody else removes them, until ctx
// ends. The kernel tells; nothing is polled. It takes the first subscription
// over, which may have failed.
func (n *Network) watch(ctx context.Context, r *routes, err error) {
	for {
		if err == nil {
			err = n.follow(ctx, r)
			r.end()
		}
		if ctx.Err() != nil {
			return
		}
		n.cfg.Logger.Warn("lost sight of the routes", "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(rewatch):
			r, err = subscribe()
		}
	}
}

func (n *Network) follow(ctx context.Context, r *routes) error {
	var due <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case u, open := <-r.updates:
			if !open {
				return errors.New("watch routes: the kernel's stream ended")
			}
			if due == nil && n.missed(u) {
				due = time.After(flushed)
			}
		case <-due:
			due = nil
			if err := n.Heal(ctx); err != nil {
				n.cfg.Logger.Warn("routes that somebody removed were not set again", "error", err)
				continue
			}
			n.cfg.Logger.Info("set routes again that somebody had removed")
		}
	}
}

// missed reports whether a change took away a route that we want: one to a
// whole prefix, or one to a pod that has its lease.
func (n *Network) missed(u netlink.RouteUpdate) bool {
	if u.Type != unix.RTM_DELROUTE || u.Protocol != routeProtocol || u.Dst == nil {
		return false
	}
	addr, ok := netip.AddrFromSlice(u.Dst.IP)
	if !ok {
		return false
	}
	ones, _ := u.Dst.Mask.Size()
	dst := netip.PrefixFrom(addr.Unmap(), ones)
	if slices.Contains(n.cfg.Prefixes, dst) {
		return true
	}
	return dst.IsSingleIP() && slices.ContainsFunc(n.held(), func(l lease.Lease) bool { return slices.Contains(l.Addresses, dst.Addr()) })
}
