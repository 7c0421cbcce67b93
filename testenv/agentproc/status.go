package agentproc

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"pinnace/node"
)

const (
	pollEvery = 20 * time.Millisecond
	// AwaitLimit is long: a loaded machine is no failure.
	AwaitLimit = 90 * time.Second
)

// Status asks the running agent, as `pinnace status` does.
func (n *Node) Status() (node.Report, error) {
	var r node.Report
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(n.Run, "status.sock"))
		},
	}}
	resp, err := client.Get("http://agent/status")
	if err != nil {
		return r, err
	}
	defer resp.Body.Close()
	return r, json.NewDecoder(resp.Body).Decode(&r)
}

// Await returns when the agent's report passes the check, and ends the test
// with the check's last word when it does not in time.
func (n *Node) Await(tb testing.TB, what string, check func(node.Report) error) node.Report {
	tb.Helper()
	var last node.Report
	Eventually(tb, what, func() error {
		r, err := n.Status()
		if err != nil {
			return err
		}
		last = r
		return check(r)
	})
	return last
}

// Eventually asks again and again until check has no objection.
func Eventually(tb testing.TB, what string, check func() error) {
	tb.Helper()
	if err := eventually(AwaitLimit, check); err != nil {
		tb.Fatalf("waited %s until %s: %v", AwaitLimit, what, err)
	}
}

// eventually is check's last objection when limit has passed.
func eventually(limit time.Duration, check func() error) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	end := time.After(limit)
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-end:
			return err
		}
	}
}

// Pod finds a pod in a report.
func Pod(r node.Report, name string) (node.PodReport, error) {
	for _, p := range r.Pods {
		if p.Name == name && p.Namespace == "default" {
			return p, nil
		}
	}
	return node.PodReport{}, fmt.Errorf("pod %s is not there", name)
}

// Ready asks that the pods are ready, of the spec that the files show now
// when their generation is given: "name" or "name@generation".
func Ready(names ...string) func(node.Report) error {
	return func(r node.Report) error {
		for _, name := range names {
			p, err := Pod(r, name)
			if err != nil {
				return err
			}
			if !IsReady(p) {
				return fmt.Errorf("pod %s is not ready: %s", name, one(p))
			}
		}
		return nil
	}
}

// IsReady reports a pod's Ready condition; one that is ending is not.
func IsReady(p node.PodReport) bool {
	if p.Deleting {
		return false
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// Empty asks that no pod is left.
func Empty(r node.Report) error {
	if len(r.Pods) > 0 {
		return fmt.Errorf("pods are left: %s", describe(r))
	}
	return nil
}

func describe(r node.Report) string {
	var lines []string
	for _, p := range r.Pods {
		lines = append(lines, one(p))
	}
	for _, f := range r.Manifests {
		if !f.Accepted {
			lines = append(lines, fmt.Sprintf("%s refused: %+v", f.File, f.Problems))
		}
	}
	return strings.Join(append(lines, r.Note), "\n")
}

func one(p node.PodReport) string {
	text, err := json.Marshal(p.Status)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%s (uid %s, deleting %t) %s", p.Name, p.UID, p.Deleting, text)
}
