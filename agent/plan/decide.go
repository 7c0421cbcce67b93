package plan

import (
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"pinnace/cri"
)

// orphanGrace is how long the containers of a pod may take to end when
// nobody can say any more how long the pod itself allowed.
const orphanGrace = 30 * time.Second

// Decide says what to do next for a pod, and when to look again if nothing
// else happens before (zero: not needed). want is nil when no pod of that
// name is wanted. The steps are to be taken in their order, up to the first
// that fails; then, or when all are taken, ask again.
//
//	strangers ──► terminate ──► retire ──► run
//	(another UID  (deletion     (terminal  (set up, sandbox, init
//	 under the     timestamp)    phase)     containers, containers)
//	 name)
func Decide(want *corev1.Pod, got *Observed, now time.Time) ([]Step, time.Time) {
	d := &decision{want: want, got: got, now: now}
	switch {
	case d.strangers():
	case want == nil:
	case want.DeletionTimestamp != nil:
		d.terminate()
	case d.finished():
		d.retire()
	default:
		d.run()
	}
	return d.steps, d.wake
}

type decision struct {
	want  *corev1.Pod
	got   *Observed
	now   time.Time
	steps []Step
	wake  time.Time
}

func (d *decision) add(s Step) {
	if s.UID == "" && d.want != nil {
		s.UID = string(d.want.UID)
	}
	d.steps = append(d.steps, s)
}

// wakeAt asks for another look at t, if none sooner is asked for.
func (d *decision) wakeAt(t time.Time) {
	if d.wake.IsZero() || t.Before(d.wake) {
		d.wake = t
	}
}

// blocked reports whether a recent failure forbids to try s now.
func (d *decision) blocked(s Subject) bool {
	f, ok := d.got.Failures[s]
	if !ok || !d.now.Before(f.RetryAt) {
		return false
	}
	d.wakeAt(f.RetryAt)
	return true
}

// strangers clears away what runs under the pod's name and is not the pod:
// the remains of a pod that the source has forgotten. It reports whether
// there are any.
func (d *decision) strangers() bool {
	uids := map[string]bool{}
	for _, s := range d.got.Sandboxes {
		if d.want == nil || s.UID != string(d.want.UID) {
			uids[s.UID] = true
		}
	}
	for _, uid := range slices.Sorted(maps.Keys(uids)) {
		d.clear(uid, orphanGrace, "the pod is not wanted any more")
	}
	return len(uids) > 0
}

// terminate ends the pod in its own time and then says so to the source.
func (d *decision) terminate() {
	grace := orphanGrace
	if g := d.want.DeletionGracePeriodSeconds; g != nil {
		grace = time.Duration(*g) * time.Second
	}
	if d.clear(string(d.want.UID), grace, "the pod is deleted") {
		d.add(Step{Verb: Forget})
	}
}

// clear ends all containers of a UID, then removes everything of it. It
// reports whether the steps given so far lead to the end of it.
func (d *decision) clear(uid string, grace time.Duration, why string) bool {
	if d.stopAll(uid, grace, why) {
		return false
	}
	if d.blocked(SubjectRemove) || d.blocked(SubjectSandbox) {
		return false
	}
	for _, verb := range []Verb{StopSandbox, Teardown, RemoveSandbox} { // last the one by which the rest is found again
		if verb == Teardown {
			d.add(Step{Verb: Teardown, UID: uid})
			continue
		}
		for _, s := range d.got.Sandboxes {
			if s.UID == uid {
				d.add(Step{Verb: verb, ID: s.ID, UID: uid})
			}
		}
	}
	return true
}

// stopAll asks every living container of a UID to end and reports whether
// there is one. A stop under way is hurried when the grace has shrunk.
func (d *decision) stopAll(uid string, grace time.Duration, why string) bool {
	alive := false
	for _, c := range d.got.Containers {
		if c.PodUID != uid || !living(c) {
			continue
		}
		alive = true
		d.stop(c, grace, why, false)
	}
	return alive
}

func (d *decision) stop(c cri.Container, grace time.Duration, why string, restart bool) {
	if s, ok := d.got.Stopping[c.ID]; ok && s.Grace <= grace || d.blocked(SubjectRemove) {
		return
	}
	d.add(Step{Verb: Stop, ID: c.ID, Container: c.Name, UID: c.PodUID, Grace: grace, Reason: why, Restart: restart})
}

// living reports whether a container may have a process.
func living(c cri.Container) bool {
	return c.State == cri.ContainerRunning || c.State == cri.ContainerUnknown
}

// retire ends what still runs of a pod in its terminal phase and gives its
// address back. Its containers stay for their logs until the pod is deleted.
func (d *decision) retire() {
	uid := string(d.want.UID)
	if d.stopAll(uid, d.grace(), "the pod has finished") {
		return
	}
	if d.blocked(SubjectSandbox) {
		return
	}
	for _, s := range d.got.Sandboxes {
		if s.Ready {
			d.add(Step{Verb: StopSandbox, ID: s.ID})
		}
	}
	d.collect(nil)
}

// grace is the pod's own grace period.
func (d *decision) grace() time.Duration {
	if s := d.want.Spec.TerminationGracePeriodSeconds; s != nil {
		return time.Duration(*s) * time.Second
	}
	return orphanGrace
}

// run brings the pod up and keeps it up.
func (d *decision) run() {
	if at, ok := d.deadline(); ok {
		d.wakeAt(at)
	}
	current := d.sandbox()
	if d.stray(current) {
		return
	}
	if current == nil {
		d.openSandbox()
		return
	}
	d.containers(current)
	d.collect(current)
}

// sandbox is the newest ready sandbox, nil when there is none.
func (d *decision) sandbox() *cri.Sandbox {
	if s := d.got.Sandboxes; len(s) > 0 && s[0].Ready && s[0].UID == string(d.want.UID) {
		return &s[0]
	}
	return nil
}

// stray ends containers that outlived their sandbox. While one lives there
// must be no new sandbox: two of them would write to one volume.
func (d *decision) stray(current *cri.Sandbox) bool {
	alive := false
	for _, c := range d.got.Containers {
		if living(c) && (current == nil || c.SandboxID != current.ID) {
			alive = true
			d.stop(c, d.grace(), "its sandbox is gone", true)
		}
	}
	return alive
}

// openSandbox makes a sandbox, if anything is to run in it. The images are
// asked for at the same time, so that they are there when it is.
func (d *decision) openSandbox() {
	d.collect(nil)
	if d.blocked(SubjectSetup) || d.blocked(SubjectSandbox) {
		return
	}
	next := d.firstStarts()
	if len(next) == 0 {
		return
	}
	attempt := uint32(0)
	if len(d.got.Sandboxes) > 0 {
		old := d.got.Sandboxes[0]
		attempt = old.Attempt + 1
		d.add(Step{Verb: StopSandbox, ID: old.ID})
	}
	if !d.got.SetUp {
		d.add(Step{Verb: Setup})
	}
	for _, c := range next {
		d.image(c)
	}
	d.add(Step{Verb: RunSandbox, Attempt: attempt})
}

// collect removes what nobody can ask for any more: attempts older than the
// last but one of a container, and old sandboxes with nothing left in them.
func (d *decision) collect(current *cri.Sandbox) {
	if d.blocked(SubjectRemove) || d.blocked(SubjectSandbox) {
		return
	}
	seen, left := map[string]int{}, map[string]int{}
	for _, c := range d.got.Containers {
		seen[c.Name]++
		if seen[c.Name] > 2 && c.State == cri.ContainerExited {
			d.add(Step{Verb: RemoveContainer, ID: c.ID, Container: c.Name})
			continue
		}
		left[c.SandboxID]++
	}
	for i, s := range d.got.Sandboxes {
		if i > 0 && left[s.ID] == 0 && (current == nil || s.ID != current.ID) {
			d.add(Step{Verb: StopSandbox, ID: s.ID})
			d.add(Step{Verb: RemoveSandbox, ID: s.ID})
		}
	}
}
