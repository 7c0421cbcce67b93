package plan

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pinnace/cri"
)

// statuses are the container statuses of one list of containers, in its order.
func (d *decision) statuses(specs []corev1.Container, old []corev1.ContainerStatus, node Node, init bool) []corev1.ContainerStatus {
	var all []corev1.ContainerStatus
	for i := range specs {
		c := &specs[i]
		var attempts []cri.Container
		for _, a := range d.got.Containers {
			if a.Name == c.Name && a.PodUID == string(d.want.UID) {
				attempts = append(attempts, a)
			}
		}
		if prev := named(old, c.Name); len(attempts) == 0 && prev != nil && terminal(d.want.Status.Phase) {
			all = append(all, *prev) // the runtime forgot it; what it was stays true
			continue
		}
		all = append(all, d.status(c, attempts, node, init))
	}
	return all
}

func named(all []corev1.ContainerStatus, name string) *corev1.ContainerStatus {
	for i := range all {
		if all[i].Name == name {
			return &all[i]
		}
	}
	return nil
}

// status of one container from its attempts, newest first.
func (d *decision) status(c *corev1.Container, attempts []cri.Container, node Node, init bool) corev1.ContainerStatus {
	s := corev1.ContainerStatus{Name: c.Name, Image: c.Image, Started: new(bool)}
	if len(attempts) == 0 {
		s.State.Waiting = d.waiting(c, init)
		return s
	}
	last := attempts[0]
	s.RestartCount = int32(last.Attempt)
	s.ContainerID = node.Runtime + "://" + last.ID
	s.ImageID = last.ImageRef
	if len(attempts) > 1 {
		s.LastTerminationState = terminated(attempts[1], node)
	}
	switch last.State {
	case cri.ContainerRunning:
		s.State.Running = &corev1.ContainerStateRunning{StartedAt: metav1.Time{Time: last.StartedAt}}
		d.readiness(&s, c, last, init)
	case cri.ContainerCreated, cri.ContainerUnknown:
		s.State.Waiting = d.waiting(c, init)
	case cri.ContainerExited:
		s.State = terminated(last, node)
		s.Ready = init && last.ExitCode == 0
		if !s.Ready {
			d.retrying(&s, c, last)
		}
	}
	return s
}

// readiness fills started and ready of a running container, which has not
// started before its postStart hook has ended.
func (d *decision) readiness(s *corev1.ContainerStatus, c *corev1.Container, last cri.Container, init bool) {
	mark := d.got.Marks[last.ID]
	started := (!hasPostStart(c) || mark.PostStart == Success) && (c.StartupProbe == nil || mark.Startup == Success)
	s.Started = &started
	s.Ready = started && !init && (c.ReadinessProbe == nil || mark.Readiness == Success)
}

// retrying turns an end into a wait when the container is going to run again
// but must not yet: the state says what it waits for, the last state how it
// ended.
func (d *decision) retrying(s *corev1.ContainerStatus, c *corev1.Container, last cri.Container) {
	if d.want.DeletionTimestamp != nil || terminal(d.want.Status.Phase) || !d.restarts(&last) {
		return
	}
	wait := d.failure(c)
	if at := restartAt(&last, d.now); wait == nil && d.now.Before(at) {
		wait = &corev1.ContainerStateWaiting{
			Reason: "CrashLoopBackOff",
			Message: fmt.Sprintf("back-off %s restarting failed container=%s pod=%s_%s(%s)",
				backoffOf(&last), c.Name, d.want.Name, d.want.Namespace, d.want.UID),
		}
	}
	if wait != nil {
		s.LastTerminationState, s.State = s.State, corev1.ContainerState{Waiting: wait}
	}
}

// waiting says what a container waits for that has no attempt to speak of.
func (d *decision) waiting(c *corev1.Container, init bool) *corev1.ContainerStateWaiting {
	if w := d.failure(c); w != nil {
		return w
	}
	w := &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}
	if init || len(d.want.Spec.InitContainers) > 0 {
		w.Reason = "PodInitializing"
	}
	for _, s := range []Subject{SubjectSetup, SubjectSandbox} {
		if f, ok := d.got.Failures[s]; ok {
			w.Message = f.Message
		}
	}
	return w
}

// failure is the wait that a failed pull, creation or start imposes.
func (d *decision) failure(c *corev1.Container) *corev1.ContainerStateWaiting {
	if f, ok := d.got.Failures[SubjectImage.Of(c.Name)]; ok {
		w := &corev1.ContainerStateWaiting{Reason: f.Reason, Message: f.Message}
		if f.Reason == "ErrImagePull" && f.Count > 1 {
			w.Reason = "ImagePullBackOff"
			w.Message = fmt.Sprintf("Back-off pulling image %q: %s", c.Image, f.Message)
		}
		return w
	}
	if f, ok := d.got.Failures[SubjectCreate.Of(c.Name)]; ok {
		return &corev1.ContainerStateWaiting{Reason: f.Reason, Message: f.Message}
	}
	return nil
}

func terminated(c cri.Container, node Node) corev1.ContainerState {
	if c.State != cri.ContainerExited {
		return corev1.ContainerState{}
	}
	t := &corev1.ContainerStateTerminated{
		ExitCode:    c.ExitCode,
		Reason:      c.Reason,
		Message:     c.Message,
		StartedAt:   metav1.Time{Time: c.StartedAt},
		FinishedAt:  metav1.Time{Time: c.FinishedAt},
		ContainerID: node.Runtime + "://" + c.ID,
	}
	if t.Reason == "" {
		t.Reason = "Error"
		if c.ExitCode == 0 {
			t.Reason = "Completed"
		}
	}
	return corev1.ContainerState{Terminated: t}
}
