package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"pinnace/cri"
	"pinnace/node"
	"pinnace/testenv/agentproc"
	"pinnace/testenv/netns"
)

const demoImage = "localhost/pinnace/demo:1"

// live is a running node with a cable to another host, for tests that only
// look at how pods behave.
type live struct {
	*agentproc.Node
	outside *netns.Host
}

var (
	uplink  = []netip.Prefix{netip.MustParsePrefix("192.0.2.2/24"), netip.MustParsePrefix("2001:db8::2/64")}
	farSide = []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("2001:db8::1/64")}
)

func newLive(t *testing.T) *live {
	t.Helper()
	l := &live{outside: netns.New(t, "outside")}
	netns.Join(t, netns.End{Host: netns.Here(t), Link: "uplink0", Addrs: uplink}, netns.End{Host: l.outside, Link: "eth0", Addrs: farSide})
	for _, via := range farSide {
		netns.Default(t, netns.Here(t), via.Addr())
	}
	l.Node = agentproc.New(t, agentproc.Options{})
	l.Start(t)
	return l
}

// pod writes a pod into a file of its own. The spec is indented for `spec:`.
func (l *live) pod(t *testing.T, name, spec string) {
	t.Helper()
	l.Write(t, name+".yaml", podText(name, spec))
}

func podText(name, spec string) string {
	spec = strings.ReplaceAll(spec, "IMAGE", demoImage)
	return fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %s}\nspec:\n  terminationGracePeriodSeconds: 3\n%s", name, spec)
}

// ready waits for a pod.
func (l *live) ready(t *testing.T, name string) node.PodReport {
	t.Helper()
	p, err := agentproc.Pod(l.Await(t, name+" is ready", agentproc.Ready(name)), name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// until waits until a pod's status passes.
func (l *live) until(t *testing.T, name, what string, check func(s corev1.PodStatus) bool) node.PodReport {
	t.Helper()
	var last node.PodReport
	l.Await(t, name+": "+what, func(r node.Report) error {
		p, err := agentproc.Pod(r, name)
		if err != nil {
			return err
		}
		last = p
		if !check(p.Status) {
			return fmt.Errorf("status %+v", p.Status)
		}
		return nil
	})
	return last
}

// gone waits until nothing of a pod is left.
func (l *live) gone(t *testing.T, name string) {
	t.Helper()
	l.Await(t, name+" is gone", func(r node.Report) error {
		if _, err := agentproc.Pod(r, name); err == nil {
			return fmt.Errorf("pod %s is still there", name)
		}
		return nil
	})
}

// container is a pod's newest attempt of a container.
func (l *live) container(t *testing.T, pod, name string) agentproc.Container {
	t.Helper()
	var found agentproc.Container
	for _, c := range l.Containers(t) {
		if c.Pod == pod && c.Name == name && (found.ID == "" || c.Attempt > found.Attempt) {
			found = c
		}
	}
	if found.ID == "" {
		t.Fatalf("pod %s has no container %s", pod, name)
	}
	return found
}

// sh runs a line in a container and returns what it prints.
func (l *live) sh(t *testing.T, pod, container, line string) string {
	t.Helper()
	out, err := l.try(t, pod, container, line)
	if err != nil || out.ExitCode != 0 {
		t.Fatalf("%s/%s: %s: code %d, %v: %s%s", pod, container, line, out.ExitCode, err, out.Stdout, out.Stderr)
	}
	return strings.TrimSpace(string(out.Stdout))
}

func (l *live) try(t *testing.T, pod, container, line string) (cri.ExecResult, error) {
	t.Helper()
	c, err := cri.Dial(l.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.Exec(t.Context(), l.container(t, pod, container).ID, []string{"sh", "-c", line}, 30*time.Second)
}

// get asks for a page from the test's own namespace, which is the node's.
func get(t *testing.T, url string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// url is an address in brackets where it needs them.
func url(ip, port string) string { return "http://" + net.JoinHostPort(ip, port) + "/" }

// same fails the test when two things differ.
func same[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// holds fails the test unless the text has all parts.
func holds(t *testing.T, what, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%s: %q does not hold %q", what, text, p)
		}
	}
}
