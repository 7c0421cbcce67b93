package agent

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"pinnace/agent/logs"
	"pinnace/agent/plan"
	"pinnace/agent/volume"
	"pinnace/cri"
)

// step does one step and brings the picture of the pod up to date with it.
// Calls that change something are not cut short when the agent leaves: they
// are given the time that cri allows for their kind.
func (w *worker) step(ctx context.Context, s plan.Step) error {
	whole := context.WithoutCancel(ctx)
	switch s.Verb {
	case plan.Setup:
		return w.setUp(whole)
	case plan.RunSandbox:
		return w.runSandbox(ctx, s)
	case plan.StopSandbox:
		return w.stopSandbox(whole, s)
	case plan.RemoveSandbox:
		return w.removeSandbox(whole, s)
	case plan.Pull:
		w.pull(ctx, s)
	case plan.Create:
		return w.create(ctx, s)
	case plan.Start:
		return w.startContainer(ctx, s)
	case plan.PostStart:
		w.postStart(ctx, s)
	case plan.Stop:
		w.stop(ctx, s)
	case plan.RemoveContainer:
		return w.removeContainer(whole, s)
	case plan.Teardown:
		return w.tearDown(whole, s.UID)
	case plan.Forget:
		return w.agent.cfg.Source.Remove(w.key, w.uid)
	}
	return nil
}

// folder is where the files of a pod lie.
func (w *worker) folder(uid string) string {
	return filepath.Join(w.agent.cfg.Paths.Root, "pods", uid)
}

func (w *worker) logFolder(uid string) string {
	return logs.Dir(w.agent.cfg.Paths.Root, w.key.Namespace, w.key.Name, uid)
}

// setUp makes what a sandbox needs before it: doing it again changes nothing.
func (w *worker) setUp(ctx context.Context) error {
	if err := w.agent.cfg.Cgroups.Ensure(w.pod); err != nil {
		return reasoned{"FailedCreatePodCgroup", err}
	}
	for _, dir := range []string{w.folder(string(w.uid)), w.logFolder(string(w.uid))} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	volumes, err := volume.Prepare(ctx, w.folder(string(w.uid)), w.pod)
	if err != nil {
		return err
	}
	w.local.volumes = volumes
	w.got.SetUp = true
	return nil
}

func (w *worker) runSandbox(ctx context.Context, s plan.Step) error {
	cfg, err := w.sandboxConfig(s.Attempt)
	if err != nil {
		return err
	}
	done, err := w.agent.starts.sandboxes.begin(ctx)
	if err != nil {
		return err
	}
	w.trace.mark(&w.trace.sandboxBegun)
	id, err := w.agent.cfg.Runtime.RunSandbox(context.WithoutCancel(ctx), cfg, "")
	done()
	if err != nil {
		return err
	}
	w.trace.mark(&w.trace.sandboxReady)
	sb := cri.Sandbox{
		ID: id, Name: w.key.Name, Namespace: w.key.Namespace, UID: string(w.uid),
		Attempt: s.Attempt, Ready: true, Labels: cfg.Labels, Annotations: cfg.Annotations,
	}
	w.agent.own(w, id)
	w.got.Sandboxes = slices.Insert(w.got.Sandboxes, 0, sb)
	return w.lookSandbox(ctx, id)
}

func (w *worker) stopSandbox(ctx context.Context, s plan.Step) error {
	if err := w.agent.cfg.Runtime.StopSandbox(ctx, s.ID); err != nil {
		return err
	}
	for i := range w.got.Sandboxes {
		if w.got.Sandboxes[i].ID == s.ID {
			w.got.Sandboxes[i].Ready = false
		}
	}
	return nil
}

// startError is the reason that runtimes give a container whose start failed.
const startError = "StartError"

// bury sees to it that no process is left of the containers, among those that
// match, whose start failed.
func (w *worker) bury(ctx context.Context, match func(cri.Container) bool) error {
	if w.agent.cfg.Bury == nil {
		return nil
	}
	for _, c := range w.got.Containers {
		if c.State == cri.ContainerExited && c.Reason == startError && match(c) {
			if err := w.agent.cfg.Bury(context.WithoutCancel(ctx), c.ID); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *worker) removeSandbox(ctx context.Context, s plan.Step) error {
	if err := w.bury(ctx, func(c cri.Container) bool { return c.SandboxID == s.ID }); err != nil {
		return err
	}
	if err := w.agent.cfg.Runtime.RemoveSandbox(ctx, s.ID); err != nil {
		return err
	}
	w.agent.disown(s.ID)
	w.got.Sandboxes = slices.DeleteFunc(w.got.Sandboxes, func(sb cri.Sandbox) bool { return sb.ID == s.ID })
	for _, c := range w.got.Containers {
		if c.SandboxID == s.ID {
			w.agent.disown(c.ID)
			delete(w.got.Marks, c.ID)
		}
	}
	w.got.Containers = slices.DeleteFunc(w.got.Containers, func(c cri.Container) bool { return c.SandboxID == s.ID })
	return nil
}

func (w *worker) removeContainer(ctx context.Context, s plan.Step) error {
	if err := w.bury(ctx, func(c cri.Container) bool { return c.ID == s.ID }); err != nil {
		return err
	}
	if err := w.agent.cfg.Runtime.RemoveContainer(ctx, s.ID); err != nil {
		return err
	}
	for _, c := range w.got.Containers {
		if c.ID == s.ID {
			w.dropFiles(c)
		}
	}
	w.agent.disown(s.ID)
	delete(w.got.Marks, s.ID)
	w.got.Containers = slices.DeleteFunc(w.got.Containers, func(c cri.Container) bool { return c.ID == s.ID })
	return nil
}

// dropFiles removes the log and the termination message of one attempt. What
// cannot be removed goes with the pod.
func (w *worker) dropFiles(c cri.Container) {
	attempt := filepath.Join(w.logFolder(c.PodUID), logs.File(c.Name, c.Attempt))
	files, _ := filepath.Glob(attempt + "*")
	if f := c.Annotations[cri.AnnotationMessageFile]; f != "" {
		files = append(files, f)
	}
	for _, f := range files {
		if err := os.Remove(f); err != nil && !os.IsNotExist(err) {
			w.log.Warn("left a file behind", "file", f, "err", err)
		}
	}
}

// tearDown removes what setUp made for a UID. The pod's containers are gone.
func (w *worker) tearDown(ctx context.Context, uid string) error {
	if !filepath.IsLocal(uid) || strings.ContainsRune(uid, '/') {
		return fmt.Errorf("tear down pod: %q is not a UID", uid)
	}
	w.probes.stop()
	if err := volume.Teardown(ctx, w.folder(uid)); err != nil {
		return err
	}
	if err := w.agent.cfg.Cgroups.Remove(uid); err != nil {
		return err
	}
	if err := os.RemoveAll(w.logFolder(uid)); err != nil {
		return err
	}
	if err := os.Remove(w.marksFile(uid)); err != nil && !os.IsNotExist(err) {
		return err
	}
	w.local.marks = savedMarks{}
	w.got.SetUp = false
	w.log.Info("removed the pod", "uid", uid)
	return nil
}

// spec is the container of that name in the pod wanted now.
func (w *worker) spec(name string) (*corev1.Container, error) {
	if w.pod != nil {
		for _, list := range [][]corev1.Container{w.pod.Spec.InitContainers, w.pod.Spec.Containers} {
			for i := range list {
				if list[i].Name == name {
					return &list[i], nil
				}
			}
		}
	}
	return nil, fmt.Errorf("container %s: not in the pod", name)
}
