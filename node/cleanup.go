package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"pinnace/agent/cgroup"
	"pinnace/agent/volume"
	"pinnace/containerd"
	"pinnace/cri"
	"pinnace/network"
)

// runCleanup is `pinnace cleanup`: it ends every pod of this root in its own
// time and removes all that the agent ever made. The manifests are the
// operator's and stay. Running it twice changes nothing.
func runCleanup(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	cfg, err := parse("pinnace cleanup", args, stderr)
	if err != nil {
		return usageError{err}
	}
	if os.Geteuid() != 0 {
		return errors.New("must run as root")
	}
	unlock, err := lock(cfg.Root)
	if err != nil {
		return fmt.Errorf("%w: stop it first", err)
	}
	defer unlock()
	h := &house{cfg: cfg, log: slog.New(slog.NewTextHandler(stderr, nil)), began: time.Now()}
	var errs []error
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"end the pods", h.endPods},
		{"stop containerd", h.stopRuntime},
		{"remove the pods' files", h.removePods},
		{"remove links, rules and addresses", func(context.Context) error { return network.Cleanup(cfg.networkConfig(h)) }},
		{"remove cgroups", func(context.Context) error { return h.cleanCgroups() }},
		{"remove folders", func(context.Context) error { return h.removeFolders() }},
	} {
		if err := step.do(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", step.name, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "removed every pod and all that belonged to %s; the manifests in %s are yours and stay\n", cfg.Root, cfg.Manifests)
	return err
}

// endPods stops and removes everything of ours in the runtime. A private
// containerd that is not running is started for it: only it can take its
// containers down in order.
func (h *house) endPods(ctx context.Context) error {
	endpoint := h.cfg.CRIEndpoint
	if endpoint == "" {
		if !exists(h.path("containerd")) {
			return nil
		}
		daemon, err := containerd.New(h.cfg.containerdConfig(h))
		if err != nil {
			h.log.Warn("containers end with their processes: containerd cannot be asked", "err", err)
			return nil
		}
		if err := daemon.Start(ctx); err != nil {
			return err
		}
		endpoint = daemon.Endpoint()
	}
	client, err := cri.Dial(endpoint)
	if err != nil {
		return err
	}
	defer client.Close()
	containers, err := client.Containers(ctx, h.ours())
	if err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(32)
	for _, c := range containers {
		if c.State != cri.ContainerRunning {
			continue
		}
		g.Go(func() error { return client.StopContainer(gctx, c.ID, cleanupGrace) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	sandboxes, err := client.Sandboxes(ctx, h.ours())
	if err != nil {
		return err
	}
	g, gctx = errgroup.WithContext(ctx)
	g.SetLimit(parallelStarts)
	for _, s := range sandboxes {
		g.Go(func() error {
			if err := client.StopSandbox(gctx, s.ID); err != nil {
				return err
			}
			return client.RemoveSandbox(gctx, s.ID)
		})
	}
	if err := g.Wait(); err != nil || h.cfg.CRIEndpoint == "" || h.cfg.Network == "cni" {
		return err
	}
	return h.withdrawHook(ctx, client)
}

// withdrawHook takes the hook out of a shared runtime, unless pods of others
// still need it for their own removal.
func (h *house) withdrawHook(ctx context.Context, client *cri.Client) error {
	others, err := client.Sandboxes(ctx, nil)
	if err != nil {
		return err
	}
	status, err := client.Status(ctx)
	if err != nil {
		return err
	}
	bin, conf, err := cniFolders(status.Info["config"])
	if err != nil {
		return err
	}
	if len(others) > 0 && exists(filepath.Join(conf, ownConflist)) {
		h.log.Warn("left the CNI hook in place: pods of others are on this runtime; run cleanup again when they are gone",
			"pods", len(others), "file", filepath.Join(conf, ownConflist))
		return nil
	}
	return network.Uninstall(bin, conf)
}

// cleanupGrace is how long cleanup waits for a container after SIGTERM.
const cleanupGrace = 10 * time.Second

func (h *house) removePods(ctx context.Context) error {
	return volume.Sweep(ctx, h.path("pods"), func(string) bool { return false })
}

// stopRuntime ends the private containerd and what is left of its containers,
// also when its program is not installed any more.
func (h *house) stopRuntime(ctx context.Context) error {
	if h.cfg.CRIEndpoint != "" {
		return nil
	}
	return containerd.Cleanup(ctx, h.cfg.containerdConfig(h))
}

func (h *house) cleanCgroups() error {
	tree, err := cgroup.New(cgroup.Config{Root: h.cfg.cgroupRoot(), Systemd: systemd()})
	if err != nil {
		return err
	}
	return tree.Clean()
}

// removeFolders removes what lies below the root and run folders and is ours
// by name, then the folders themselves if nothing else is in them. What an
// operator put there stays: registry.json, seccomp profiles, image files.
func (h *house) removeFolders() error {
	var errs []error
	for _, name := range []string{"containerd", "cni", "records", "logs", "pods", "images.json", "lock"} {
		errs = append(errs, os.RemoveAll(h.path(name)))
	}
	for _, name := range []string{"containerd", "leases", "pods", "net.sock", socketName} {
		errs = append(errs, os.RemoveAll(filepath.Join(h.cfg.Run, name)))
	}
	for _, dir := range []string{h.path("images"), h.path("seccomp"), h.cfg.Root, h.cfg.Run} {
		_ = os.Remove(dir) // stays when something is left in it
	}
	return errors.Join(errs...)
}
