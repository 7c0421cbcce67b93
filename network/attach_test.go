package network

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"pinnace/testenv/netns"
)

var errInjected = errors.New("injected")

// TestRollback fails every step of the literal slice, before and after it
// did its work, and asks for the error, for nothing left, and for a retry
// that succeeds.
func TestRollback(t *testing.T) {
	netns.Run(t, func(t *testing.T) {
		n, _ := serve(t, testConfig(t))
		before, files := kernel(t), descriptors(t)
		total := len((&attachment{}).steps())
		for i := range total {
			for _, done := range []bool{false, true} {
				id := fmt.Sprintf("sandbox-%d-%v", i, done)
				pod := netns.New(t, id)
				a := begin(n, id, pod)
				steps := a.steps()
				do := steps[i].do
				steps[i].do = func() error {
					if done {
						if err := do(); err != nil {
							t.Fatal(err)
						}
					}
					return errInjected
				}
				if err := runSteps(t.Context(), steps); !errors.Is(err, errInjected) {
					t.Fatalf("step %s failed with %v", steps[i].name, err)
				}
				if diff := difference(before, kernel(t)); diff != "" {
					t.Errorf("after step %s failed:\n%s", steps[i].name, diff)
				}
				if held := n.held(); len(held) != 0 {
					t.Errorf("after step %s failed: leases %v", steps[i].name, held)
				}
				reaches(t, pod, add(t, n, id, pod))
				if err := n.detach(id); err != nil {
					t.Fatal(err)
				}
				pod.Destroy()
			}
		}
		if diff := difference(before, kernel(t)); diff != "" {
			t.Errorf("left in the end:\n%s", diff)
		}
		if got := descriptors(t); got > files {
			t.Errorf("%d open files, %d before", got, files)
		}
	})
}

// TestCrash stops attach dead after every step; the next run of the agent
// neither gives the address away nor trips over what is there, and removes
// all of it when the sandbox never came to be.
func TestCrash(t *testing.T) {
	netns.Run(t, func(t *testing.T) {
		cfg := testConfig(t)
		_, stop := serve(t, cfg)
		stop()
		before := kernel(t)
		steps := append([]step{{name: "nothing"}}, (&attachment{}).steps()...)
		for i := range steps {
			for _, live := range []bool{true, false} {
				id := fmt.Sprintf("sandbox-%d-%v", i, live)
				pod := netns.New(t, id)
				dead, stop := serve(t, cfg)
				a := begin(dead, id, pod)
				if err := runSteps(t.Context(), a.steps()[:i]); err != nil {
					t.Fatal(err)
				}
				_ = a.closeHandles() // as the process's end would
				stop()
				checkRevival(t, cfg, pod, a, live)
				if diff := difference(before, kernel(t)); diff != "" {
					t.Errorf("after a crash behind step %s, live %v:\n%s", steps[i].name, live, diff)
				}
			}
		}
	})
}

func checkRevival(t *testing.T, cfg Config, pod *netns.Host, a *attachment, live bool) {
	t.Helper()
	n, stop := serve(t, cfg)
	defer stop()
	if live {
		addrs := add(t, n, a.sandbox, pod)
		if a.hostSide != nil && fmt.Sprint(addrs) != fmt.Sprint(a.lease.Addresses) {
			t.Errorf("%s got %v after the crash, had %v", a.sandbox, addrs, a.lease.Addresses)
		}
		reaches(t, pod, addrs)
	}
	// Young: left alone. Old: removed.
	if err := n.Reconcile(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if live {
		reaches(t, pod, n.held()[0].Addresses)
	}
	later(n, 2*settle)
	if err := n.Reconcile(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if held := n.held(); len(held) != 0 {
		t.Errorf("%s: leases %v", a.sandbox, held)
	}
}

// TestUnmarked is the crash between a veth's creation and its marking, with
// its lease and without.
func TestUnmarked(t *testing.T) {
	netns.Run(t, func(t *testing.T) {
		cfg := testConfig(t)
		for _, lost := range []bool{false, true} {
			n, stop := serve(t, cfg)
			before := kernel(t)
			pod := netns.New(t, "pod")
			a := begin(n, "sandbox", pod)
			if err := runSteps(t.Context(), a.steps()[:2]); err != nil {
				t.Fatal(err)
			}
			if err := a.addVeth(); err != nil {
				t.Fatal(err)
			}
			_ = a.closeHandles()
			stop()
			if lost {
				if err := n.ledger.Drop("sandbox"); err != nil {
					t.Fatal(err)
				}
			}
			again, stop := serve(t, cfg)
			later(again, 2*settle)
			if err := again.Reconcile(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			if diff := difference(before, kernel(t)); diff != "" {
				t.Errorf("lease lost: %v:\n%s", lost, diff)
			}
			stop()
		}
	})
}

// TestManyAtOnce wires a full node side by side and takes it down again;
// what is counted before is counted after.
func TestManyAtOnce(t *testing.T) {
	netns.Run(t, func(t *testing.T) {
		const pods = 110
		n, _ := serve(t, testConfig(t))
		hosts := make([]*netns.Host, pods)
		for i := range hosts {
			hosts[i] = netns.New(t, fmt.Sprint("pod", i))
		}
		before, files := kernel(t), descriptors(t)
		began := time.Now()
		var adds sync.WaitGroup
		for i, h := range hosts {
			adds.Go(func() { add(t, n, h.Name, hosts[i]) })
		}
		adds.Wait()
		t.Logf("%d pods in %v", pods, time.Since(began))
		seen := map[string]bool{}
		for i, l := range n.held() {
			for _, a := range l.Addresses {
				if seen[a.String()] {
					t.Errorf("%s is leased twice", a)
				}
				seen[a.String()] = true
			}
			if i%20 == 0 {
				reaches(t, hostNamed(hosts, l.Sandbox), l.Addresses)
			}
		}
		if len(seen) != 2*pods {
			t.Errorf("%d addresses are leased, want %d", len(seen), 2*pods)
		}
		for _, h := range hosts {
			adds.Go(func() {
				if err := n.detach(h.Name); err != nil {
					t.Error(err)
				}
			})
		}
		adds.Wait()
		if diff := difference(before, kernel(t)); diff != "" {
			t.Errorf("left behind:\n%s", diff)
		}
		if got := descriptors(t); got > files {
			t.Errorf("%d open files, %d before", got, files)
		}
	})
}

func hostNamed(hosts []*netns.Host, name string) *netns.Host {
	for _, h := range hosts {
		if h.Name == name {
			return h
		}
	}
	return nil
}

// TestForeignPodLink refuses a namespace that somebody else wired, and
// leaves that wiring alone.
func TestForeignPodLink(t *testing.T) {
	netns.Run(t, func(t *testing.T) {
		n, _ := serve(t, testConfig(t))
		pod := netns.New(t, "pod")
		netns.Join(t, netns.End{Host: netns.Here(t), Link: "theirs", Addrs: parse("192.0.2.1/24")},
			netns.End{Host: pod, Link: "eth0", Addrs: parse("192.0.2.2/24")})
		before := kernel(t)
		if err := runSteps(t.Context(), begin(n, "sandbox", pod).steps()); err == nil {
			t.Error("wired a namespace that has an eth0")
		}
		if diff := difference(before, kernel(t)); diff != "" {
			t.Errorf("changed:\n%s", diff)
		}
	})
}

func BenchmarkAdd(b *testing.B) {
	netns.Bench(b, func(b *testing.B) {
		n, _ := serve(b, testConfig(b))
		cable(b)
		hosts := make([]*netns.Host, 0, 400)
		for i := range 400 {
			hosts = append(hosts, netns.New(b, fmt.Sprint("pod", i)))
		}
		b.ResetTimer()
		for i := range b.N {
			if i == len(hosts) {
				b.Fatal("run it with -benchtime=400x or less")
			}
			add(b, n, hosts[i].Name, hosts[i])
		}
	})
}
