package plan

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pinnace/cri"
)

// summary is a status in the words that a person reads.
type summary struct {
	Phase, Reason string
	Ready, Init   string // status and reason of the conditions Ready and Initialized
	States        []string
	Last          string
	Restarts      int32
}

func state(s corev1.ContainerState) string {
	switch {
	case s.Waiting != nil:
		return "waiting " + s.Waiting.Reason
	case s.Running != nil:
		return "running"
	case s.Terminated != nil:
		return "terminated " + s.Terminated.Reason
	}
	return ""
}

func summarize(s corev1.PodStatus) summary {
	sum := summary{Phase: string(s.Phase), Reason: s.Reason}
	for _, c := range s.Conditions {
		text := string(c.Status)
		if c.Reason != "" {
			text += " " + c.Reason
		}
		switch c.Type {
		case corev1.PodReady:
			sum.Ready = text
		case corev1.PodInitialized:
			sum.Init = text
		}
	}
	for _, c := range append(s.InitContainerStatuses, s.ContainerStatuses...) {
		text := c.Name + " " + state(c.State)
		if c.Ready {
			text += " ready"
		}
		sum.States = append(sum.States, text)
		sum.Restarts += c.RestartCount
		if l := state(c.LastTerminationState); l != "" {
			sum.Last = l
		}
	}
	return sum
}

func probed(pod *corev1.Pod) {
	pod.Spec.Containers[0].ReadinessProbe = &corev1.Probe{}
	pod.Spec.Containers[0].StartupProbe = &corev1.Probe{}
}

func TestStatus(t *testing.T) {
	ready := boxes(box("s0", 0, true))
	const initialized, notReady = "True", "False ContainersNotReady"
	for _, tc := range []struct {
		name string
		want *corev1.Pod
		got  Observed
		now  time.Time
		is   summary
	}{
		{
			name: "just taken up", want: web(),
			is: summary{Phase: "Pending", Ready: notReady, Init: initialized, States: []string{"c waiting ContainerCreating"}},
		},
		{
			name: "init containers to come", want: web(inits("i")),
			is: summary{Phase: "Pending", Ready: notReady, Init: "False ContainersNotInitialized",
				States: []string{"i waiting PodInitializing", "c waiting PodInitializing"}},
		},
		{
			name: "init container at work", want: web(inits("i")),
			got: Observed{Sandboxes: ready, Containers: tries(ran("i", 0, up, 0))},
			is: summary{Phase: "Pending", Ready: notReady, Init: "False ContainersNotInitialized",
				States: []string{"i running", "c waiting PodInitializing"}},
		},
		{
			name: "init container done", want: web(inits("i")),
			got: Observed{Sandboxes: ready, Containers: tries(ran("i", 0, down, 0), ran("c", 0, up, 0))},
			is:  summary{Phase: "Running", Ready: "True", Init: initialized, States: []string{"i terminated Completed ready", "c running ready"}},
		},
		{
			name: "init container done at the second try does not wait for a third", want: web(inits("i")), now: t0.Add(time.Second),
			got: Observed{Sandboxes: ready, Containers: tries(waits(ran("i", 1, down, 0), 10*time.Second))},
			is: summary{Phase: "Pending", Ready: notReady, Init: "True", Restarts: 1,
				States: []string{"i terminated Completed ready", "c waiting PodInitializing"}},
		},
		{
			name: "init container failed for good", want: web(inits("i"), policy(corev1.RestartPolicyNever)),
			got: Observed{Sandboxes: ready, Containers: tries(ran("i", 0, down, 1))},
			is: summary{Phase: "Failed", Ready: "False PodFailed", Init: "False ContainersNotInitialized",
				States: []string{"i terminated Error", "c waiting PodInitializing"}},
		},
		{
			name: "runs", want: web(),
			got: Observed{Sandboxes: ready, Containers: tries(ran("c", 0, up, 0))},
			is:  summary{Phase: "Running", Ready: "True", Init: initialized, States: []string{"c running ready"}},
		},
		{
			name: "runs, startup probe still at it", want: web(probed),
			got: Observed{Sandboxes: ready, Containers: tries(ran("c", 0, up, 0)), Marks: map[string]Mark{"c0": {Readiness: Success}}},
			is:  summary{Phase: "Running", Ready: notReady, Init: initialized, States: []string{"c running"}},
		},
		{
			name: "started and ready", want: web(probed),
			got: Observed{Sandboxes: ready, Containers: tries(ran("c", 0, up, 0)), Marks: map[string]Mark{"c0": {Startup: Success, Readiness: Success}}},
			is:  summary{Phase: "Running", Ready: "True", Init: initialized, States: []string{"c running ready"}},
		},
		{
			name: "the image is not to be had", want: web(),
			got: Observed{Sandboxes: ready, Failures: map[Subject]Failure{SubjectImage.Of("c"): {Reason: "ErrImagePull", Message: "no such image", Count: 1}}},
			is:  summary{Phase: "Pending", Ready: notReady, Init: initialized, States: []string{"c waiting ErrImagePull"}},
		},
		{
			name: "and still not", want: web(),
			got: Observed{Sandboxes: ready, Failures: map[Subject]Failure{SubjectImage.Of("c"): {Reason: "ErrImagePull", Message: "no such image", Count: 2}}},
			is:  summary{Phase: "Pending", Ready: notReady, Init: initialized, States: []string{"c waiting ImagePullBackOff"}},
		},
		{
			name: "crashed and restarts at once", want: web(),
			got: Observed{Sandboxes: ready, Containers: tries(ran("c", 0, down, 1))},
			is:  summary{Phase: "Running", Ready: notReady, Init: initialized, States: []string{"c terminated Error"}},
		},
		{
			name: "crashed and has to wait", want: web(), now: t0.Add(time.Second),
			got: Observed{Sandboxes: ready, Containers: tries(waits(ran("c", 1, down, 1), 10*time.Second), ran("c", 0, down, 1))},
			is: summary{Phase: "Running", Ready: notReady, Init: initialized, States: []string{"c waiting CrashLoopBackOff"},
				Last: "terminated Error", Restarts: 1},
		},
		{
			name: "succeeded", want: web(policy(corev1.RestartPolicyOnFailure), second),
			got: Observed{Containers: tries(ran("c", 0, down, 0), ran("d", 0, down, 0))},
			is: summary{Phase: "Succeeded", Ready: "False PodCompleted", Init: "True PodCompleted",
				States: []string{"c terminated Completed", "d terminated Completed"}},
		},
		{
			name: "another UID's end is not this one's", want: web(policy(corev1.RestartPolicyNever), func(p *corev1.Pod) { p.UID = "u2" }),
			got: Observed{Sandboxes: ready, Containers: tries(ran("c", 0, down, 0))},
			is:  summary{Phase: "Pending", Ready: notReady, Init: initialized, States: []string{"c waiting ContainerCreating"}},
		},
		{
			name: "failed", want: web(policy(corev1.RestartPolicyNever), second),
			got: Observed{Containers: tries(ran("c", 0, down, 2), ran("d", 0, down, 0))},
			is: summary{Phase: "Failed", Ready: "False PodFailed", Init: "False ContainersNotInitialized",
				States: []string{"c terminated Error", "d terminated Completed"}},
		},
		{
			name: "past its deadline", want: web(func(p *corev1.Pod) { s := int64(9); p.Spec.ActiveDeadlineSeconds = &s }),
			now: t0.Add(9 * time.Second),
			got: Observed{StartedAt: t0, Sandboxes: ready, Containers: tries(ran("c", 0, up, 0))},
			is:  summary{Phase: "Failed", Reason: "DeadlineExceeded", Ready: "False PodFailed", Init: initialized, States: []string{"c running ready"}},
		},
		{
			name: "Failed is for ever",
			want: web(func(p *corev1.Pod) { p.Status.Phase, p.Status.Reason = corev1.PodFailed, "DeadlineExceeded" }),
			got:  Observed{Containers: tries(ran("c", 0, down, 143))},
			is: summary{Phase: "Failed", Reason: "DeadlineExceeded", Ready: "False PodFailed", Init: initialized,
				States: []string{"c terminated Error"}},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			now := tc.now
			if now.IsZero() {
				now = t0
			}
			is := summarize(Status(tc.want, &tc.got, Node{Runtime: "containerd"}, now))
			if tc.is.Phase == "Failed" {
				is.Init = tc.is.Init // what a failed pod says about its init containers is nobody's promise
			}
			if diff := cmp.Diff(tc.is, is, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestStatusKeepsTransitionTimes(t *testing.T) {
	pod := web()
	got := &Observed{Sandboxes: boxes(box("s0", 0, true)), Containers: tries(ran("c", 0, up, 0))}
	pod.Status = Status(pod, got, Node{}, t0)
	later := Status(pod, got, Node{}, t0.Add(time.Hour))
	if diff := cmp.Diff(pod.Status, later); diff != "" {
		t.Errorf("nothing happened, but the status changed:\n%s", diff)
	}
	got.Containers = tries(ran("c", 0, down, 1))
	at := func(s corev1.PodStatus, c corev1.PodConditionType) metav1.Time {
		for _, have := range s.Conditions {
			if have.Type == c {
				return have.LastTransitionTime
			}
		}
		t.Fatalf("no condition %s", c)
		return metav1.Time{}
	}
	now := t0.Add(2 * time.Hour)
	changed := Status(pod, got, Node{}, now)
	if !at(changed, corev1.PodReady).Time.Equal(now) || !at(changed, corev1.PodScheduled).Time.Equal(t0) {
		t.Errorf("Ready moved at %v, PodScheduled at %v", at(changed, corev1.PodReady), at(changed, corev1.PodScheduled))
	}
}

func TestStatusAddresses(t *testing.T) {
	node := Node{IPs: []netip.Addr{netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7")}}
	sb := box("s0", 0, true)
	sb.IPs = []netip.Addr{netip.MustParseAddr("10.85.0.2"), netip.MustParseAddr("fd00:10:85::2")}
	got := &Observed{Sandboxes: []cri.Sandbox{sb}}
	s := Status(web(), got, node, t0)
	if s.PodIP != "10.85.0.2" || len(s.PodIPs) != 2 || s.PodIPs[1].IP != "fd00:10:85::2" || s.HostIP != "192.0.2.7" || len(s.HostIPs) != 2 {
		t.Errorf("addresses: %+v", s)
	}
	s = Status(web(func(p *corev1.Pod) { p.Spec.HostNetwork = true }), got, node, t0)
	if s.PodIP != "192.0.2.7" || len(s.PodIPs) != 2 {
		t.Errorf("addresses on the host's network: %+v", s.PodIPs)
	}
	got.Sandboxes[0].Ready = false
	if s = Status(web(), got, node, t0); s.PodIP != "" {
		t.Errorf("address without a sandbox: %s", s.PodIP)
	}
}
