package lease

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// hour is where the tests' boot clock starts.
const hour = time.Hour

func prefixes(all ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range all {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// move is one thing that happens to a table, and the address that follows.
type move struct {
	at      time.Duration
	take    string
	release string
	want    string // addresses, or "exhausted"
}

func TestTable(t *testing.T) {
	for name, c := range map[string]struct {
		prefixes []netip.Prefix
		moves    []move
	}{
		"network, node and broadcast are never leased": {prefixes("10.0.0.0/29"), []move{
			{take: "a", want: "[10.0.0.2]"}, {take: "b", want: "[10.0.0.3]"}, {take: "c", want: "[10.0.0.4]"},
			{take: "d", want: "[10.0.0.5]"}, {take: "e", want: "[10.0.0.6]"}, {take: "f", want: "exhausted"},
		}},
		"IPv6 has no broadcast": {prefixes("fd00::/126"), []move{
			{take: "a", want: "[fd00::2]"}, {take: "b", want: "[fd00::3]"}, {take: "c", want: "exhausted"},
		}},
		"the same sandbox gets the same lease": {prefixes("10.0.0.0/29", "fd00::/64"), []move{
			{take: "a", want: "[10.0.0.2 fd00::2]"}, {take: "a", want: "[10.0.0.2 fd00::2]"},
		}},
		"one family exhausted leases nothing of the other": {prefixes("10.0.0.0/30", "fd00::/64"), []move{
			{take: "a", want: "[10.0.0.2 fd00::2]"}, {take: "b", want: "exhausted"},
			{release: "a"}, {take: "c", want: "[10.0.0.2 fd00::3]"},
		}},
		"next fit goes round instead of back": {prefixes("10.0.0.0/29"), []move{
			{take: "a", want: "[10.0.0.2]"}, {release: "a"}, {at: 2 * Quarantine, take: "b", want: "[10.0.0.3]"},
		}},
		"a released address rests while others are free": {prefixes("10.0.0.0/29"), []move{
			{take: "a", want: "[10.0.0.2]"}, {take: "b", want: "[10.0.0.3]"}, {take: "c", want: "[10.0.0.4]"},
			{take: "d", want: "[10.0.0.5]"}, {release: "a"}, {take: "e", want: "[10.0.0.6]"}, {release: "c"},
			{at: Quarantine - 1, take: "f", want: "[10.0.0.2]"},
		}},
		"when all rest the oldest is taken": {prefixes("10.0.0.0/29"), []move{
			{take: "a", want: "[10.0.0.2]"}, {take: "b", want: "[10.0.0.3]"}, {take: "c", want: "[10.0.0.4]"},
			{take: "d", want: "[10.0.0.5]"}, {take: "e", want: "[10.0.0.6]"},
			{at: 1, release: "d"}, {at: 2, release: "b"}, {at: 3, take: "f", want: "[10.0.0.5]"}, {at: 3, take: "g", want: "[10.0.0.3]"},
			{at: 3, take: "h", want: "exhausted"},
		}},
		"a rested address is free again": {prefixes("10.0.0.0/30"), []move{
			{take: "a", want: "[10.0.0.2]"}, {release: "a"}, {at: Quarantine, take: "b", want: "[10.0.0.2]"},
		}},
		"a sandbox that comes back gets its own address": {prefixes("10.0.0.0/29"), []move{
			{take: "a", want: "[10.0.0.2]"}, {release: "a"}, {at: 1, take: "b", want: "[10.0.0.3]"}, {at: 2, take: "a", want: "[10.0.0.2]"},
		}},
		"releasing the unknown and the released is nothing": {prefixes("10.0.0.0/29"), []move{
			{release: "a"}, {take: "a", want: "[10.0.0.2]"}, {release: "a"}, {at: 5, release: "a"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			table := NewTable(c.prefixes, nil)
			for i, m := range c.moves {
				if m.release != "" {
					table.Release(m.release, hour+m.at)
					continue
				}
				l, _, err := table.Take(m.take, "", hour+m.at)
				got := fmt.Sprint(l.Addresses)
				if errors.Is(err, ErrExhausted) {
					got = "exhausted"
				}
				if got != m.want {
					t.Fatalf("move %d: %s got %s (%v), want %s", i, m.take, got, err, m.want)
				}
			}
		})
	}
}

// TestWalk takes and releases at random, restarts now and then from the
// leases, and holds every state against the rules in plain form.
func TestWalk(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		pools := prefixes("10.0.0.0/28", "fd00::/64")
		table := NewTable(pools, nil)
		held, last := map[netip.Addr]string{}, map[netip.Addr]string{}
		released := map[netip.Addr]time.Duration{}
		now := hour
		for i := range 2000 {
			now += time.Duration(r.IntN(int(10 * time.Second)))
			id := fmt.Sprint("s", r.IntN(20))
			switch r.IntN(8) {
			case 0, 1, 2, 3:
				checkTake(t, table, id, now, held, last, released)
			case 7:
				table = NewTable(pools, table.List())
			default:
				if l, ok := table.Release(id, now); ok {
					for _, a := range l.Addresses {
						if held[a] != id {
							t.Fatalf("seed %d move %d: %s released %s of %q", seed, i, id, a, held[a])
						}
						delete(held, a)
						released[a] = now
					}
				}
			}
			table.Purge(now)
			for a, id := range held {
				if got, _ := table.Holder(a); got != id {
					t.Fatalf("seed %d move %d: %s is held by %q, want %s", seed, i, a, got, id)
				}
			}
			if t.Failed() {
				t.Fatalf("seed %d move %d", seed, i)
			}
		}
	}
}

func checkTake(t *testing.T, table *Table, id string, now time.Duration, held, last map[netip.Addr]string, released map[netip.Addr]time.Duration) {
	t.Helper()
	l, fresh, err := table.Take(id, "", now)
	if err != nil {
		if !errors.Is(err, ErrExhausted) || len(held) < 2*13 {
			t.Errorf("take with %d of 26 addresses in use: %v", len(held), err)
		}
		return
	}
	for _, a := range l.Addresses {
		if !fresh {
			if held[a] != id {
				t.Errorf("%s kept %s, which %q holds", id, a, held[a])
			}
			continue
		}
		if other, ok := held[a]; ok {
			t.Errorf("%s got %s, which %s holds", id, a, other)
		}
		if slices.Contains([]string{"10.0.0.0", "10.0.0.1", "10.0.0.15", "fd00::", "fd00::1"}, a.String()) {
			t.Errorf("%s got the reserved address %s", id, a)
		}
		if at, ok := released[a]; ok && now-at < Quarantine && last[a] != id {
			if a.Is6() {
				t.Errorf("%s got %s %v after its release from a prefix full of free ones", id, a, now-at)
			}
			for c := netip.MustParseAddr("10.0.0.2"); a.Is4() && c != netip.MustParseAddr("10.0.0.15"); c = c.Next() {
				_, busy := held[c]
				if at2, ok := released[c]; !busy && (!ok || now-at2 >= Quarantine || at2 < at) {
					t.Errorf("%s got %s %v after its release although %s was better", id, a, now-at, c)
				}
			}
		}
		held[a], last[a] = id, id
	}
}

func TestRestartKeepsCircleAndQuarantine(t *testing.T) {
	table := NewTable(prefixes("10.0.0.0/24"), nil)
	for i, id := range []string{"a", "b", "c"} {
		if _, _, err := table.Take(id, "/ns/"+id, hour+time.Duration(i)); err != nil {
			t.Fatal(err)
		}
	}
	table.Release("c", hour+5)
	again := NewTable(prefixes("10.0.0.0/24"), table.List())
	if got, want := fmt.Sprint(again.List()), fmt.Sprint(table.List()); got != want {
		t.Errorf("leases after the restart: %s, want %s", got, want)
	}
	l, _, err := again.Take("d", "", hour+6)
	if err != nil || l.Addresses[0].String() != "10.0.0.5" {
		t.Errorf("next address after the restart is %v, %v", l.Addresses, err)
	}
	if gone := again.Purge(hour + 5 + Quarantine); !slices.Equal(gone, []string{"c"}) {
		t.Errorf("purged %v, want c", gone)
	}
}
