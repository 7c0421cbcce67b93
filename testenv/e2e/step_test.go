package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pinnace/containerd"
	"pinnace/cri"
	"pinnace/node"
	"pinnace/testenv/agentproc"
	"pinnace/testenv/criproxy"
	"pinnace/testenv/runtime"
)

// Every call with which the agent changes something is a step boundary. One
// life of a pod (start, edit, delete) is lived once in peace, and then once
// for each of its calls with the agent killed there.

func TestKillBeforeEveryCall(t *testing.T) {
	isolated(t, func(t *testing.T) { everyCall(t, criproxy.Before) })
}

func TestKillAfterEveryCall(t *testing.T) {
	isolated(t, func(t *testing.T) { everyCall(t, criproxy.After) })
}

func TestKillDuringEveryCall(t *testing.T) {
	isolated(t, func(t *testing.T) { everyCall(t, criproxy.During) })
}

func everyCall(t *testing.T, moment criproxy.Moment) {
	w := newStepWorld(t)
	peace := w.live(criproxy.Strike{})
	calls := w.proxy.Calls()
	t.Logf("calls of one life: %v", calls)
	if len(calls) < 20 {
		t.Fatal("one life has fewer calls than it needs: does the proxy see them?")
	}
	want := map[string][]string{
		"first": {"1 start", "2 start"},
		"a":     {"1 start", "1 end", "2 start", "2 end"},
		"b":     {"1 start", "1 end", "2 start", "2 end"},
	}
	if !reflect.DeepEqual(peace.log, want) {
		t.Fatalf("in peace: containers left %v", peace.log)
	}
	for i, call := range calls {
		began := time.Now()
		w.what = fmt.Sprintf("killed %s call %d, %s", moment, i+1, call)
		delay := time.Duration(i%5) * 10 * time.Millisecond
		got := w.live(criproxy.Strike{At: i + 1, Moment: moment, Delay: delay})
		w.compare(got, peace, moment)
		if t.Failed() {
			t.FailNow()
		}
		t.Logf("%s: %v", w.what, time.Since(began).Round(time.Millisecond))
	}
}

// stepWorld is a node whose runtime calls pass a proxy.
type stepWorld struct {
	t      *testing.T
	node   *agentproc.Node
	proxy  *criproxy.Proxy
	direct *cri.Client
	what   string // is being tried
	starts string // folder in which containers leave their traces

	mu     sync.Mutex
	struck bool
	phase  string          // of the life
	alive  []cri.Container // when the strike came
	died   string          // the phase in which it came
	failed error
}

func newStepWorld(t *testing.T) *stepWorld {
	rt := runtime.Prepare(t)
	if err := rt.Daemon.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := containerd.Load(t.Context(), rt.Endpoint, runtime.Archives(t), filepath.Join(rt.Root, "loaded.json")); err != nil {
		t.Fatal(err)
	}
	proxy := criproxy.Start(t, filepath.Join(rt.Dir, "proxy.sock"), rt.Endpoint)
	n := agentproc.New(t, agentproc.Options{Endpoint: proxy.Endpoint, Direct: rt.Endpoint})
	w := &stepWorld{t: t, node: n, proxy: proxy, direct: n.Client(t), starts: filepath.Join(n.Dir, "starts")}
	n.Start(t)
	return w
}

const lifePod = `
apiVersion: v1
kind: Pod
metadata: {name: life}
spec:
  terminationGracePeriodSeconds: 5
  volumes:
  - {name: starts, hostPath: {path: STARTS, type: DirectoryOrCreate}}
  - {name: memory, emptyDir: {medium: Memory}}
  initContainers:
  - {name: first, image: "localhost/pinnace/demo:1", command: [sh, -c, "echo first GEN start >> /starts/log"], volumeMounts: [{name: starts, mountPath: /starts}]}
  containers:
  - name: a
    image: localhost/pinnace/demo:1
    command: [sh, -c]
    args:
    - |
      trap 'echo "$NAME GEN end" >>/starts/log; exit 0' TERM
      echo "$NAME GEN start" >>/starts/log
      sleep 10000 &
      wait
    env: [{name: NAME, value: a}]
    volumeMounts: [{name: starts, mountPath: /starts}, {name: memory, mountPath: /memory}]
  - name: b
    image: localhost/pinnace/demo:1
    command: [sh, -c]
    args:
    - |
      trap 'echo "$NAME GEN end" >>/starts/log; exit 0' TERM
      echo "$NAME GEN start" >>/starts/log
      sleep 10000 &
      wait
    env: [{name: NAME, value: b}]
    volumeMounts: [{name: starts, mountPath: /starts}, {name: memory, mountPath: /memory}]
`

// life is what one life of the pod left to be compared.
type life struct {
	started, edited, ended agentproc.Inventory
	log                    map[string][]string
}

// live starts the pod, edits it and deletes it, with the agent being struck
// down somewhere on the way and started again.
func (w *stepWorld) live(s criproxy.Strike) life {
	t := w.t
	t.Helper()
	if err := os.RemoveAll(w.starts); err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	w.struck, w.died, w.alive, w.phase = false, "", nil, "start"
	w.mu.Unlock()
	s.Do = w.kill
	w.proxy.Arm(s)
	text := strings.ReplaceAll(lifePod, "STARTS", w.starts)

	w.node.Write(t, "life.yaml", strings.ReplaceAll(text, "GEN", "1"))
	r := w.await("started", agentproc.Ready("life"))
	w.kept()
	var l life
	l.started = w.node.Rest(t)
	first, err := agentproc.Pod(r, "life")
	if err != nil {
		t.Fatal(err)
	}

	w.enter("edit")
	w.node.Write(t, "life.yaml", strings.ReplaceAll(text, "GEN", "2"))
	w.await("edited", func(r node.Report) error {
		if p, err := agentproc.Pod(r, "life"); err != nil || p.UID == first.UID {
			return errors.Join(err, errors.New("the pod is the old one"))
		}
		return agentproc.Ready("life")(r)
	})
	l.edited = w.node.Rest(t)

	w.enter("delete")
	w.node.Remove(t, "life.yaml")
	w.await("deleted", agentproc.Empty)
	l.ended = w.node.Rest(t)
	l.log = w.traces()
	if s.At > 0 && w.diedIn() == "" {
		t.Errorf("%s: the strike never came: %v", w.what, w.proxy.Calls())
	}
	return l
}

// traces are, for each container, what it wrote in its order: "1 start 1 end
// 2 start 2 end" when no two of them ran at once and none started twice.
func (w *stepWorld) traces() map[string][]string {
	text, err := os.ReadFile(filepath.Join(w.starts, "log"))
	if err != nil {
		w.t.Fatal(err)
	}
	traces := map[string][]string{}
	for line := range strings.Lines(string(text)) {
		name, what, _ := strings.Cut(strings.TrimSpace(line), " ")
		traces[name] = append(traces[name], what)
	}
	return traces
}

func (w *stepWorld) enter(phase string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.phase = phase
}

func (w *stepWorld) diedIn() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.died
}

// kill is the strike. It runs in the proxy, while the call hangs.
func (w *stepWorld) kill() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.node.Signal(w.t, os.Kill)
	w.struck, w.died = true, w.phase
	w.alive, w.failed = w.direct.Containers(context.Background(), nil)
}

// await waits for a state of the node and starts the agent again when it was
// struck down.
func (w *stepWorld) await(what string, check func(node.Report) error) (last node.Report) {
	w.t.Helper()
	agentproc.Eventually(w.t, w.what+": "+what, func() error {
		w.mu.Lock()
		struck := w.struck
		w.struck = false
		w.mu.Unlock()
		if struck {
			_ = w.node.Wait()
			w.node.Launch(w.t)
		}
		r, err := w.node.Status()
		if err != nil {
			return err
		}
		last = r
		return check(r)
	})
	return last
}

// kept asserts that a strike while the pod started has cost no container.
func (w *stepWorld) kept() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failed != nil {
		w.t.Fatal(w.failed)
	}
	if w.died != "start" {
		return
	}
	now := map[string]cri.ContainerState{}
	for _, c := range w.node.Containers(w.t) {
		now[c.ID] = c.State
	}
	for _, c := range w.alive {
		if _, there := now[c.ID]; !there {
			w.t.Errorf("%s: container %s, made before, is not there any more", w.what, c.Name)
		}
		if c.State == cri.ContainerRunning && c.Name != "first" && now[c.ID] != cri.ContainerRunning {
			w.t.Errorf("%s: container %s ran and does not any more", w.what, c.Name)
		}
	}
}

// compare asserts that a life with a strike left what a life in peace does.
// A call that was cut short may have failed, and is then taken again as
// another attempt: all else must be equal even so.
func (w *stepWorld) compare(got, peace life, moment criproxy.Moment) {
	t := w.t
	t.Helper()
	if moment == criproxy.During {
		got.started, peace.started = unnumbered(got.started), unnumbered(peace.started)
		got.edited, peace.edited = unnumbered(got.edited), unnumbered(peace.edited)
		for name, lines := range got.log {
			got.log[name] = slices.Compact(lines)
		}
	}
	for _, part := range []struct {
		name      string
		got, want agentproc.Inventory
	}{{"start", got.started, peace.started}, {"edit", got.edited, peace.edited}, {"delete", got.ended, peace.ended}} {
		if diff := part.got.Diff(part.want); diff != "" {
			t.Errorf("%s: after the %s\n%s", w.what, part.name, diff)
		}
	}
	if !reflect.DeepEqual(got.log, peace.log) {
		t.Errorf("%s: containers started %v, want %v", w.what, got.log, peace.log)
	}
}

// unnumbered leaves the newest attempt of each container and hides its number.
func unnumbered(inv agentproc.Inventory) agentproc.Inventory {
	out := agentproc.Inventory{}
	for pod, lines := range inv {
		var kept []string
		for _, line := range lines {
			if strings.Contains(line, "exited") || strings.Contains(line, "never ran") || strings.Contains(line, "not ready") || strings.HasPrefix(line, "file ") {
				continue
			}
			kept = append(kept, attemptNumber.ReplaceAllString(line, "#N"))
		}
		out[pod] = kept
	}
	return out
}

var attemptNumber = regexp.MustCompile(`#\d+`)
