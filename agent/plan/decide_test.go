package plan

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pinnace/cri"
)

var t0 = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

// web is a pod with one container, c, changed as a test needs it.
func web(change ...func(*corev1.Pod)) *corev1.Pod {
	grace := int64(30)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "u1"},
		Spec: corev1.PodSpec{
			RestartPolicy:                 corev1.RestartPolicyAlways,
			TerminationGracePeriodSeconds: &grace,
			Containers:                    []corev1.Container{{Name: "c", Image: "img"}},
		},
	}
	for _, f := range change {
		f(pod)
	}
	return pod
}

func policy(p corev1.RestartPolicy) func(*corev1.Pod) {
	return func(pod *corev1.Pod) { pod.Spec.RestartPolicy = p }
}

func inits(names ...string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		for _, n := range names {
			pod.Spec.InitContainers = append(pod.Spec.InitContainers, corev1.Container{Name: n, Image: "img"})
		}
	}
}

func second(pod *corev1.Pod) {
	pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: "d", Image: "img"})
}

func deleted(grace int64) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		pod.DeletionTimestamp = &metav1.Time{Time: t0}
		pod.DeletionGracePeriodSeconds = &grace
	}
}

func hooked(pod *corev1.Pod) {
	pod.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"x"}}}}
}

func box(id string, attempt uint32, ready bool) cri.Sandbox {
	return cri.Sandbox{ID: id, UID: "u1", Attempt: attempt, Ready: ready, CreatedAt: t0}
}

func ran(name string, attempt uint32, state cri.ContainerState, code int32) cri.Container {
	c := cri.Container{
		ID: name + string(rune('0'+attempt)), Name: name, PodUID: "u1", SandboxID: "s0", Attempt: attempt,
		State: state, ExitCode: code, StartedAt: t0.Add(-time.Minute),
	}
	if state == cri.ContainerExited {
		c.FinishedAt = t0
	}
	return c
}

func waits(c cri.Container, b time.Duration) cri.Container {
	c.Annotations = map[string]string{cri.AnnotationBackoff: b.String()}
	return c
}

func in(sandbox string, c cri.Container) cri.Container {
	c.SandboxID = sandbox
	return c
}

const (
	created = cri.ContainerCreated
	up      = cri.ContainerRunning
	down    = cri.ContainerExited
)

func boxes(s ...cri.Sandbox) []cri.Sandbox     { return s }
func tries(c ...cri.Container) []cri.Container { return c }
func image(attempt uint32) map[string]Image {
	return map[string]Image{"c": {Attempt: attempt, Ref: "img"}}
}

func TestDecide(t *testing.T) {
	ready := boxes(box("s0", 0, true))
	lost := boxes(box("s0", 0, false))
	for _, tc := range []struct {
		name string
		want *corev1.Pod
		got  Observed
		now  time.Time // t0 when zero
		do   []Step
		wake time.Time
	}{
		{name: "nothing wanted, nothing there"},
		{
			name: "a new pod: set up, images beside the sandbox",
			want: web(second),
			do: []Step{
				{Verb: Setup}, {Verb: Pull, Container: "c"}, {Verb: Pull, Container: "d"}, {Verb: RunSandbox},
			},
		},
		{
			name: "with init containers only the first one's image is fetched",
			want: web(inits("i", "j")),
			do:   []Step{{Verb: Setup}, {Verb: Pull, Container: "i"}, {Verb: RunSandbox}},
		},
		{
			name: "the sandbox did not work: wait",
			want: web(),
			got:  Observed{Failures: map[Subject]Failure{SubjectSandbox: {RetryAt: t0.Add(time.Second)}}},
			wake: t0.Add(time.Second),
		},
		{
			name: "sandbox there, image on its way",
			want: web(),
			got:  Observed{Sandboxes: ready, SetUp: true, Images: map[string]Image{"c": {Pulling: true}}},
		},
		{
			name: "sandbox and image there",
			want: web(),
			got:  Observed{Sandboxes: ready, SetUp: true, Images: image(0)},
			do:   []Step{{Verb: Create, Container: "c"}},
		},
		{
			name: "an agent that came back sets up again before it creates",
			want: web(),
			got:  Observed{Sandboxes: ready, Images: image(0)},
			do:   []Step{{Verb: Setup}, {Verb: Create, Container: "c"}},
		},
		{
			name: "created, then started",
			want: web(second),
			got:  Observed{Sandboxes: ready, Containers: tries(ran("c", 0, created, 0)), Images: map[string]Image{"d": {Ref: "img"}}},
			do:   []Step{{Verb: Start, ID: "c0", Container: "c"}},
		},
		{
			name: "the second container waits for the first one's image",
			want: web(second),
			got:  Observed{Sandboxes: ready, SetUp: true, Images: map[string]Image{"c": {Pulling: true}, "d": {Ref: "img"}}},
		},
		{
			name: "but not for an image that is not to be had",
			want: web(second),
			got: Observed{
				Sandboxes: ready, SetUp: true, Images: map[string]Image{"d": {Ref: "img"}},
				Failures: map[Subject]Failure{SubjectImage.Of("c"): {RetryAt: t0.Add(time.Minute)}},
			},
			do:   []Step{{Verb: Create, Container: "d"}},
			wake: t0.Add(time.Minute),
		},
		{
			name: "running: nothing to do",
			want: web(),
			got:  Observed{Sandboxes: ready, Containers: tries(ran("c", 0, up, 0))},
		},
		{
			name: "postStart runs before the next container",
			want: web(hooked, second),
			got:  Observed{Sandboxes: ready, Containers: tries(ran("c", 0, up, 0))},
			do:   []Step{{Verb: PostStart, ID: "c0", Container: "c"}},
		},
		{
			name: "postStart under way holds up the next container",
			want: web(hooked, second),
			got:  Observed{Sandboxes: ready, Containers: tries(ran("c", 0, up, 0)), Marks: map[string]Mark{"c0": {PostStart: Running}}},
		},
		{
			name: "postStart failed: the container goes",
			want: web(hooked),
			got:  Observed{Sandboxes: ready, Containers: tries(ran("c", 0, up, 0)), Marks: map[string]Mark{"c0": {PostStart: Failed}}},
			do:   []Step{{Verb: Stop, ID: "c0", Container: "c", Grace: 30 * time.Second, Reason: "its postStart hook failed", Restart: true}},
		},
		{
			name: "first restart at once: the image is looked at again",
			want: web(),
			got:  Observed{Sandboxes: ready, Containers: tries(ran("c", 0, down, 1)), Images: image(0)},
			do:   []Step{{Verb: Pull, Container: "c", Attempt: 1}},
		},
		{
			name: "then created, and it will wait 10 s the next time",
			want: web(),
			got:  Observed{Sandboxes: ready, SetUp: true, Containers: tries(ran("c", 0, down, 1)), Images: image(1)},
			do:   []Step{{Verb: Create, Container: "c", Attempt: 1, Backoff: 10 * time.Second}},
		},
		{
			name: "second restart waits",
			want: web(),
			got:  Observed{Sandboxes: ready, Containers: tries(waits(ran("c", 1, down, 1), 10*time.Second))},
			wake: t0.Add(10 * time.Second),
		},
		{
			name: "the wait doubles",
			want: web(),
			now:  t0.Add(10 * time.Second),
			got:  Observed{Sandboxes: ready, SetUp: true, Containers: tries(waits(ran("c", 1, down, 1), 10*time.Second)), Images: image(2)},
			do:   []Step{{Verb: Create, Container: "c", Attempt: 2, Backoff: 20 * time.Second}},
		},
		{
			name: "up to five minutes",
			want: web(),
			now:  t0.Add(time.Hour),
			got:  Observed{Sandboxes: ready, SetUp: true, Containers: tries(waits(ran("c", 9, down, 1), 5*time.Minute)), Images: image(10)},
			do:   []Step{{Verb: Create, Container: "c", Attempt: 10, Backoff: 5 * time.Minute}},
		},
		{
			name: "a clock set back does not hold up a restart",
			want: web(),
			now:  t0.Add(-24 * time.Hour),
			got:  Observed{Sandboxes: ready, SetUp: true, Containers: tries(waits(ran("c", 1, down, 1), 10*time.Second)), Images: image(2)},
			do:   []Step{{Verb: Create, Container: "c", Attempt: 2, Backoff: 20 * time.Second}},
		},
		{
			name: "OnFailure: success is the end of a container",
			want: web(policy(corev1.RestartPolicyOnFailure), second),
			got:  Observed{Sandboxes: ready, Containers: tries(ran("c", 0, down, 0), ran("d", 0, up, 0))},
		},
		{
			name: "OnFailure: killed by us counts as failure whatever its code",
			want: web(policy(corev1.RestartPolicyOnFailure)),
			got: Observed{
				Sandboxes: ready, SetUp: true, Containers: tries(ran("c", 0, down, 0)), Images: image(1),
				Marks: map[string]Mark{"c0": {Restart: true}},
			},
			do: []Step{{Verb: Create, Container: "c", Attempt: 1, Backoff: 10 * time.Second}},
		},
		{
			name: "Never: all ended, the sandbox goes",
			want: web(policy(corev1.RestartPolicyNever)),
			got:  Observed{Sandboxes: ready, Containers: tries(ran("c", 0, down, 3))},
			do:   []Step{{Verb: StopSandbox, ID: "s0"}},
		},
		{
			name: "a finished pod stays finished, whatever the runtime has forgotten",
			want: web(func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }),
		},
		{
			name: "the sandbox died under a running container: end it first",
			want: web(),
			got:  Observed{Sandboxes: lost, Containers: tries(ran("c", 0, up, 0))},
			do:   []Step{{Verb: Stop, ID: "c0", Container: "c", Grace: 30 * time.Second, Reason: "its sandbox is gone", Restart: true}},
		},
		{
			name: "and only then make another",
			want: web(),
			got:  Observed{Sandboxes: lost, SetUp: true, Containers: tries(ran("c", 0, down, 137))},
			do: []Step{
				{Verb: StopSandbox, ID: "s0"}, {Verb: Pull, Container: "c", Attempt: 1}, {Verb: RunSandbox, Attempt: 1},
			},
		},
		{
			name: "a lost sandbox is not replaced when nothing would run in it",
			want: web(policy(corev1.RestartPolicyNever)),
			got:  Observed{Sandboxes: lost, Containers: tries(ran("c", 0, down, 0))},
		},
		{
			name: "init containers run again in a new sandbox",
			want: web(inits("i")),
			got: Observed{
				Sandboxes: boxes(box("s1", 1, true), box("s0", 0, false)), SetUp: true,
				Containers: tries(ran("i", 0, down, 0), ran("c", 0, down, 137)),
				Images:     map[string]Image{"i": {Attempt: 1, Ref: "img"}},
			},
			do: []Step{{Verb: Create, Container: "i", Attempt: 1, Backoff: 10 * time.Second}},
		},
		{
			name: "init containers one after the other",
			want: web(inits("i", "j")),
			got: Observed{
				Sandboxes: ready, SetUp: true, Containers: tries(ran("i", 0, down, 0)),
				Images: map[string]Image{"j": {Ref: "img"}},
			},
			do: []Step{{Verb: Create, Container: "j"}},
		},
		{
			name: "an init container that fails under Never ends the pod",
			want: web(inits("i"), policy(corev1.RestartPolicyNever)),
			got:  Observed{Sandboxes: ready, Containers: tries(ran("i", 0, down, 1))},
			do:   []Step{{Verb: StopSandbox, ID: "s0"}},
		},
		{
			name: "liveness failed: the probe's own grace period counts",
			want: web(func(p *corev1.Pod) {
				grace := int64(3)
				p.Spec.Containers[0].LivenessProbe = &corev1.Probe{TerminationGracePeriodSeconds: &grace}
			}),
			got: Observed{Sandboxes: ready, Containers: tries(ran("c", 0, up, 0)), Marks: map[string]Mark{"c0": {Liveness: Failed}}},
			do:  []Step{{Verb: Stop, ID: "c0", Container: "c", Grace: 3 * time.Second, Reason: "its liveness probe failed", Restart: true}},
		},
		{
			name: "deleted: containers end side by side",
			want: web(second, deleted(5)),
			got:  Observed{Sandboxes: ready, Containers: tries(ran("c", 0, up, 0), ran("d", 0, up, 0))},
			do: []Step{
				{Verb: Stop, ID: "c0", Container: "c", Grace: 5 * time.Second, Reason: "the pod is deleted"},
				{Verb: Stop, ID: "d0", Container: "d", Grace: 5 * time.Second, Reason: "the pod is deleted"},
			},
		},
		{
			name: "deleted: a stop under way is left to itself",
			want: web(deleted(5)),
			got:  Observed{Sandboxes: ready, Containers: tries(ran("c", 0, up, 0)), Stopping: map[string]Stopping{"c0": {Grace: 5 * time.Second}}},
		},
		{
			name: "deleted: a stop that did not work is not tried again at once",
			want: web(deleted(5)),
			got: Observed{
				Sandboxes: ready, Containers: tries(ran("c", 0, up, 0)),
				Failures: map[Subject]Failure{SubjectRemove: {RetryAt: t0.Add(2 * time.Second)}},
			},
			wake: t0.Add(2 * time.Second),
		},
		{
			name: "deleted again with less grace: hurry",
			want: web(deleted(0)),
			got:  Observed{Sandboxes: ready, Containers: tries(ran("c", 0, up, 0)), Stopping: map[string]Stopping{"c0": {Grace: 5 * time.Second}}},
			do:   []Step{{Verb: Stop, ID: "c0", Container: "c", Reason: "the pod is deleted"}},
		},
		{
			name: "deleted and ended: everything goes, then the name",
			want: web(deleted(5)),
			got:  Observed{Sandboxes: ready, Containers: tries(ran("c", 0, down, 0))},
			do: []Step{
				{Verb: StopSandbox, ID: "s0"}, {Verb: Teardown}, {Verb: RemoveSandbox, ID: "s0"}, {Verb: Forget},
			},
		},
		{
			name: "deleted before anything was made",
			want: web(deleted(5)),
			do:   []Step{{Verb: Teardown}, {Verb: Forget}},
		},
		{
			name: "remains of another UID go first",
			want: web(func(p *corev1.Pod) { p.UID = "u2" }),
			got:  Observed{Sandboxes: ready, Containers: tries(ran("c", 0, down, 0))},
			do: []Step{
				{Verb: StopSandbox, ID: "s0", UID: "u1"}, {Verb: Teardown, UID: "u1"}, {Verb: RemoveSandbox, ID: "s0", UID: "u1"},
			},
		},
		{
			name: "remains of another UID decide nothing about this one",
			want: web(func(p *corev1.Pod) { p.UID = "u2"; p.Spec.RestartPolicy = corev1.RestartPolicyNever }),
			got:  Observed{Sandboxes: ready, Containers: tries(ran("c", 0, up, 0))},
			do:   []Step{{Verb: Stop, ID: "c0", Container: "c", UID: "u1", Grace: 30 * time.Second, Reason: "the pod is not wanted any more"}},
		},
		{
			name: "an init container that the runtime lost sight of is ended",
			want: web(inits("i")),
			got:  Observed{Sandboxes: ready, Containers: tries(ran("i", 0, cri.ContainerUnknown, 0))},
			do:   []Step{{Verb: Stop, ID: "i0", Container: "i", Grace: 30 * time.Second, Reason: "the runtime lost sight of it", Restart: true}},
		},
		{
			name: "old attempts and empty old sandboxes are collected",
			want: web(),
			got: Observed{
				Sandboxes:  boxes(box("s1", 1, true), box("s0", 0, false)),
				Containers: tries(in("s1", ran("c", 3, up, 0)), in("s1", ran("c", 2, down, 1)), in("s1", ran("c", 1, down, 1))),
			},
			do: []Step{
				{Verb: RemoveContainer, ID: "c1", Container: "c"},
				{Verb: StopSandbox, ID: "s0"}, {Verb: RemoveSandbox, ID: "s0"},
			},
		},
		{
			name: "an active deadline wakes, ",
			want: web(func(p *corev1.Pod) { s := int64(60); p.Spec.ActiveDeadlineSeconds = &s }),
			got:  Observed{Sandboxes: ready, StartedAt: t0, Containers: tries(ran("c", 0, up, 0))},
			wake: t0.Add(time.Minute),
		},
		{
			name: "and ends the pod",
			want: web(func(p *corev1.Pod) { s := int64(60); p.Spec.ActiveDeadlineSeconds = &s }),
			now:  t0.Add(time.Minute),
			got:  Observed{Sandboxes: ready, StartedAt: t0, Containers: tries(ran("c", 0, up, 0))},
			do:   []Step{{Verb: Stop, ID: "c0", Container: "c", Grace: 30 * time.Second, Reason: "the pod has finished"}},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			now := tc.now
			if now.IsZero() {
				now = t0
			}
			for i := range tc.do {
				if tc.do[i].UID == "" {
					tc.do[i].UID = "u1"
				}
			}
			steps, wake := Decide(tc.want, &tc.got, now)
			if diff := cmp.Diff(tc.do, steps); diff != "" {
				t.Errorf("steps (-want +got):\n%s", diff)
			}
			if !wake.Equal(tc.wake) {
				t.Errorf("wake at %v, want %v", wake, tc.wake)
			}
		})
	}
}

func TestFail(t *testing.T) {
	f := Failure{}
	for i, want := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
		f = f.Fail(SubjectSandbox, "R", "m", t0)
		if got := f.RetryAt.Sub(t0); got != want*time.Second || f.Count != i+1 {
			t.Errorf("failure %d waits %v, want %v s", i+1, got, int(want))
		}
	}
	f = Failure{}
	for i, want := range []time.Duration{10, 20, 40, 80, 160, 300, 300} {
		f = f.Fail(SubjectImage.Of("c"), "ErrImagePull", "m", t0)
		if got := f.RetryAt.Sub(t0); got != want*time.Second {
			t.Errorf("pull %d waits %v, want %v s", i+1, got, int(want))
		}
	}
}

func TestBackoffIsForgottenAfterALongRun(t *testing.T) {
	c := waits(ran("c", 4, down, 1), 80*time.Second)
	if got := backoffOf(&c); got != 80*time.Second {
		t.Errorf("after a minute of running: waits %v, want 80 s", got)
	}
	c.StartedAt = t0.Add(-10 * time.Minute)
	if got := backoffOf(&c); got != 0 {
		t.Errorf("after ten minutes of running: waits %v, want none", got)
	}
	if got := nextBackoff(&c); got != 10*time.Second {
		t.Errorf("and the restart after that: %v, want 10 s", got)
	}
}
