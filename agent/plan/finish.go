package plan

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"pinnace/cri"
)

// deadline is the moment at which activeDeadlineSeconds ends the pod.
func (d *decision) deadline() (time.Time, bool) {
	s := d.want.Spec.ActiveDeadlineSeconds
	if s == nil || d.got.StartedAt.IsZero() {
		return time.Time{}, false
	}
	return d.got.StartedAt.Add(time.Duration(*s) * time.Second), true
}

// finished reports whether the pod has reached its terminal phase, which it
// never leaves.
func (d *decision) finished() bool {
	if terminal(d.want.Status.Phase) {
		return true
	}
	if at, ok := d.deadline(); ok && !d.now.Before(at) {
		return true
	}
	return d.spent()
}

func terminal(p corev1.PodPhase) bool {
	return p == corev1.PodSucceeded || p == corev1.PodFailed
}

// spent reports whether every container has had its last run, or an init
// container has failed that will not run again.
func (d *decision) spent() bool {
	if d.initFailed() {
		return true
	}
	for _, c := range d.want.Spec.Containers {
		last := d.last(c.Name)
		if last == nil || last.State != cri.ContainerExited || d.restarts(last) {
			return false
		}
	}
	return true
}

func (d *decision) initFailed() bool {
	if d.want.Spec.RestartPolicy != corev1.RestartPolicyNever {
		return false
	}
	for _, c := range d.want.Spec.InitContainers {
		last := d.last(c.Name)
		if last != nil && last.State == cri.ContainerExited && last.ExitCode != 0 {
			return true
		}
	}
	return false
}
