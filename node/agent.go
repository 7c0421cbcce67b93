package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"

	"pinnace/agent"
	"pinnace/agent/cgroup"
	"pinnace/agent/etc"
	"pinnace/agent/image"
	"pinnace/agent/manifest"
	"pinnace/agent/record"
	"pinnace/agent/volume"
	"pinnace/containerd"
	"pinnace/cri"
	"pinnace/network"
)

// pauseImage is the sandbox image of the private containerd.
const pauseImage = "localhost/pinnace/pause:1"

// house is everything that one agent is made of.
type house struct {
	cfg     *Config
	log     *slog.Logger
	began   time.Time
	daemon  *containerd.Daemon // nil with --cri-endpoint
	runtime *cri.Client
	network *network.Network // nil with --network cni
	cgroups *cgroup.Tree
	store   *record.Store
	dir     *manifest.Directory
	files   verdicts
	systemd bool // drives the runtime's cgroups

	containerd bool // is the runtime's name
}

// runAgent is `pinnace agent`: it runs until it is told to leave.
func runAgent(ctx context.Context, args []string, _, stderr io.Writer) error {
	cfg, err := parse("pinnace agent", args, stderr)
	if err != nil {
		return usageError{err}
	}
	if os.Geteuid() != 0 {
		return errors.New("must run as root: it makes network links, mounts and cgroups")
	}
	least, err := level(cfg.LogLevel)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: least}))
	klog.SetSlogLogger(log) // client-go's own voice
	release, err := cfg.own()
	if err != nil {
		return err
	}
	defer release()
	h := &house{cfg: cfg, log: log, began: time.Now()}
	if err := h.open(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	defer h.runtime.Close()
	log.Info("ready", "node", cfg.NodeName, "manifests", cfg.Manifests, "took", time.Since(h.began).Round(time.Millisecond))
	err = h.serve(ctx)
	if ctx.Err() != nil {
		log.Info("left; the pods go on. `pinnace cleanup --root " + cfg.Root + " --run " + cfg.Run + "` ends them")
		return nil
	}
	return err
}

// open brings up the parts in the order in which they need each other. Every
// step finds what an agent before this one has left and takes it up.
func (h *house) open(ctx context.Context) error {
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"make folders", h.folders},
		{"wire the network", h.openNetwork},
		{"start the runtime", h.openRuntime},
		{"find the cgroups", h.openCgroups},
		{"reconcile addresses", h.reconcile},
		{"load images", h.loadImages},
		{"read the record", h.openRecord},
	} {
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return nil
}

// serve runs every loop until one fails or ctx ends.
func (h *house) serve(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	if h.daemon != nil {
		g.Go(func() error { return h.daemon.Run(ctx) })
		g.Go(func() error { return h.daemon.Sweep(ctx) })
	}
	a, err := h.agent()
	if err != nil {
		return err
	}
	// The hook is served until the last worker has left: a sandbox that is
	// being made still asks for its link.
	linger, left := context.WithCancel(context.WithoutCancel(ctx))
	g.Go(func() error { defer left(); return a.Run(ctx) })
	if h.network != nil {
		g.Go(func() error { return h.network.Run(linger) })
		g.Go(func() error { return h.keepReconciling(ctx) })
	}
	g.Go(func() error { return h.dir.Run(ctx, func(s manifest.Snapshot) { h.apply(ctx, s) }) })
	g.Go(func() error { return h.answer(ctx) })
	return g.Wait()
}

func (h *house) agent() (*agent.Agent, error) {
	ips := h.cfg.NodeIPs
	if len(ips) == 0 {
		ips = nodeIPs(h.cfg.Pods)
	}
	facts, capacity, err := machine(h.cgroups.Unified(), h.cfg.Root)
	if err != nil {
		return nil, err
	}
	return agent.New(agent.Config{
		Node: agent.Node{
			Name:        h.cfg.NodeName,
			Instance:    h.cfg.Instance(),
			IPs:         ips,
			Allocatable: capacity,
			Facts:       facts,
			ResolvConf:  h.cfg.ResolvConf,
			DNS:         etc.ClusterDNS{Servers: h.cfg.DNS.Servers, Domain: h.cfg.DNS.Domain},
		},
		Paths:    agent.Paths{Root: h.cfg.Root, Run: h.cfg.Run},
		Source:   h.store,
		Runtime:  advised{h.runtime},
		Images:   image.New(image.Config{Runtime: h.runtime, RegistryFile: h.path("registry.json"), Parallel: 4, Logger: h.log}),
		Cgroups:  h.cgroups,
		Exits:    h.exits,
		Bury:     h.bury,
		Logger:   h.log,
		Parallel: parallelStarts(),
	}), nil
}

// parallelStarts is how many sandboxes, and how many containers beside them,
// are started at once: one of each more than there are cores, as the runtime
// gains nothing from more (docs/benchmarks.md).
func parallelStarts() int { return min(runtime.NumCPU()+1, 6) }

// exits follows the runtime's events: CRI's own, or containerd's where the
// runtime is too old for them.
func (h *house) exits(ctx context.Context, exited func(string)) error {
	if h.daemon != nil {
		return containerd.Exits(ctx, h.daemon.Endpoint(), exited)
	}
	err := h.runtime.Exits(ctx, exited)
	if errors.Is(err, cri.ErrNoEvents) {
		return containerd.Exits(ctx, h.cfg.CRIEndpoint, exited)
	}
	return err
}

// path is a path below the root.
func (h *house) path(elem ...string) string {
	return filepath.Join(append([]string{h.cfg.Root}, elem...)...)
}

func (h *house) folders(context.Context) error {
	for dir, mode := range map[string]os.FileMode{
		h.cfg.Root: 0o711, h.cfg.Run: 0o711, h.path("images"): 0o755, h.path("pods"): 0o711,
		h.path("logs"): 0o755, h.path("records"): 0o700, h.path("seccomp"): 0o755,
	} {
		if err := os.MkdirAll(dir, mode); err != nil {
			return err
		}
	}
	return nil
}

// openRecord reads the pods that were accepted before, and removes the
// folders of pods that neither the record nor the runtime knows.
func (h *house) openRecord(ctx context.Context) error {
	var err error
	if h.store, err = record.Open(h.path("records"), time.Now, h.log); err != nil {
		return err
	}
	check := checker(h.cfg.NodeName)
	h.dir = manifest.Open(h.cfg.Manifests, check, h.log)
	known := map[string]bool{}
	for _, pod := range h.store.List() {
		known[string(pod.UID)] = true
	}
	sandboxes, err := h.runtime.Sandboxes(ctx, h.ours())
	if err != nil {
		return err
	}
	for _, s := range sandboxes {
		known[s.UID] = true
	}
	if err := volume.Sweep(ctx, h.path("pods"), func(uid string) bool { return known[uid] }); err != nil {
		h.log.Warn("left folders of old pods behind", "err", err)
	}
	return h.sweepCgroups(known)
}

func (h *house) sweepCgroups(known map[string]bool) error {
	uids, err := h.cgroups.Pods()
	if err != nil {
		return err
	}
	for _, uid := range uids {
		if known[uid] {
			continue
		}
		if err := h.cgroups.Remove(uid); err != nil {
			h.log.Warn("left a cgroup of an old pod behind", "uid", uid, "err", err)
		}
	}
	return nil
}

// ours is the label of everything that this agent has in the runtime.
func (h *house) ours() map[string]string {
	return map[string]string{cri.LabelInstance: h.cfg.Instance()}
}
