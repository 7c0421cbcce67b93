package fakecri

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"pinnace/cri"
)

// Config is what a fake runtime is made of; its zero value is a runtime
// without faults whose containers run until they are stopped.
type Config struct {
	// Seed makes ids and chances repeatable.
	Seed uint64
	// Script says what a container does once it is started; nil: it runs
	// until it is stopped.
	Script func(cfg *runtimeapi.ContainerConfig) Script
	// Faults are the chances of a fault at every call.
	Faults Faults
	// FirstIP is the first sandbox's address, 10.85.0.2 when zero.
	FirstIP netip.Addr
	// NoEvents makes Exits answer as an old runtime does.
	NoEvents bool
}

// Runtime is the fake. Its methods are safe for concurrent use.
type Runtime struct {
	cfg Config

	mu         sync.Mutex
	rand       *rand.Rand
	faults     Faults
	planned    map[Verb][]Fault
	down       bool
	notReady   string // why the network is not ready, "" when it is
	nextIP     netip.Addr
	sandboxes  map[string]*sandbox
	containers map[string]*container
	names      map[string]string // reserved name -> id
	store      *store
	streams    map[*stream]struct{}
}

// New returns an empty runtime. It starts nothing; what it waits for later
// are timers.
func New(cfg Config) *Runtime {
	if !cfg.FirstIP.IsValid() {
		cfg.FirstIP = netip.AddrFrom4([4]byte{10, 85, 0, 2})
	}
	return &Runtime{
		cfg:        cfg,
		rand:       rand.New(rand.NewPCG(cfg.Seed, 0)),
		faults:     cfg.Faults,
		planned:    map[Verb][]Fault{},
		nextIP:     cfg.FirstIP,
		sandboxes:  map[string]*sandbox{},
		containers: map[string]*container{},
		names:      map[string]string{},
		store:      newStore(),
		streams:    map[*stream]struct{}{},
	}
}

// Close does nothing; it is there because a client has it.
func (r *Runtime) Close() error { return nil }

// Version is that of the fake.
func (r *Runtime) Version(ctx context.Context) (name, version string, err error) {
	err = r.do(ctx, Look, "ask runtime's version", func() error { return nil })
	return "fakecri", "1", err
}

// Status is ready until SetNetworkNotReady says otherwise.
func (r *Runtime) Status(ctx context.Context) (cri.Status, error) {
	var s cri.Status
	err := r.do(ctx, Look, "ask runtime's status", func() error {
		s = cri.Status{RuntimeReady: true, NetworkReady: r.notReady == "", Reason: r.notReady}
		return nil
	})
	return s, err
}

// SetNetworkNotReady makes Status say that the network is not ready, and why;
// "" makes it ready again.
func (r *Runtime) SetNetworkNotReady(reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notReady = reason
}

// CgroupDriver is always cgroupfs.
func (r *Runtime) CgroupDriver(ctx context.Context) (string, error) {
	err := r.do(ctx, Look, "ask runtime's cgroup driver", func() error { return nil })
	return "cgroupfs", err
}

// Reboot is the host losing power and coming back with its disk: every
// process and network is gone, every sandbox not ready, every running
// container exited with 255 and nobody knows why. Streams end.
func (r *Runtime) Reboot() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.sandboxes {
		s.ready, s.ips = false, nil
	}
	for _, c := range r.containers {
		if c.state == cri.ContainerRunning {
			c.end(exit{code: 255, reason: "Unknown"})
		}
	}
	r.endStreams()
}

// SetDown stops the daemon, or starts it again. Meanwhile containers go on,
// calls fail and no event is sent.
func (r *Runtime) SetDown(down bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down = down
	if down {
		r.endStreams()
	}
}

// Observed is the whole truth, without faults: every sandbox and container
// with all that there is to know of it, ordered as the lists are.
func (r *Runtime) Observed() ([]cri.Sandbox, []cri.Container) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var sandboxes []cri.Sandbox
	for _, s := range r.sandboxes {
		sandboxes = append(sandboxes, s.observed())
	}
	var containers []cri.Container
	for _, c := range r.containers {
		containers = append(containers, c.observed())
	}
	cri.SortSandboxes(sandboxes)
	cri.SortContainers(containers)
	return sandboxes, containers
}

// newID is 64 hex digits, as containerd's are.
func (r *Runtime) newID() string {
	var b [32]byte
	for i := range b {
		b[i] = byte(r.rand.UintN(256))
	}
	return hex.EncodeToString(b[:])
}

// reserve takes a name until release; a second taker is refused in
// containerd's words.
func (r *Runtime) reserve(kind, name, id string) error {
	if owner, taken := r.names[name]; taken {
		return fmt.Errorf("failed to reserve %s name %q: name %q is reserved for %q", kind, name, name, owner)
	}
	r.names[name] = id
	return nil
}

// notFound is an error that is cri.ErrNotFound, in containerd's words.
func notFound(kind, id string) error {
	return fmt.Errorf("an error occurred when try to find %s %q: %w", kind, id, cri.ErrNotFound)
}

// gone turns the absence of what is to be removed into success.
func gone(err error) error {
	if errors.Is(err, cri.ErrNotFound) {
		return nil
	}
	return err
}

// has reports whether labels hold all of want.
func has(labels, want map[string]string) bool {
	for k, v := range want {
		if labels[k] != v {
			return false
		}
	}
	return true
}
