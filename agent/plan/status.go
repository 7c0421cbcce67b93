package plan

import (
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kubernetes/pkg/apis/core/v1/helper/qos"

	"pinnace/cri"
)

// Node is what a pod's status says about the node it runs on.
type Node struct {
	IPs     []netip.Addr
	Runtime string // scheme of container ids: "containerd"
}

// Status is what the world is told about a pod: phase, conditions and
// container states as the Pod API documents them. want carries the status
// published before, from which times of transition and a terminal phase
// carry over.
func Status(want *corev1.Pod, got *Observed, node Node, now time.Time) corev1.PodStatus {
	d := &decision{want: want, got: got, now: now}
	s := corev1.PodStatus{
		ObservedGeneration: want.Generation,
		QOSClass:           qos.ComputePodQOS(want),
		StartTime:          want.Status.StartTime,
	}
	if s.StartTime == nil && !got.StartedAt.IsZero() {
		s.StartTime = &metav1.Time{Time: got.StartedAt}
	}
	addresses(&s, want, got, node)
	s.InitContainerStatuses = d.statuses(want.Spec.InitContainers, want.Status.InitContainerStatuses, node, true)
	s.ContainerStatuses = d.statuses(want.Spec.Containers, want.Status.ContainerStatuses, node, false)
	d.phase(&s)
	s.Conditions = d.conditions(&s)
	return s
}

func addresses(s *corev1.PodStatus, want *corev1.Pod, got *Observed, node Node) {
	for _, ip := range node.IPs {
		s.HostIPs = append(s.HostIPs, corev1.HostIP{IP: ip.String()})
	}
	if len(node.IPs) > 0 {
		s.HostIP = node.IPs[0].String()
	}
	var ips []netip.Addr
	for _, sb := range got.Sandboxes {
		if sb.Ready && sb.UID == string(want.UID) {
			ips = sb.IPs
			if want.Spec.HostNetwork {
				ips = node.IPs
			}
			break
		}
	}
	for _, ip := range ips {
		s.PodIPs = append(s.PodIPs, corev1.PodIP{IP: ip.String()})
	}
	if len(ips) > 0 {
		s.PodIP = ips[0].String()
	}
}

// phase follows the table of the Pod API: Pending until every container has
// run, Running while one runs or will run again, then Succeeded or Failed
// for ever.
func (d *decision) phase(s *corev1.PodStatus) {
	old := d.want.Status
	if terminal(old.Phase) {
		s.Phase, s.Reason, s.Message = old.Phase, old.Reason, old.Message
		return
	}
	if at, ok := d.deadline(); ok && !d.now.Before(at) && d.want.DeletionTimestamp == nil {
		s.Phase, s.Reason = corev1.PodFailed, "DeadlineExceeded"
		s.Message = "Pod was active on the node longer than the specified deadline"
		return
	}
	switch {
	case d.initFailed():
		s.Phase = corev1.PodFailed
	case d.spent():
		s.Phase = corev1.PodSucceeded
		for _, c := range d.want.Spec.Containers {
			if last := d.last(c.Name); last.ExitCode != 0 {
				s.Phase = corev1.PodFailed
			}
		}
	case d.everRan():
		s.Phase = corev1.PodRunning
	default:
		s.Phase = corev1.PodPending
	}
}

// everRan reports whether every container has been started at least once.
func (d *decision) everRan() bool {
	for _, c := range d.want.Spec.Containers {
		last := d.last(c.Name)
		if last == nil || last.State == cri.ContainerCreated && last.Attempt == 0 {
			return false
		}
	}
	return true
}

// conditions in the order in which kubectl's users know them.
func (d *decision) conditions(s *corev1.PodStatus) []corev1.PodCondition {
	ready := d.containersReady(s)
	all := []corev1.PodCondition{
		d.sandboxCondition(),
		d.initialized(s),
		ready,
		ready,
		{Type: corev1.PodScheduled, Status: corev1.ConditionTrue},
	}
	all[2].Type, all[3].Type = corev1.PodReady, corev1.ContainersReady
	for i := range all {
		all[i].ObservedGeneration = d.want.Generation
		all[i].LastTransitionTime = metav1.Time{Time: d.now.Truncate(time.Second)} // as the wire has it
		for _, old := range d.want.Status.Conditions {
			if old.Type == all[i].Type && old.Status == all[i].Status {
				all[i].LastTransitionTime = old.LastTransitionTime
			}
		}
	}
	return all
}

func condition(ok bool, reason, message string) corev1.PodCondition {
	if ok {
		return corev1.PodCondition{Status: corev1.ConditionTrue}
	}
	return corev1.PodCondition{Status: corev1.ConditionFalse, Reason: reason, Message: message}
}

// sandboxCondition tells whether the pod has its sandbox and network, and if
// not, what stands in the way.
func (d *decision) sandboxCondition() corev1.PodCondition {
	c := condition(d.sandbox() != nil, "", "")
	for _, subject := range []Subject{SubjectSetup, SubjectSandbox} {
		if f, ok := d.got.Failures[subject]; ok && c.Status != corev1.ConditionTrue {
			c.Reason, c.Message = f.Reason, f.Message
		}
	}
	c.Type = corev1.PodReadyToStartContainers
	return c
}

func (d *decision) initialized(s *corev1.PodStatus) corev1.PodCondition {
	var waiting []string
	sb := d.sandbox()
	if sb == nil || !d.begun(sb) {
		for _, st := range s.InitContainerStatuses {
			if st.State.Terminated == nil || st.State.Terminated.ExitCode != 0 {
				waiting = append(waiting, st.Name)
			}
		}
	}
	done := len(waiting) == 0 || s.Phase == corev1.PodSucceeded || s.Phase == corev1.PodRunning
	c := condition(done, "ContainersNotInitialized", "containers with incomplete status: "+bracket(waiting))
	c.Type = corev1.PodInitialized
	if s.Phase == corev1.PodSucceeded {
		c.Reason = "PodCompleted"
	}
	return c
}

func (d *decision) containersReady(s *corev1.PodStatus) corev1.PodCondition {
	switch s.Phase {
	case corev1.PodSucceeded:
		return condition(false, "PodCompleted", "")
	case corev1.PodFailed:
		return condition(false, "PodFailed", "")
	}
	var unready []string
	for _, st := range s.ContainerStatuses {
		if !st.Ready {
			unready = append(unready, st.Name)
		}
	}
	return condition(len(unready) == 0, "ContainersNotReady", "containers with unready status: "+bracket(unready))
}

func bracket(names []string) string {
	out := "["
	for i, n := range names {
		if i > 0 {
			out += " "
		}
		out += n
	}
	return out + "]"
}
