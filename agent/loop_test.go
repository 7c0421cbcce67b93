package agent

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"pinnace/agent/admit"
	"pinnace/agent/record"
	"pinnace/cri"
	"pinnace/testenv/fakecri"
)

var webKey = types.NamespacedName{Namespace: "shop", Name: "web"}

// env is a node in memory: a fake runtime, a real record in a temporary
// folder, and agents that come and go.
type world struct {
	t       *testing.T
	dir     string
	store   *record.Store
	runtime *fakecri.Runtime
	groups  *groups
	log     *slog.Logger
}

func newWorld(t *testing.T, cfg fakecri.Config) *world {
	w := &world{t: t, dir: t.TempDir(), runtime: fakecri.New(cfg), groups: &groups{uids: map[string]bool{}}}
	w.log = slog.New(slog.NewTextHandler(io.Discard, nil))
	if testing.Verbose() {
		w.log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	w.runtime.Load("img", cri.Image{})
	w.open()
	return w
}

// open reads the record as an agent does that starts.
func (w *world) open() {
	w.t.Helper()
	store, err := record.Open(filepath.Join(w.dir, "records"), time.Now, w.log)
	if err != nil {
		w.t.Fatal(err)
	}
	w.store = store
}

// groups stands for the cgroup tree.
type groups struct {
	mu   sync.Mutex
	uids map[string]bool
}

func (g *groups) Ensure(pod *corev1.Pod) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.uids[string(pod.UID)] = true
	return nil
}

func (g *groups) Remove(uid string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.uids, uid)
	return nil
}

func (g *groups) Parent(uid string) string { return "/test/pod" + uid }
func (g *groups) Unified() bool            { return true }

// images finds an image in the runtime, as IfNotPresent does.
type images struct{ *fakecri.Runtime }

func (i images) Ensure(ctx context.Context, ref string, _ corev1.PullPolicy) (cri.Image, error) {
	return i.Image(ctx, ref)
}

// start runs an agent and returns what ends it and waits for it.
func (w *world) start(rt Runtime, exits func(context.Context, func(string)) error) (leave func()) {
	ctx, cancel := context.WithCancel(context.Background())
	a := New(Config{
		Node: Node{
			Name: "n", Instance: "ptest", IPs: []netip.Addr{netip.MustParseAddr("192.0.2.9")},
			Allocatable: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Gi")},
			ResolvConf:  filepath.Join(w.dir, "resolv.conf"),
		},
		Paths:  Paths{Root: filepath.Join(w.dir, "root"), Run: filepath.Join(w.dir, "run")},
		Source: w.store, Runtime: rt, Images: images{w.runtime}, Cgroups: w.groups,
		Exits: exits, Logger: w.log, Parallel: 2,
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := a.Run(ctx); err != nil && ctx.Err() == nil {
			w.t.Errorf("agent: %v", err)
		}
	}()
	return func() { cancel(); <-done }
}

// pod is a valid pod with one container, changed as a test needs it.
func pod(change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: webKey.Namespace, Name: webKey.Name},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "img"}}},
	}
	for _, f := range change {
		f(p)
	}
	admit.Default(p)
	return p
}

func (w *world) apply(pods ...*corev1.Pod) {
	w.t.Helper()
	if err := w.store.Apply(pods, func(string) bool { return false }); err != nil {
		w.t.Fatal(err)
	}
}

// settle lets time pass until nothing moves at this moment.
func settle(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (w *world) get() *corev1.Pod {
	w.t.Helper()
	p, ok := w.store.Get(webKey)
	if !ok {
		w.t.Fatal("the pod is not there")
	}
	return p
}

func (w *world) ready() bool {
	p, ok := w.store.Get(webKey)
	return ok && p.DeletionTimestamp == nil && slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// running are the containers that run, and it fails the test when two of one
// name do.
func (w *world) running() []cri.Container {
	w.t.Helper()
	_, all := w.runtime.Observed()
	var up []cri.Container
	for _, c := range all {
		if c.State != cri.ContainerRunning {
			continue
		}
		for _, other := range up {
			if other.Name == c.Name {
				w.t.Fatalf("two containers %s run at once: %s of %s and %s of %s", c.Name, c.ID[:8], c.PodUID, other.ID[:8], other.PodUID)
			}
		}
		up = append(up, c)
	}
	return up
}

// nothing asserts that no trace of any pod is left.
func (w *world) nothing() {
	w.t.Helper()
	sandboxes, all := w.runtime.Observed()
	if len(sandboxes)+len(all) > 0 {
		w.t.Errorf("left in the runtime: %d sandboxes, %d containers", len(sandboxes), len(all))
	}
	if len(w.groups.uids) > 0 {
		w.t.Errorf("left cgroups: %v", w.groups.uids)
	}
	for _, dir := range []string{"root/pods", "root/logs", "run/pods"} {
		files, err := os.ReadDir(filepath.Join(w.dir, dir))
		if err != nil && !os.IsNotExist(err) || len(files) > 0 {
			w.t.Errorf("left in %s: %v %v", dir, files, err)
		}
	}
	if pods := w.store.List(); len(pods) > 0 {
		w.t.Errorf("left in the record: %v", pods[0].Name)
	}
}

func TestPodComesAndGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, fakecri.Config{})
		leave := w.start(w.runtime, w.runtime.Exits)
		defer leave()
		w.apply(pod())
		settle(time.Second)
		p := w.get()
		if p.Status.Phase != corev1.PodRunning || !w.ready() || p.Status.PodIP == "" {
			t.Fatalf("after a second: %+v", p.Status)
		}
		uid := p.UID
		w.apply(pod())
		settle(time.Second)
		if w.get().UID != uid {
			t.Error("an unchanged pod has a new UID")
		}
		w.apply()
		settle(time.Second)
		w.nothing()
	})
}

func TestCrashLoopWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var starts []time.Duration
		began := time.Now()
		w := newWorld(t, fakecri.Config{Script: func(*runtimeapi.ContainerConfig) fakecri.Script {
			mu.Lock()
			defer mu.Unlock()
			starts = append(starts, time.Since(began).Round(time.Second))
			return fakecri.Script{Exits: true, Code: 3}
		}})
		leave := w.start(w.runtime, w.runtime.Exits)
		defer leave()
		w.apply(pod())
		settle(75 * time.Second)
		st := w.get().Status.ContainerStatuses[0]
		if st.State.Waiting == nil || st.State.Waiting.Reason != "CrashLoopBackOff" || st.RestartCount != 4 {
			t.Errorf("status while it waits: %+v", st)
		}
		if l := st.LastTerminationState.Terminated; l == nil || l.ExitCode != 3 || l.Reason != "Error" {
			t.Errorf("last state: %+v", st.LastTerminationState)
		}
		want := []time.Duration{0, 0, 10 * time.Second, 30 * time.Second, 70 * time.Second}
		if !slices.Equal(starts, want) {
			t.Errorf("started at %v, want %v", starts, want)
		}
	})
}

func TestEditReplacesThePod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, fakecri.Config{Script: func(*runtimeapi.ContainerConfig) fakecri.Script {
			return fakecri.Script{TermTakes: 3 * time.Second}
		}})
		leave := w.start(w.runtime, w.runtime.Exits)
		defer leave()
		w.apply(pod())
		settle(time.Second)
		old := w.get().UID
		// Three edits in a row, the last one wins; the first comes while the
		// pod is being stopped.
		for i := range 3 {
			w.apply(pod(func(p *corev1.Pod) { p.Spec.Containers[0].Args = []string{"v", string(rune('1' + i))} }))
			settle(time.Second)
			if up := w.running(); i < 2 && (len(up) != 1 || up[0].PodUID != string(old)) {
				t.Fatalf("while the old pod ends: %v", up)
			}
		}
		settle(5 * time.Second)
		p, up := w.get(), w.running()
		if p.UID == old || p.Spec.Containers[0].Args[1] != "3" || len(up) != 1 || up[0].PodUID != string(p.UID) || !w.ready() {
			t.Errorf("after the edits: %+v, running %v", p, up)
		}
	})
}

func TestReadinessSurvivesTheAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sick atomic.Bool
		w := newWorld(t, fakecri.Config{Script: func(*runtimeapi.ContainerConfig) fakecri.Script {
			return fakecri.Script{Exec: func(context.Context, []string) (cri.ExecResult, error) {
				if !sick.Load() {
					return cri.ExecResult{}, nil
				}
				return cri.ExecResult{ExitCode: 1}, nil
			}}
		}})
		leave := w.start(w.runtime, w.runtime.Exits)
		probe := &corev1.Probe{
			ProbeHandler:        corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"check"}}},
			InitialDelaySeconds: 5,
		}
		w.apply(pod(func(p *corev1.Pod) { p.Spec.Containers[0].ReadinessProbe = probe }))
		settle(4 * time.Second)
		if w.ready() {
			t.Fatal("ready before the first probe")
		}
		settle(2 * time.Second)
		if !w.ready() {
			t.Fatalf("not ready after the probe: %+v", w.get().Status)
		}
		before := w.get().Status
		leave()
		w.open()
		leave = w.start(w.runtime, w.runtime.Exits)
		defer leave()
		synctest.Wait()
		if !w.ready() {
			t.Fatalf("the new agent took readiness away: %+v", w.get().Status.ContainerStatuses)
		}
		if st := w.get().Status.ContainerStatuses[0]; st.ContainerID != before.ContainerStatuses[0].ContainerID || st.RestartCount != 0 {
			t.Errorf("another container: %+v", st)
		}
		sick.Store(true)
		settle(35 * time.Second)
		if w.ready() {
			t.Error("still ready after three failed probes")
		}
	})
}

// mortal is a runtime whose client dies at one call: before its effect, or
// after it and without learning of it. From then on nothing works.
type mortal struct {
	*fakecri.Runtime
	at   int
	late bool
	die  func()

	mu    sync.Mutex
	calls int
	dead  bool
}

var errDead = errors.New("this agent is dead")

// call counts one changing call and reports whether its effect may happen
// and whether its answer may be heard.
func (m *mortal) call() (act, hear bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead {
		return false, false
	}
	m.calls++
	if m.calls != m.at {
		return true, true
	}
	m.dead = true
	m.die()
	return m.late, false
}

func (m *mortal) through(f func() error) error {
	act, hear := m.call()
	err := errDead
	if act {
		err = f()
	}
	if !hear {
		return errDead
	}
	return err
}

func (m *mortal) RunSandbox(ctx context.Context, cfg *runtimeapi.PodSandboxConfig, h string) (id string, err error) {
	err = m.through(func() error { id, err = m.Runtime.RunSandbox(ctx, cfg, h); return err })
	return id, err
}

func (m *mortal) StopSandbox(ctx context.Context, id string) error {
	return m.through(func() error { return m.Runtime.StopSandbox(ctx, id) })
}

func (m *mortal) RemoveSandbox(ctx context.Context, id string) error {
	return m.through(func() error { return m.Runtime.RemoveSandbox(ctx, id) })
}

func (m *mortal) CreateContainer(ctx context.Context, s string, cfg *runtimeapi.ContainerConfig, sc *runtimeapi.PodSandboxConfig) (id string, err error) {
	err = m.through(func() error { id, err = m.Runtime.CreateContainer(ctx, s, cfg, sc); return err })
	return id, err
}

func (m *mortal) StartContainer(ctx context.Context, id string) error {
	return m.through(func() error { return m.Runtime.StartContainer(ctx, id) })
}

func (m *mortal) StopContainer(ctx context.Context, id string, grace time.Duration) error {
	return m.through(func() error { return m.Runtime.StopContainer(ctx, id, grace) })
}

func (m *mortal) RemoveContainer(ctx context.Context, id string) error {
	return m.through(func() error { return m.Runtime.RemoveContainer(ctx, id) })
}

// TestKilledAtEveryStep runs a pod through its whole life, killing the agent
// at each changing call in turn, before and after its effect. The next agent
// must end where an agent that was never killed ends.
func TestKilledAtEveryStep(t *testing.T) {
	life := func(t *testing.T, at int, late bool) (calls int) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, fakecri.Config{})
			full := pod(func(p *corev1.Pod) {
				p.Spec.InitContainers = []corev1.Container{{Name: "i", Image: "img", Args: []string{"once"}}}
				p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "d", Image: "img"})
			})
			w.runtime = fakecri.New(fakecri.Config{Script: func(cfg *runtimeapi.ContainerConfig) fakecri.Script {
				if cfg.Metadata.Name == "i" {
					return fakecri.Script{Exits: true, After: time.Second}
				}
				return fakecri.Script{TermTakes: time.Second}
			}})
			w.runtime.Load("img", cri.Image{})
			died := make(chan struct{})
			m := &mortal{Runtime: w.runtime, at: at, late: late, die: func() { close(died) }}
			leave := w.start(m, w.runtime.Exits)
			go func() {
				<-died
				leave()
				w.open()
				leave = w.start(w.runtime, w.runtime.Exits)
			}()
			defer func() {
				if at == 0 {
					close(died) // nobody was killed: end the watcher
					synctest.Wait()
				}
				leave()
			}()
			w.apply(full)
			settle(90 * time.Second)
			if up := w.running(); !w.ready() || len(up) != 2 {
				t.Fatalf("after the start: running %d, status %+v", len(up), w.get().Status)
			}
			for _, st := range w.get().Status.ContainerStatuses {
				if st.RestartCount != 0 {
					t.Errorf("%s was restarted %d times", st.Name, st.RestartCount)
				}
			}
			edited := full.DeepCopy()
			edited.Spec.Containers[0].Args = []string{"new"}
			w.apply(edited)
			settle(90 * time.Second)
			if up := w.running(); !w.ready() || len(up) != 2 || w.get().Spec.Containers[0].Args == nil {
				t.Fatalf("after the edit: running %d, status %+v", len(up), w.get().Status)
			}
			w.apply()
			settle(90 * time.Second)
			w.nothing()
			calls = m.calls
		})
		return calls
	}
	n := life(t, 0, false)
	if n < 16 {
		t.Fatalf("a life takes %d calls; the test misses some", n)
	}
	for at := 1; at <= n; at++ {
		for _, late := range []bool{false, true} {
			if life(t, at, late); t.Failed() {
				t.Fatalf("killed at call %d of %d, after its effect: %v", at, n, late)
			}
		}
	}
}

// TestFaultsComeToRest lets every call fail by chance and then stops the
// faults: whatever happened, the node must come to where it should be.
func TestFaultsComeToRest(t *testing.T) {
	for seed := range uint64(40) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, fakecri.Config{Seed: seed, Faults: fakecri.Faults{
				Before: 0.1, After: 0.1, Slow: 0.2, SlowFor: 2 * time.Second, LostEvent: 0.3,
			}})
			leave := w.start(w.runtime, w.runtime.Exits)
			defer func() { leave() }()
			for i := range 6 {
				w.apply(pod(func(p *corev1.Pod) { p.Spec.Containers[0].Args = []string{string(rune('a' + i/2))} }))
				settle(time.Duration(1+(seed*7+uint64(i)*5)%40) * time.Second)
				w.running()
				switch (seed + uint64(i)) % 4 {
				case 0:
					w.runtime.Reboot()
				case 1:
					leave()
					w.open()
					leave = w.start(w.runtime, w.runtime.Exits)
				case 2:
					for _, c := range w.running() {
						if err := w.runtime.Crash(c.ID, 1); err != nil {
							t.Fatal(err)
						}
					}
				}
			}
			w.runtime.SetFaults(fakecri.Faults{})
			settle(10 * time.Minute)
			if up := w.running(); !w.ready() || len(up) != 1 || up[0].PodUID != string(w.get().UID) {
				t.Fatalf("seed %d: running %v, status %+v", seed, up, w.get().Status)
			}
			w.apply()
			settle(10 * time.Minute)
			w.nothing()
		})
	}
}

func TestReboot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, fakecri.Config{})
		leave := w.start(w.runtime, w.runtime.Exits)
		w.apply(pod())
		settle(time.Second)
		uid := w.get().UID
		leave()
		w.runtime.Reboot()
		if err := os.RemoveAll(filepath.Join(w.dir, "run")); err != nil {
			t.Fatal(err)
		}
		w.open()
		leave = w.start(w.runtime, w.runtime.Exits)
		defer leave()
		settle(time.Second)
		st := w.get().Status
		if w.get().UID != uid || !w.ready() || st.ContainerStatuses[0].RestartCount != 1 {
			t.Errorf("after the reboot: %+v", st)
		}
		if l := st.ContainerStatuses[0].LastTerminationState.Terminated; l == nil || l.ExitCode != 255 {
			t.Errorf("last state: %+v", l)
		}
	})
}

// TestPullBacksOff counts the pulls of an image that is not to be had.
func TestPullBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, fakecri.Config{})
		leave := w.start(w.runtime, w.runtime.Exits)
		defer leave()
		w.apply(pod(func(p *corev1.Pod) { p.Spec.Containers[0].Image = "absent" }))
		for _, step := range []struct {
			wait   time.Duration
			reason string
		}{
			{5 * time.Second, "ErrImagePull"},      // tried at 0, next at 10
			{10 * time.Second, "ImagePullBackOff"}, // tried at 10, next at 30
		} {
			settle(step.wait)
			st := w.get().Status.ContainerStatuses[0].State.Waiting
			if st == nil || st.Reason != step.reason {
				t.Errorf("after %v more: %+v, want %s", step.wait, st, step.reason)
			}
		}
		w.runtime.Load("absent", cri.Image{})
		settle(14 * time.Second) // 29 s
		if w.ready() {
			t.Error("pulled before the back-off of 20 s was over")
		}
		settle(2 * time.Second)
		if !w.ready() {
			t.Errorf("not ready although the image came: %+v", w.get().Status.ContainerStatuses)
		}
	})
}

// TestRuntimeDownWhileStopping deletes a pod while nobody answers: the worker
// must try again with pauses, not in a hot loop, and end what it began.
func TestRuntimeDownWhileStopping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, fakecri.Config{})
		m := &mortal{Runtime: w.runtime, at: -1}
		leave := w.start(m, w.runtime.Exits)
		defer leave()
		w.apply(pod())
		settle(time.Second)
		before := m.count()
		w.runtime.SetDown(true)
		w.apply()
		settle(time.Minute)
		if n := m.count() - before; n == 0 || n > 20 {
			t.Errorf("%d calls in a minute without a runtime", n)
		}
		w.runtime.SetDown(false)
		settle(time.Minute)
		w.nothing()
	})
}

func (m *mortal) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.calls
}

// TestPullsOfLikeNames: a container whose name begins another's must not call
// off the other's pull.
func TestPullsOfLikeNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, fakecri.Config{Faults: fakecri.Faults{Slow: 1, SlowFor: 3 * time.Second}})
		leave := w.start(w.runtime, w.runtime.Exits)
		defer leave()
		w.apply(pod(func(p *corev1.Pod) {
			p.Spec.Containers = []corev1.Container{{Name: "web2", Image: "img"}, {Name: "web", Image: "img"}}
		}))
		settle(2 * time.Minute)
		if !w.ready() {
			t.Errorf("not ready: %+v", w.get().Status.ContainerStatuses)
		}
	})
}

// TestClockSetBack: a reboot with a clock that was set back makes the newest
// sandbox the oldest by time; it is the newest all the same.
func TestClockSetBack(t *testing.T) {
	list := []cri.Sandbox{
		{ID: "old", Attempt: 0, CreatedAt: time.Unix(2000, 0)},
		{ID: "new", Attempt: 1, CreatedAt: time.Unix(1000, 0)},
	}
	if cri.SortSandboxes(list); list[0].ID != "new" {
		t.Errorf("the newest sandbox is %s", list[0].ID)
	}
}

func TestTerminationMessageIsTheEnd(t *testing.T) {
	file := filepath.Join(t.TempDir(), "message")
	if err := os.WriteFile(file, append(make([]byte, 5000), "the end"...), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := readEnd(file, 4096); len(got) != 4096 || !strings.HasSuffix(got, "the end") {
		t.Errorf("read %d bytes that end in %q", len(got), got[max(0, len(got)-10):])
	}
}
