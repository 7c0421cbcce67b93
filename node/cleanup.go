package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"pinnace/agent/cgroup"
	"pinnace/agent/record"
	"pinnace/agent/volume"
	"pinnace/containerd"
	"pinnace/cri"
	"pinnace/network"
	"pinnace/network/hook"
)

// runCleanup is `pinnace cleanup`: it ends every pod of this root, with
// SIGTERM and the pod's grace period but without hooks, and removes all that
// the agent ever made. What the agent was started with is read from its claim.
// The manifests are the operator's and stay. Running it twice changes nothing.
func runCleanup(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	cfg, err := parse("pinnace cleanup", args, stderr)
	if err != nil {
		return usageError{err}
	}
	if os.Geteuid() != 0 {
		return errors.New("must run as root")
	}
	was, err := cfg.claimed()
	if errors.Is(err, fs.ErrNotExist) {
		_, err = fmt.Fprintf(stdout, "nothing to clean up: no agent has run with --root %s\n", cfg.Root)
		return err
	}
	if err != nil {
		return err
	}
	cfg.adopt(was)
	release, err := cfg.own()
	if err != nil {
		return fmt.Errorf("%w; stop it first", err)
	}
	defer release()
	h := &house{cfg: cfg, log: slog.New(slog.NewTextHandler(stderr, nil)), began: time.Now(), systemd: systemd()}
	if err := h.clean(ctx); err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "removed every pod and all that belonged to %s; manifests are yours and stay\n", cfg.Root)
	return err
}

// clean takes everything down in order. What others may still use is left
// where a step before could not do its work.
func (h *house) clean(ctx context.Context) error {
	var errs []error
	for i, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"end the pods", h.endPods},
		{"stop containerd", h.stopRuntime},
		{"remove the pods' files", h.removePods},
		{"remove links, rules and addresses", func(context.Context) error { return network.Cleanup(h.cfg.networkConfig(h)) }},
		{"remove cgroups", func(context.Context) error { return h.cleanCgroups() }},
	} {
		err := step.do(ctx)
		if i == 0 && err != nil && h.cfg.CRIEndpoint == "" {
			h.log.Warn("pods did not end in order; they end with their containerd", "err", err)
			err = nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s: %w; run cleanup again to go on", step.name, ctx.Err())
		}
		if err != nil && h.cfg.CRIEndpoint != "" {
			return fmt.Errorf("%s: %w; nothing after it was removed", step.name, err)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", step.name, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return h.removeFolders()
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
		endpoint, h.daemon = daemon.Endpoint(), daemon
	}
	client, err := cri.Dial(endpoint)
	if err != nil {
		return err
	}
	defer client.Close()
	name, _, err := client.Version(ctx)
	if err != nil {
		return err
	}
	h.containerd = name == "containerd"
	if h.cfg.CRIEndpoint != "" {
		driver, err := client.CgroupDriver(ctx)
		if err != nil {
			return err
		}
		h.systemd = driver == "systemd"
	}
	if err := h.stopContainers(ctx, client); err != nil {
		return err
	}
	sandboxes, err := client.Sandboxes(ctx, h.ours())
	if err != nil {
		return err
	}
	var g errgroup.Group
	g.SetLimit(6)
	for _, s := range sandboxes {
		g.Go(func() error {
			if err := client.StopSandbox(ctx, s.ID); err != nil {
				return err
			}
			return client.RemoveSandbox(ctx, s.ID)
		})
	}
	if err := g.Wait(); err != nil || h.cfg.CRIEndpoint == "" || h.cfg.Network == "cni" {
		return err
	}
	return h.withdrawHook(ctx, client)
}

// stopContainers gives every container of ours SIGTERM and its pod's grace
// period, side by side.
func (h *house) stopContainers(ctx context.Context, client *cri.Client) error {
	containers, err := client.Containers(ctx, h.ours())
	if err != nil {
		return err
	}
	grace := h.graces()
	var g errgroup.Group // one that fails takes nobody else's time
	for _, c := range containers {
		g.Go(func() error {
			if c.State == cri.ContainerRunning {
				return client.StopContainer(ctx, c.ID, cmp.Or(grace[c.PodUID], cleanupGrace))
			}
			return h.bury(ctx, c.ID)
		})
	}
	return g.Wait()
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
	return hook.Uninstall(bin, conf)
}

// cleanupGrace is for containers of pods that the record does not know.
const cleanupGrace = 10 * time.Second

// graces are the grace periods of the recorded pods by UID.
func (h *house) graces() map[string]time.Duration {
	all := map[string]time.Duration{}
	store, err := record.Open(h.path("records"), time.Now, h.log)
	if err != nil {
		return all
	}
	for _, pod := range store.List() {
		if s := pod.Spec.TerminationGracePeriodSeconds; s != nil {
			all[string(pod.UID)] = time.Duration(*s) * time.Second
		}
	}
	return all
}

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
	tree, err := cgroup.New(cgroup.Config{Root: h.cfg.cgroupRoot(), Systemd: h.systemd})
	if err != nil {
		return err
	}
	return tree.Clean()
}

// removeFolders removes what lies below the root and run folders and is ours
// by name, then the folders themselves if nothing else is in them. What an
// operator put there stays: registry.json, seccomp profiles, image files. The
// pods' folders are empty by now; they are not walked, lest a mount is left.
func (h *house) removeFolders() error {
	var errs []error
	if err := os.Remove(h.path("pods")); err != nil && !os.IsNotExist(err) {
		return err
	}
	for _, name := range []string{"containerd", "cni", "records", "logs", "images.json", claimName, lockName} {
		errs = append(errs, os.RemoveAll(h.path(name)))
	}
	for _, name := range []string{"containerd", "leases", "pods", "net.sock", "prefixes.json", socketName, claimName, lockName} {
		errs = append(errs, os.RemoveAll(filepath.Join(h.cfg.Run, name)))
	}
	for _, dir := range []string{h.path("images"), h.path("seccomp"), h.cfg.Root, h.cfg.Run} {
		_ = os.Remove(dir) // stays when something is left in it
	}
	return errors.Join(errs...)
}
