package plan

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"pinnace/cri"
)

// The delays between two starts of one container, as the Pod API documents
// them: the first restart is immediate, then 10 s, doubling up to 5 min; ten
// minutes of running wipe the slate.
const (
	backoffFirst = 10 * time.Second
	backoffMost  = 5 * time.Minute
	backoffReset = 10 * time.Minute
)

// containers goes through the init containers in order and, when they are
// done, through the containers.
func (d *decision) containers(s *cri.Sandbox) {
	if !d.begun(s) {
		for i := range d.want.Spec.InitContainers {
			if !d.initContainer(&d.want.Spec.InitContainers[i], s) {
				return
			}
		}
		for i := range d.want.Spec.Containers {
			d.image(&d.want.Spec.Containers[i]) // fetched side by side, started in order
		}
	}
	for i := range d.want.Spec.Containers {
		if !d.container(&d.want.Spec.Containers[i], s) {
			return
		}
	}
}

// begun reports whether a container has been made in the sandbox, which says
// that the init containers have done their work there.
func (d *decision) begun(s *cri.Sandbox) bool {
	for _, c := range d.want.Spec.Containers {
		if last := d.last(c.Name); last != nil && last.SandboxID == s.ID {
			return true
		}
	}
	return false
}

// last is the newest attempt of a container of the wanted pod, nil when there
// was none.
func (d *decision) last(name string) *cri.Container {
	for i := range d.got.Containers {
		if c := &d.got.Containers[i]; c.Name == name && c.PodUID == string(d.want.UID) {
			return c
		}
	}
	return nil
}

// initContainer moves one init container on and reports whether it is done.
func (d *decision) initContainer(c *corev1.Container, s *cri.Sandbox) bool {
	last := d.last(c.Name)
	switch {
	case last == nil || last.SandboxID != s.ID:
		d.start(c, last)
	case last.State == cri.ContainerCreated:
		d.begin(last)
	case last.State == cri.ContainerUnknown:
		d.stop(*last, d.grace(), "the runtime lost sight of it", true)
	case last.State == cri.ContainerExited && last.ExitCode == 0:
		return true
	case last.State == cri.ContainerExited:
		d.start(c, last)
	}
	return false
}

// container moves one container on and reports whether the next one may
// start: containers start in order, and a postStart hook holds up the rest.
func (d *decision) container(c *corev1.Container, s *cri.Sandbox) bool {
	last := d.last(c.Name)
	switch {
	case last == nil:
		return d.start(c, nil)
	case last.State == cri.ContainerExited && !d.restarts(last):
		return true
	case last.SandboxID != s.ID || last.State == cri.ContainerExited:
		return d.start(c, last)
	case last.State == cri.ContainerCreated:
		return d.begin(last)
	}
	return d.keep(c, last)
}

// keep looks after a running container.
func (d *decision) keep(c *corev1.Container, last *cri.Container) bool {
	mark := d.got.Marks[last.ID]
	switch {
	case last.State == cri.ContainerUnknown:
		d.stop(*last, d.grace(), "the runtime lost sight of it", true)
	case mark.Startup == Failed:
		d.stop(*last, d.probeGrace(c.StartupProbe), "its startup probe failed", true)
	case mark.Liveness == Failed:
		d.stop(*last, d.probeGrace(c.LivenessProbe), "its liveness probe failed", true)
	case mark.PostStart == Failed:
		d.stop(*last, d.grace(), "its postStart hook failed", true)
	case hasPostStart(c) && mark.PostStart == Unknown:
		d.add(Step{Verb: PostStart, ID: last.ID, Container: c.Name})
		return false
	case mark.PostStart == Running:
		return false
	}
	return true
}

func hasPostStart(c *corev1.Container) bool {
	return c.Lifecycle != nil && c.Lifecycle.PostStart != nil
}

// probeGrace is how long a container may take to end after a probe failed.
func (d *decision) probeGrace(p *corev1.Probe) time.Duration {
	if p != nil && p.TerminationGracePeriodSeconds != nil {
		return time.Duration(*p.TerminationGracePeriodSeconds) * time.Second
	}
	return d.grace()
}

// begin starts a container that has been created, and reports whether the
// next one may go before it: only if this one has just failed to start.
func (d *decision) begin(c *cri.Container) bool {
	if d.blocked(SubjectCreate.Of(c.Name)) {
		return true
	}
	d.add(Step{Verb: Start, ID: c.ID, Container: c.Name, Attempt: c.Attempt})
	return false
}

// restarts reports whether the restart policy has an ended container run again.
func (d *decision) restarts(c *cri.Container) bool {
	switch d.want.Spec.RestartPolicy {
	case corev1.RestartPolicyNever:
		return false
	case corev1.RestartPolicyOnFailure:
		return c.ExitCode != 0 || d.got.Marks[c.ID].Restart
	}
	return true
}

// start makes the attempt that follows last, once its back-off is over and
// its image is there. It reports whether the next container may go before
// this one, as it may while this one waits out a back-off.
func (d *decision) start(c *corev1.Container, last *cri.Container) bool {
	attempt, backoff := uint32(0), time.Duration(0)
	if last != nil {
		attempt, backoff = last.Attempt+1, nextBackoff(last)
		if at := restartAt(last, d.now); d.now.Before(at) {
			d.wakeAt(at)
			return true
		}
	}
	if d.blocked(SubjectSetup) || d.blocked(SubjectCreate.Of(c.Name)) {
		return true
	}
	if !d.image(c) {
		return d.blocked(SubjectImage.Of(c.Name))
	}
	if !d.got.SetUp {
		d.add(Step{Verb: Setup})
	}
	d.add(Step{Verb: Create, Container: c.Name, Attempt: attempt, Backoff: backoff})
	return false
}

// image reports whether the image for the container's next attempt is there;
// if not it sees to it that somebody fetches it.
func (d *decision) image(c *corev1.Container) bool {
	attempt := uint32(0)
	if last := d.last(c.Name); last != nil {
		attempt = last.Attempt + 1
	}
	img := d.got.Images[c.Name]
	switch {
	case img.Pulling || d.asked(c.Name):
	case img.Attempt == attempt && img.Ref != "":
		return true
	case !d.blocked(SubjectImage.Of(c.Name)):
		d.add(Step{Verb: Pull, Container: c.Name, Attempt: attempt})
	}
	return false
}

// asked reports whether this very decision already fetches the image.
func (d *decision) asked(container string) bool {
	return slices.ContainsFunc(d.steps, func(s Step) bool { return s.Verb == Pull && s.Container == container })
}

// firstStarts are the containers that would start in a new sandbox: the
// first init container, or all containers that have not had their last run.
func (d *decision) firstStarts() []*corev1.Container {
	var next []*corev1.Container
	for i := range d.want.Spec.Containers {
		c := &d.want.Spec.Containers[i]
		if last := d.last(c.Name); last == nil || last.State != cri.ContainerExited || d.restarts(last) {
			next = append(next, c)
		}
	}
	if len(next) > 0 && len(d.want.Spec.InitContainers) > 0 {
		next = []*corev1.Container{&d.want.Spec.InitContainers[0]}
	}
	return next
}

// nextBackoff is what the attempt after c has to wait once it ends itself.
func nextBackoff(c *cri.Container) time.Duration {
	b := backoffOf(c)
	if b == 0 {
		return backoffFirst
	}
	return min(2*b, backoffMost)
}

// backoffOf is what has to pass between the end of c and its successor's start.
func backoffOf(c *cri.Container) time.Duration {
	if !c.StartedAt.IsZero() && c.FinishedAt.Sub(c.StartedAt) >= backoffReset {
		return 0
	}
	b, err := time.ParseDuration(c.Annotations[cri.AnnotationBackoff])
	if err != nil {
		return 0
	}
	return b
}

// restartAt is when c may be followed by its next attempt. An end that lies
// in the future comes from a clock that was set back, and counts as now long
// past: starting early is better than waiting for yesterday to return.
func restartAt(c *cri.Container, now time.Time) time.Time {
	if c.State != cri.ContainerExited || now.Before(c.FinishedAt) {
		return time.Time{}
	}
	return c.FinishedAt.Add(backoffOf(c))
}
