package node

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"pinnace/agent/manifest"
)

func TestPrint(t *testing.T) {
	now := time.Now()
	r := Report{
		Node: NodeReport{Name: "edge", Instance: "p123456", PodCIDRs: []string{"10.85.0.0/23", "fd00::/64"}, Manifests: "/m", Since: now.Add(-time.Minute)},
		Pods: []PodReport{
			{Namespace: "default", Name: "web", Created: now.Add(-time.Hour), Status: corev1.PodStatus{
				Phase: corev1.PodRunning, PodIPs: []corev1.PodIP{{IP: "10.85.0.2"}, {IP: "fd00::2"}},
				ContainerStatuses: []corev1.ContainerStatus{{Name: "c", Ready: true, RestartCount: 2}},
			}},
			{Namespace: "default", Name: "bad", Created: now.Add(-time.Second * 9), Status: corev1.PodStatus{
				Phase: corev1.PodPending,
				ContainerStatuses: []corev1.ContainerStatus{{Name: "c", State: corev1.ContainerState{
					Waiting: &corev1.ContainerStateWaiting{Reason: "ErrImagePull", Message: "no such image"},
				}}},
			}},
		},
		Manifests: []ManifestReport{
			{File: "bad.yaml", Problems: []manifest.Problem{{Line: 4, Field: "spec.x", Reason: "no such field"}}},
			{File: "web.yaml", Accepted: true, Pods: []string{"default/web"}, Warnings: []string{"mind the gap"}},
		},
	}
	var out bytes.Buffer
	if err := r.print(&out); err != nil {
		t.Fatal(err)
	}
	want := `node edge, instance p123456, pods in 10.85.0.0/23 and fd00::/64, up 60s

NAMESPACE   POD   READY   STATUS         RESTARTS   AGE   IP
default     web   1/1     Running        2          60m   10.85.0.2,fd00::2
default     bad   0/1     ErrImagePull   0          9s    -

default/bad: container c: no such image

manifests in /m
  bad.yaml: refused; what it described before goes on
    line 4: spec.x: no such field
  web.yaml: accepted: default/web
    warning: mind the gap
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWord(t *testing.T) {
	done := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: "Completed"}}
	waiting := func(reason string) corev1.ContainerState {
		return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}
	}
	status := func(phase corev1.PodPhase, init, main []corev1.ContainerState) corev1.PodStatus {
		s := corev1.PodStatus{Phase: phase}
		for _, st := range init {
			s.InitContainerStatuses = append(s.InitContainerStatuses, corev1.ContainerStatus{State: st})
		}
		for _, st := range main {
			s.ContainerStatuses = append(s.ContainerStatuses, corev1.ContainerStatus{State: st})
		}
		return s
	}
	type states = []corev1.ContainerState
	for want, p := range map[string]PodReport{
		"Terminating":           {Deleting: true},
		"Pending":               {Status: status(corev1.PodPending, nil, nil)},
		"Init:1/2":              {Status: status(corev1.PodPending, states{done, waiting("PodInitializing")}, nil)},
		"Init:CrashLoopBackOff": {Status: status(corev1.PodPending, states{waiting("CrashLoopBackOff")}, nil)},
		"CrashLoopBackOff":      {Status: status(corev1.PodRunning, states{done}, states{waiting("CrashLoopBackOff")})},
		"Completed":             {Status: status(corev1.PodSucceeded, nil, states{done})},
		"Running":               {Status: status(corev1.PodRunning, nil, states{done, {Running: &corev1.ContainerStateRunning{}}})},
	} {
		if got := p.word(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if !strings.Contains(strings.Join(PodReport{Status: corev1.PodStatus{Message: "why"}}.troubles(), ";"), "why") {
		t.Error("a pod's own message is not told")
	}
}
