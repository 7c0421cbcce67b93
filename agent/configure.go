package agent

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"pinnace/agent/env"
	"pinnace/agent/etc"
	"pinnace/agent/logs"
	"pinnace/agent/plan"
	"pinnace/agent/volume"
	"pinnace/cri"
)

// sandboxConfig is what the runtime is told about the pod as a whole. It is
// made anew when needed: the same pod gives the same text.
func (w *worker) sandboxConfig(attempt uint32) (*runtimeapi.PodSandboxConfig, error) {
	n := w.agent.cfg.Node
	host, _, err := etc.Hostname(w.pod, n.DNS.Domain)
	if err != nil {
		return nil, err
	}
	var resolv etc.Resolv
	if f, err := os.Open(n.ResolvConf); err == nil {
		resolv, err = etc.ParseResolv(f)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", n.ResolvConf, err)
		}
	}
	dns, warning := etc.DNS(w.pod, resolv, n.DNS)
	if warning != "" {
		w.log.Debug("dns fell back", "reason", warning)
	}
	return cri.SandboxConfig(w.pod, cri.SandboxOptions{
		Instance:     n.Instance,
		CgroupParent: w.agent.cfg.Cgroups.Parent(string(w.uid)),
		LogDirectory: w.logFolder(string(w.uid)),
		DNS:          dns,
		Hostname:     host,
		Attempt:      attempt,
	}), nil
}

// create makes a container in the pod's sandbox.
func (w *worker) create(ctx context.Context, s plan.Step) error {
	c, err := w.spec(s.Container)
	if err != nil {
		return err
	}
	cfg, err := w.containerConfig(c, s)
	if err != nil {
		return reasoned{"CreateContainerConfigError", err}
	}
	if err := w.bury(ctx, func(old cri.Container) bool { return old.Name == c.Name }); err != nil {
		return err
	}
	sb := w.got.Sandboxes[0]
	sc, err := w.sandboxConfig(sb.Attempt)
	if err != nil {
		return err
	}
	done, err := w.agent.starts.containers.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	w.trace.mark(&w.trace.create)
	id, err := w.agent.cfg.Runtime.CreateContainer(context.WithoutCancel(ctx), sb.ID, cfg, sc)
	if err != nil {
		return err
	}
	w.agent.own(w, id)
	made := cri.Container{
		ID: id, SandboxID: sb.ID, Name: c.Name, PodUID: string(w.uid), Attempt: s.Attempt,
		State: cri.ContainerCreated, CreatedAt: time.Now(), Annotations: cfg.Annotations,
	}
	w.got.Containers = slices.Insert(w.got.Containers, 0, made)
	return nil
}

func (w *worker) startContainer(ctx context.Context, s plan.Step) error {
	done, err := w.agent.starts.containers.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	w.trace.mark(&w.trace.start)
	whole := context.WithoutCancel(ctx)
	if err := w.agent.cfg.Runtime.StartContainer(whole, s.ID); err != nil {
		return err
	}
	w.log.Info("started a container", "container", s.Container, "attempt", s.Attempt, "id", s.ID)
	if err := w.lookContainer(whole, s.ID); err != nil {
		w.stale = true // it runs; what it looks like is seen with the next look
	}
	return nil
}

// containerConfig is what the runtime is told about one attempt.
func (w *worker) containerConfig(c *corev1.Container, s plan.Step) (*runtimeapi.ContainerConfig, error) {
	img := w.local.images[c.Name]
	if err := cri.VerifyRunAsNonRoot(w.pod, c, img); err != nil {
		return nil, err
	}
	n := w.agent.cfg.Node
	facts := env.Facts{NodeName: n.Name, HostIPs: n.IPs, PodIPs: w.got.Sandboxes[0].IPs, Allocatable: n.Allocatable}
	if w.pod.Spec.HostNetwork {
		facts.PodIPs = n.IPs
	}
	vars, err := env.Make(w.pod, c, facts)
	if err != nil {
		return nil, err
	}
	expand := env.Expand(vars)
	mounts, err := w.local.volumes.Mounts(w.pod, c, expand)
	if err != nil {
		return nil, err
	}
	own, message, err := w.ownMounts(c, s.Attempt)
	if err != nil {
		return nil, err
	}
	return cri.ContainerConfig(w.pod, c, cri.ContainerOptions{
		Instance:    n.Instance,
		Attempt:     s.Attempt,
		ImageRef:    img.ID,
		Image:       img,
		Env:         vars,
		Expand:      expand,
		Mounts:      append(mounts, own...),
		LogPath:     logs.File(c.Name, s.Attempt),
		Annotations: annotations(c, s.Backoff, message),
		Node:        n.Facts,
	})
}

// annotations are what the runtime keeps for us about one attempt.
func annotations(c *corev1.Container, backoff time.Duration, message string) map[string]string {
	return map[string]string{
		cri.AnnotationBackoff:       backoff.String(),
		cri.AnnotationMessagePath:   c.TerminationMessagePath,
		cri.AnnotationMessagePolicy: string(c.TerminationMessagePolicy),
		cri.AnnotationMessageFile:   message,
	}
}

// ownMounts are the files that the agent keeps for a container: /etc/hosts,
// unless the pod brings its own, and the termination message.
func (w *worker) ownMounts(c *corev1.Container, attempt uint32) (all []*runtimeapi.Mount, message string, err error) {
	dir := w.folder(string(w.uid))
	if !slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return filepath.Clean(m.MountPath) == "/etc/hosts" }) {
		file, err := w.hostsFile(dir)
		if err != nil {
			return nil, "", err
		}
		all = append(all, &runtimeapi.Mount{HostPath: file, ContainerPath: "/etc/hosts"})
	}
	if c.TerminationMessagePath == "" {
		return all, "", nil
	}
	name := filepath.Join("containers", c.Name, strconv.FormatUint(uint64(attempt), 10)+"-message")
	message, err = volume.File(dir, name, nil, 0o666)
	if err != nil {
		return nil, "", err
	}
	return append(all, &runtimeapi.Mount{HostPath: message, ContainerPath: filepath.Join("/", c.TerminationMessagePath)}), message, nil
}

// hostsFile writes the pod's /etc/hosts. It lies in the pod's folder and is
// shared by its containers.
func (w *worker) hostsFile(dir string) (string, error) {
	var nodes []byte
	if w.pod.Spec.HostNetwork {
		var err error
		if nodes, err = os.ReadFile("/etc/hosts"); err != nil && !os.IsNotExist(err) {
			return "", err
		}
	}
	text, err := etc.Hosts(w.pod, w.got.Sandboxes[0].IPs, w.agent.cfg.Node.DNS.Domain, nodes)
	if err != nil {
		return "", err
	}
	return volume.File(dir, "etc-hosts", text, 0o644)
}
