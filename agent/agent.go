// Package agent runs the pods of one node. It owns one worker per pod name;
// a worker compares what its source wants with what the runtime shows, asks
// package plan what to do, does it, and publishes the pod's status. It never
// touches network links, never speaks gRPC and never starts a program: the
// caller hands it a runtime, a source of pods and the parts it acts through.
//
// Leaving is not killing: when the context of Run ends, workers finish the
// call they are in and go; every pod runs on, and the next agent takes it up
// from what the runtime, the source and RUN/pods remember.
package agent

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"pinnace/agent/etc"
	"pinnace/agent/logs"
	"pinnace/cri"
)

// Source is where pods come from and where their status goes: the shape of
// the Kubernetes API, near or far. A pod with a deletion timestamp is to be
// ended; Remove then says that nothing of it is left.
type Source interface {
	Get(types.NamespacedName) (*corev1.Pod, bool)
	Watch(ctx context.Context, changed func(types.NamespacedName)) error
	SetStatus(key types.NamespacedName, uid types.UID, s corev1.PodStatus) error
	Remove(key types.NamespacedName, uid types.UID) error
}

// Runtime is what the agent needs of a container runtime; *cri.Client has it.
type Runtime interface {
	sandboxes
	containers
	looks
	commands
}

type sandboxes interface {
	RunSandbox(ctx context.Context, cfg *runtimeapi.PodSandboxConfig, handler string) (string, error)
	StopSandbox(ctx context.Context, id string) error
	RemoveSandbox(ctx context.Context, id string) error
}

type containers interface {
	CreateContainer(ctx context.Context, sandbox string, cfg *runtimeapi.ContainerConfig, sc *runtimeapi.PodSandboxConfig) (string, error)
	StartContainer(ctx context.Context, id string) error
	StopContainer(ctx context.Context, id string, grace time.Duration) error
	RemoveContainer(ctx context.Context, id string) error
}

type looks interface {
	Sandboxes(ctx context.Context, labels map[string]string) ([]cri.Sandbox, error)
	Sandbox(ctx context.Context, id string) (cri.Sandbox, error)
	Containers(ctx context.Context, labels map[string]string) ([]cri.Container, error)
	Container(ctx context.Context, id string) (cri.Container, error)
}

type commands interface {
	Exec(ctx context.Context, id string, cmd []string, timeout time.Duration) (cri.ExecResult, error)
	ReopenLog(ctx context.Context, id string) error
}

// Images makes an image be there, as the pull policy says.
type Images interface {
	Ensure(ctx context.Context, ref string, policy corev1.PullPolicy) (cri.Image, error)
}

// Cgroups holds one cgroup per pod, by UID; *cgroup.Tree has it.
type Cgroups interface {
	Ensure(pod *corev1.Pod) error
	Remove(uid string) error
	Parent(uid string) string
	Unified() bool
}

// Node is what pods may know of the machine under them.
type Node struct {
	Name        string
	Instance    string // label value that marks what is ours in the runtime
	IPs         []netip.Addr
	Allocatable corev1.ResourceList
	Facts       cri.NodeFacts
	ResolvConf  string // the node's resolver file, for dnsPolicy Default
	DNS         etc.ClusterDNS
}

// Paths are the two folders of the agent: Root survives a reboot, Run does not.
type Paths struct{ Root, Run string }

// Config is all an Agent is made of. Every field is needed.
type Config struct {
	Node    Node
	Paths   Paths
	Source  Source
	Runtime Runtime
	Images  Images
	Cgroups Cgroups
	// Exits reports ended containers and sandboxes until its stream ends; it
	// is called again and again. An event only means: look.
	Exits func(ctx context.Context, exited func(id string)) error
	// Bury makes sure that nothing runs of a container whose start failed; nil
	// where the runtime can be trusted with that.
	Bury   func(ctx context.Context, id string) error
	Logger *slog.Logger
	// Parallel is how many sandboxes may be started at once, and as many
	// containers beside them.
	Parallel int
}

// The slow loops: a full look for what events lost, and the log sizes.
const (
	lookEvery   = 30 * time.Second
	rotateEvery = 10 * time.Second
)

// Agent runs pods. Make it with New, drive it with Run.
type Agent struct {
	cfg     Config
	rotator *logs.Rotator
	starts  lanes // what may be started at once

	mu      sync.Mutex
	workers map[types.NamespacedName]*worker
	owners  map[string]*worker // by container and sandbox id
	running sync.WaitGroup
}

// New allocates an agent; nothing happens before Run.
func New(cfg Config) *Agent {
	return &Agent{
		cfg:     cfg,
		rotator: logs.New(logs.Config{MaxSize: 10 << 20, MaxFiles: 5, Logger: cfg.Logger}, cfg.Runtime),
		starts:  newLanes(max(1, cfg.Parallel)),
		workers: map[types.NamespacedName]*worker{},
		owners:  map[string]*worker{},
	}
}

// Run takes up what runs, then keeps the node at what the source wants until
// ctx ends. It returns when every worker has left its pod; the pods go on.
func (a *Agent) Run(ctx context.Context) error {
	if err := a.restore(ctx); err != nil {
		return err
	}
	var loops sync.WaitGroup
	defer a.running.Wait()
	defer loops.Wait()
	loops.Go(func() { a.listen(ctx) })
	loops.Go(func() { a.every(ctx, lookEvery, func(ctx context.Context) { a.look(ctx) }) })
	loops.Go(func() { a.every(ctx, rotateEvery, a.rotate) })
	return a.cfg.Source.Watch(ctx, func(key types.NamespacedName) { a.worker(ctx, key).wake() })
}

// every calls f at each interval until ctx ends.
func (a *Agent) every(ctx context.Context, d time.Duration, f func(context.Context)) {
	t := time.NewTicker(d)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			f(ctx)
		}
	}
}

// worker returns the worker for a pod name and starts it if there is none.
func (a *Agent) worker(ctx context.Context, key types.NamespacedName) *worker {
	a.mu.Lock()
	defer a.mu.Unlock()
	if w, ok := a.workers[key]; ok {
		return w
	}
	w := newWorker(a, key)
	a.start(ctx, w)
	return w
}

// start runs a worker; the caller holds the lock.
func (a *Agent) start(ctx context.Context, w *worker) {
	a.workers[w.key] = w
	a.running.Go(func() { w.run(ctx) })
}

// leave takes a worker off the list when it has nothing left to do, unless
// somebody has woken it meanwhile.
func (a *Agent) leave(w *worker) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(w.trigger) > 0 || a.workers[w.key] != w {
		return false
	}
	delete(a.workers, w.key)
	for id, owner := range a.owners {
		if owner == w {
			delete(a.owners, id)
		}
	}
	return true
}

// own records which worker hears of an id's end.
func (a *Agent) own(w *worker, id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.owners[id] = w
}

func (a *Agent) disown(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.owners, id)
}

// lanes hold one token per start under way. Sandboxes and containers have a
// lane each, so that pods do not all wait for the last one's sandbox: the
// runtime works on a sandbox's links and a container's disk side by side.
type lanes struct{ sandboxes, containers lane }

type lane chan struct{}

func newLanes(width int) lanes { return lanes{make(lane, width), make(lane, width)} }

// begin waits for a free place among the starts under way. The place is
// given back by calling what it returns.
func (l lane) begin(ctx context.Context) (func(), error) {
	select {
	case l <- struct{}{}:
		return func() { <-l }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
