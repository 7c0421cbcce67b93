package lease

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// ErrExhausted says that every address of a prefix is held by a sandbox.
var ErrExhausted = errors.New("every address is in use")

// Quarantine is how long a released address stays unused while others are
// free, so that stale conntrack entries and neighbours of the old pod do not
// meet the new one.
const Quarantine = 60 * time.Second

// Lease is one sandbox's hold on its addresses, one per prefix. Times count
// from boot.
type Lease struct {
	Sandbox   string
	Addresses []netip.Addr
	Since     time.Duration
	Released  time.Duration // zero while held
	Netns     string        // where the runtime keeps the sandbox's namespace
}

// Held reports whether the sandbox still has its addresses.
func (l Lease) Held() bool { return l.Released == 0 }

// pool hands out the addresses of one prefix in a circle.
type pool struct {
	prefix netip.Prefix
	next   netip.Addr // where the next search starts
}

// first and last bound what a pod may have: never the network's own address,
// never the node's, never IPv4's broadcast.
func (p *pool) first() netip.Addr { return p.prefix.Masked().Addr().Next().Next() }

func (p *pool) last() netip.Addr {
	raw := p.prefix.Addr().AsSlice()
	for i := p.prefix.Bits(); i < len(raw)*8; i++ {
		raw[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(raw)
	if a.Is4() {
		return a.Prev()
	}
	return a
}

func (p *pool) after(a netip.Addr) netip.Addr {
	if a == p.last() {
		return p.first()
	}
	return a.Next()
}

// size is the number of addresses, or limit when there are more.
func (p *pool) size(limit int) int {
	host := p.prefix.Addr().BitLen() - p.prefix.Bits()
	if host > 30 {
		return limit
	}
	n := 1<<host - 2
	if p.prefix.Addr().Is4() {
		n--
	}
	return min(n, limit)
}

// Table is the address book: who holds what, and what rests. It is pure: no
// file, no clock, no lock.
//
//	free ── take ──► held ── release ──► resting ── 60 s ──► free
//	                  ▲                     │
//	                  └── take, oldest first, when nothing else is free
type Table struct {
	pools   []*pool
	leases  map[string]Lease
	holder  map[netip.Addr]string
	resting map[netip.Addr]time.Duration // released at
}

// NewTable rebuilds the book from the leases of an earlier run. The circles
// go on after the newest lease, so that a restart does not bring the same
// addresses round again.
func NewTable(prefixes []netip.Prefix, leases []Lease) *Table {
	t := &Table{leases: map[string]Lease{}, holder: map[netip.Addr]string{}, resting: map[netip.Addr]time.Duration{}}
	for _, p := range prefixes {
		po := &pool{prefix: p}
		po.next = po.first()
		t.pools = append(t.pools, po)
	}
	leases = slices.Clone(leases)
	slices.SortFunc(leases, func(a, b Lease) int {
		return cmp.Or(cmp.Compare(a.Since, b.Since), cmp.Compare(a.Sandbox, b.Sandbox))
	})
	for _, l := range leases {
		t.Put(l)
	}
	return t
}

// Put enters a lease as it is and moves the circles behind its addresses.
func (t *Table) Put(l Lease) {
	t.leases[l.Sandbox] = l
	for _, a := range l.Addresses {
		if l.Held() {
			t.holder[a] = l.Sandbox
			delete(t.resting, a)
		} else if _, ok := t.holder[a]; !ok {
			t.resting[a] = max(t.resting[a], l.Released)
		}
		if po := t.poolOf(a); po != nil {
			po.next = po.after(a)
		}
	}
}

// poolOf returns the pool that may hand out a; nil for a foreign address.
func (t *Table) poolOf(a netip.Addr) *pool {
	for _, po := range t.pools {
		if po.prefix.Contains(a) && !a.Less(po.first()) && !po.last().Less(a) {
			return po
		}
	}
	return nil
}

// Take leases one address per prefix to a sandbox: all or none. A sandbox
// that holds a lease gets the same one again (fresh is false); one that comes
// back after its release gets its own addresses while they rest.
func (t *Table) Take(sandbox, netns string, now time.Duration) (l Lease, fresh bool, err error) {
	old := t.leases[sandbox]
	if old.Held() && old.Sandbox != "" {
		return old, false, nil
	}
	l = Lease{Sandbox: sandbox, Since: now, Netns: netns}
	for _, po := range t.pools {
		if a, ok := t.own(po, old); ok {
			l.Addresses = append(l.Addresses, a)
			continue
		}
		a, err := t.pick(po, now)
		if err != nil {
			return Lease{}, false, err
		}
		l.Addresses = append(l.Addresses, a)
	}
	t.Put(l)
	return l, true, nil
}

// own returns the address of a pool that rests since this lease's release.
func (t *Table) own(po *pool, old Lease) (netip.Addr, bool) {
	for _, a := range old.Addresses {
		if at, ok := t.resting[a]; ok && at == old.Released && t.poolOf(a) == po {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// pick finds the next free address of a pool, else the one that rests longest.
func (t *Table) pick(po *pool, now time.Duration) (netip.Addr, error) {
	taken := len(t.holder) + len(t.resting)
	a := po.next
	for range po.size(taken + 1) {
		if t.free(a, now) {
			return a, nil
		}
		a = po.after(a)
	}
	var oldest netip.Addr
	for a, at := range t.resting {
		if t.poolOf(a) != po {
			continue
		}
		if !oldest.IsValid() || at < t.resting[oldest] || at == t.resting[oldest] && a.Less(oldest) {
			oldest = a
		}
	}
	if !oldest.IsValid() {
		return oldest, fmt.Errorf("lease address of %s: %w (%d): widen it with --pod-cidr or stop pods", po.prefix, ErrExhausted, po.size(taken))
	}
	return oldest, nil
}

func (t *Table) free(a netip.Addr, now time.Duration) bool {
	if _, ok := t.holder[a]; ok {
		return false
	}
	at, ok := t.resting[a]
	return !ok || now-at >= Quarantine
}

// Release ends a lease and starts the quarantine of its addresses; false when
// the sandbox holds none.
func (t *Table) Release(sandbox string, now time.Duration) (Lease, bool) {
	l, ok := t.leases[sandbox]
	if !ok || !l.Held() {
		return Lease{}, false
	}
	l.Released = max(now, 1)
	t.leases[sandbox] = l
	for _, a := range l.Addresses {
		delete(t.holder, a)
		t.resting[a] = l.Released
	}
	return l, true
}

// Purge forgets what has rested long enough and returns its sandboxes.
func (t *Table) Purge(now time.Duration) []string {
	var gone []string
	for id, l := range t.leases {
		if !l.Held() && now-l.Released >= Quarantine {
			gone = append(gone, id)
			delete(t.leases, id)
		}
	}
	maps.DeleteFunc(t.resting, func(_ netip.Addr, at time.Duration) bool { return now-at >= Quarantine })
	return gone
}

// List returns every lease, by sandbox.
func (t *Table) List() []Lease {
	return slices.SortedFunc(maps.Values(t.leases), func(a, b Lease) int { return cmp.Compare(a.Sandbox, b.Sandbox) })
}

// Get returns a sandbox's lease, held or resting.
func (t *Table) Get(sandbox string) (Lease, bool) {
	l, ok := t.leases[sandbox]
	return l, ok
}

// Holder returns the sandbox that holds an address.
func (t *Table) Holder(a netip.Addr) (string, bool) {
	id, ok := t.holder[a]
	return id, ok
}
