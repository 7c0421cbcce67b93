package node

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/duration"
)

// print is the report for people.
func (r Report) print(out io.Writer) error {
	fmt.Fprintf(out, "node %s, instance %s, pods in %s, up %s\n\n", r.Node.Name, r.Node.Instance, strings.Join(r.Node.PodCIDRs, " and "),
		duration.HumanDuration(time.Since(r.Node.Since)))
	tw := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	if len(r.Pods) == 0 {
		fmt.Fprintf(tw, "no pods; put a manifest into %s\n", r.Node.Manifests)
	} else {
		fmt.Fprintln(tw, "NAMESPACE\tPOD\tREADY\tSTATUS\tRESTARTS\tAGE\tIP")
	}
	for _, p := range r.Pods {
		ready, restarts := p.counts()
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%d\t%s\t%s\n", p.Namespace, p.Name, ready, p.word(), restarts,
			duration.HumanDuration(time.Since(p.Created)), p.ips())
	}
	for _, p := range r.Pods {
		for _, why := range p.troubles() {
			fmt.Fprintf(tw, "\n%s/%s: %s\n", p.Namespace, p.Name, why)
		}
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(out, "\nmanifests in %s\n", r.Node.Manifests)
	if r.Note != "" {
		fmt.Fprintln(out, "  "+r.Note)
	}
	for _, m := range r.Manifests {
		m.print(out)
	}
	return nil
}

func (m ManifestReport) print(out io.Writer) {
	if m.Accepted {
		fmt.Fprintf(out, "  %s: accepted: %s\n", m.File, strings.Join(m.Pods, ", "))
	} else {
		fmt.Fprintf(out, "  %s: refused; what it described before goes on\n", m.File)
	}
	for _, p := range m.Problems {
		fmt.Fprintf(out, "    %s\n", p)
	}
	for _, w := range m.Warnings {
		fmt.Fprintf(out, "    warning: %s\n", w)
	}
}

func (p PodReport) ips() string {
	var ips []string
	for _, ip := range p.Status.PodIPs {
		ips = append(ips, ip.IP)
	}
	if len(ips) == 0 {
		return "-"
	}
	return strings.Join(ips, ",")
}

func (p PodReport) counts() (ready string, restarts int32) {
	n := 0
	for _, c := range p.Status.ContainerStatuses {
		restarts += c.RestartCount
		if c.Ready {
			n++
		}
	}
	return fmt.Sprintf("%d/%d", n, len(p.Status.ContainerStatuses)), restarts
}

// word is the status in one word, as kubectl's users know it.
func (p PodReport) word() string {
	if p.Deleting {
		return "Terminating"
	}
	for i, c := range p.Status.InitContainerStatuses {
		switch t := c.State.Terminated; {
		case t != nil && t.ExitCode == 0:
			continue
		case t != nil:
			return "Init:" + t.Reason
		case c.State.Waiting != nil && c.State.Waiting.Reason != "PodInitializing":
			return "Init:" + c.State.Waiting.Reason
		}
		return fmt.Sprintf("Init:%d/%d", i, len(p.Status.InitContainerStatuses))
	}
	for _, c := range p.Status.ContainerStatuses {
		if w := c.State.Waiting; w != nil && w.Reason != "" {
			return w.Reason
		}
		if t := c.State.Terminated; t != nil && p.Status.Phase != corev1.PodRunning {
			return t.Reason
		}
	}
	if p.Status.Reason != "" {
		return p.Status.Reason
	}
	return string(p.Status.Phase)
}

// troubles are the sentences about what keeps the pod from running.
func (p PodReport) troubles() []string {
	var all []string
	add := func(s string) {
		if s != "" && !slices.ContainsFunc(all, func(said string) bool { return strings.HasSuffix(s, said) }) {
			all = append(all, s)
		}
	}
	add(p.Status.Message)
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReadyToStartContainers && c.Status != corev1.ConditionTrue {
			add(c.Message)
		}
	}
	for _, list := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses} {
		for _, c := range list {
			if w := c.State.Waiting; w != nil && w.Message != "" {
				add(fmt.Sprintf("container %s: %s", c.Name, w.Message))
			}
			if t := c.LastTerminationState.Terminated; t != nil && c.State.Waiting != nil {
				add(fmt.Sprintf("container %s ended last with code %d (%s) %s", c.Name, t.ExitCode, t.Reason, strings.TrimSpace(t.Message)))
			}
		}
	}
	return all
}
