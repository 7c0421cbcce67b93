package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/vishvananda/netlink"

	"pinnace/network/lease"
)

// attachment is one sandbox on its way to the network. Its steps fill it in.
type attachment struct {
	net     *Network
	sandbox string
	ifName  string
	netns   string   // path, as the runtime calls it
	file    *os.File // the namespace itself

	lease    lease.Lease
	fresh    bool // this attachment took the lease
	created  bool // this attachment made the link
	host     *netlink.Handle
	pod      *netlink.Handle
	hostSide netlink.Link
	podSide  netlink.Link
}

// step is one move of attach and its way back. An undo runs also when its
// own step failed half way, and finds nothing to do when it never began.
type step struct {
	name string
	do   func() error
	undo func() error
}

// steps is the whole order of attach. The lease is on file before the link
// exists, so that no crash leaves a link whose address is free; and the route
// comes last, so that nobody reaches a pod that is half wired.
func (a *attachment) steps() []step {
	return []step{
		{"lease addresses", a.takeLease, a.giveLease},
		{"enter namespace", a.openHandles, a.closeHandles},
		{"create veth", a.createVeth, a.deleteVeth},
		{"address pod side", a.addressPod, goesWithVeth},
		{"route pod side", a.routePod, goesWithVeth},
		{"route host side", a.routeHost, goesWithVeth},
	}
}

// goesWithVeth is the undo of what the veth's deletion takes along.
func goesWithVeth() error { return nil }

// runSteps does the steps in order; after a failure it undoes them in
// reverse and returns the failure with whatever the way back could not do.
func runSteps(ctx context.Context, steps []step) error {
	for i, s := range steps {
		err := ctx.Err()
		if err == nil {
			err = s.do()
		}
		if err != nil {
			return errors.Join(fmt.Errorf("%s: %w", s.name, err), undoSteps(steps[:i+1]))
		}
	}
	return nil
}

func undoSteps(steps []step) error {
	var errs []error
	for i := len(steps) - 1; i >= 0; i-- {
		if err := steps[i].undo(); err != nil {
			errs = append(errs, fmt.Errorf("undo %s: %w", steps[i].name, err))
		}
	}
	return errors.Join(errs...)
}

// attach wires a sandbox. It is idempotent: a sandbox that is wired keeps its
// link and its addresses. The caller holds the sandbox's turn.
func (n *Network) attach(ctx context.Context, r request) (*attachment, error) {
	began := time.Now()
	a := &attachment{net: n, sandbox: r.Container, ifName: r.IfName, netns: r.Netns, file: r.namespace}
	if err := runSteps(ctx, a.steps()); err != nil {
		return nil, fmt.Errorf("attach sandbox %s: %w", r.Container, err)
	}
	if err := a.closeHandles(); err != nil {
		return nil, fmt.Errorf("attach sandbox %s: %w", r.Container, err)
	}
	n.cfg.Logger.Debug("attached sandbox", "sandbox", r.Container, "addresses", a.lease.Addresses,
		"link", a.hostSide.Attrs().Name, "took", time.Since(began))
	return a, nil
}

// abandon undoes a finished attachment whose answer nobody took: the runtime
// gave up and may never send its DEL. What an earlier ADD made stays.
func (a *attachment) abandon() error {
	if !a.fresh {
		return nil
	}
	return a.net.detach(a.sandbox)
}

func (a *attachment) takeLease() error {
	now, err := a.net.clock()
	if err != nil {
		return err
	}
	a.net.mu.Lock()
	gone := a.net.table.Purge(now)
	a.lease, a.fresh, err = a.net.table.Take(a.sandbox, a.netns, now)
	a.net.mu.Unlock()
	if err != nil {
		return err
	}
	for _, id := range gone {
		if id != a.sandbox {
			err = errors.Join(err, a.net.ledger.Drop(id))
		}
	}
	if !a.fresh || err != nil {
		return err
	}
	return a.net.ledger.Save(a.lease)
}

func (a *attachment) giveLease() error {
	if !a.fresh {
		return nil
	}
	return a.net.release(a.sandbox)
}

// openHandles opens one netlink socket on each side and prepares the pod's
// namespace: lo is up, and a new link there neither believes router
// advertisements nor lacks IPv6 when the pod is to have it.
func (a *attachment) openHandles() error {
	var err error
	if a.host, err = netlink.NewHandle(netlinkRoute); err != nil {
		return fmt.Errorf("open netlink socket: %w", err)
	}
	_, dual := a.net.cfg.prefix(false)
	return inNamespace(int(a.file.Fd()), func() error {
		if a.pod, err = netlink.NewHandle(netlinkRoute); err != nil {
			return fmt.Errorf("open netlink socket: %w", err)
		}
		return prepareNamespace(dual)
	})
}

func (a *attachment) closeHandles() error {
	for _, h := range []*netlink.Handle{a.host, a.pod} {
		if h != nil {
			h.Close()
		}
	}
	a.host, a.pod = nil, nil
	return nil
}
