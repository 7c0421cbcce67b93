package e2e

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"pinnace/cri"
	"pinnace/node"
	"pinnace/testenv/agentproc"
)

const (
	churnNodes = 4 // nodes that churn side by side
	churnPods  = 5 // names per node
	killWithin = 400 * time.Millisecond
	slow       = 10 * time.Second // worth a line
)

// TestRandomKills lets pods come, change, crash and go, and kills the agent at
// a random moment after each change. PINNACE_KILLS says how often (500),
// PINNACE_SEED repeats a run.
func TestRandomKills(t *testing.T) {
	kills := number(t, "PINNACE_KILLS", 500)
	for i := range churnNodes {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			isolated(t, func(t *testing.T) {
				seed := number(t, "PINNACE_SEED", int(time.Now().UnixNano()%1e6))
				t.Logf("PINNACE_SEED=%d", seed)
				churn(t, rand.New(rand.NewPCG(uint64(seed), uint64(i))), (kills+churnNodes-1)/churnNodes)
			})
		})
	}
}

func number(t *testing.T, name string, otherwise int) int {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		return otherwise
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

func churn(t *testing.T, rng *rand.Rand, kills int) {
	w := &churnWorld{t: t, node: agentproc.New(t, agentproc.Options{}), rng: rng, pods: map[string]*churnPod{}}
	w.node.Start(t)
	w.learn()
	began := time.Now()
	for i := range kills {
		what := w.change()
		delay := time.Duration(rng.Int64N(int64(killWithin)))
		<-time.After(delay)
		w.node.Kill(t)
		w.node.Launch(t)
		w.what = fmt.Sprintf("kill %d, %v after: %s", i, delay.Round(time.Millisecond), what)
		killed := time.Now()
		w.settle()
		if took := time.Since(killed); took > slow {
			t.Logf("%s: at %s, took %v to settle", w.what, killed.Format(time.TimeOnly), took.Round(time.Millisecond))
		}
	}
	if keep := os.Getenv("PINNACE_TEST_KEEP"); keep != "" {
		w.node.Keep(t, keep)
	}
	t.Logf("%d kills, %v each; %d hit a call that containerd then left half done",
		kills, (time.Since(began) / time.Duration(kills)).Round(time.Millisecond), w.excused)
	orphans := len(w.node.Orphans(t))
	agentproc.Eventually(t, "no shim is left without a sandbox", func() error {
		if left := w.node.Orphans(t); len(left) > 0 {
			return fmt.Errorf("left: %v", left)
		}
		return nil
	})
	t.Logf("shims left without a sandbox until the agent ended them: %d", orphans)
	if w.excused > kills/2 {
		t.Error("most kills are excused: the test has lost its teeth")
	}
}

// churnWorld is a node and what it is expected to be.
type churnWorld struct {
	t    *testing.T
	node *agentproc.Node
	rng  *rand.Rand
	what string
	pods map[string]*churnPod

	fresh, crashed []string // the inventory of one pod in peace
	excused        int
}

// churnPod is a pod that is wanted. Its generation stands in its spec.
type churnPod struct {
	generation int
	not        string // UID that it must not have any more
	uid        string
	crashed    bool
	touched    bool     // by the change under way
	half       bool     // the runtime has a start of it that was cut short
	ids        []string // of its containers, when last settled
}

const churnManifest = `
apiVersion: v1
kind: Pod
metadata: {name: NAME}
spec:
  terminationGracePeriodSeconds: 5
  volumes: [{name: memory, emptyDir: {medium: Memory}}]
  containers:
  - name: c
    image: localhost/pinnace/demo:1
    command: [sh, -c, "trap 'exit 0' TERM; sleep 100000 & wait"]
    env: [{name: GENERATION, value: "GEN"}]
    volumeMounts: [{name: memory, mountPath: /memory}]
`

func (w *churnWorld) write(name string, p *churnPod) {
	text := strings.NewReplacer("NAME", name, "GEN", strconv.Itoa(p.generation)).Replace(churnManifest)
	w.node.Write(w.t, name+".yaml", text)
}

// learn takes the inventories of a pod that nobody disturbs.
func (w *churnWorld) learn() {
	p := &churnPod{touched: true}
	w.pods["p0"] = p
	w.write("p0", p)
	w.await()
	w.fresh = w.node.Inventory(w.t)["p0"]
	w.crash("p0", p)
	w.await()
	w.crashed = w.node.Inventory(w.t)["p0"]
	if len(w.fresh) < 20 || len(w.crashed) <= len(w.fresh) {
		w.t.Fatalf("too little is known of a pod: %v, %v", w.fresh, w.crashed)
	}
	w.remember()
}

// change does one thing to one pod, or now and then to two.
func (w *churnWorld) change() string {
	for _, p := range w.pods {
		p.touched = false
	}
	what := w.changeOne()
	if w.rng.IntN(4) == 0 {
		what += ", " + w.changeOne()
	}
	return what
}

func (w *churnWorld) changeOne() string {
	name := fmt.Sprintf("p%d", w.rng.IntN(churnPods))
	p := w.pods[name]
	switch {
	case p == nil:
		w.pods[name] = &churnPod{touched: true, generation: w.rng.IntN(1000)}
		w.write(name, w.pods[name])
		return "add " + name
	case p.touched:
		return "nothing more"
	}
	switch w.rng.IntN(3) {
	case 0:
		delete(w.pods, name)
		w.node.Remove(w.t, name+".yaml")
		return "delete " + name
	case 1:
		if !p.crashed && w.crash(name, p) {
			return "crash " + name
		}
	}
	w.pods[name] = &churnPod{touched: true, generation: p.generation + 1, not: p.uid}
	w.write(name, w.pods[name])
	return "edit " + name
}

// crash kills a container's process, unless it has been restarted before: it
// would only wait out a back-off.
func (w *churnWorld) crash(name string, p *churnPod) bool {
	for _, c := range w.node.Containers(w.t) {
		if c.Pod != name {
			continue
		}
		if c.Attempt != 0 || c.State != cri.ContainerRunning {
			return false
		}
		if err := syscall.Kill(w.node.PIDOf(w.t, c.ID), syscall.SIGKILL); err != nil {
			w.t.Fatal(err)
		}
		p.crashed, p.touched = true, true
		return true
	}
	return false
}

// settle waits until everything is as expected, and asserts that what was
// not touched still runs in the same containers.
func (w *churnWorld) settle() {
	w.t.Helper()
	w.await()
	want := agentproc.Inventory{}
	for name, p := range w.pods {
		want[name] = w.fresh
		if p.crashed {
			want[name] = w.crashed
		}
	}
	var got agentproc.Inventory
	agentproc.Eventually(w.t, w.what+": the inventory is the expected one", func() error {
		got = w.node.Inventory(w.t)
		if diff := w.excuse(got, got).Diff(w.excuse(want, got)); diff != "" {
			return fmt.Errorf("\n%s", diff)
		}
		return nil
	})
	for _, p := range w.pods {
		if p.touched && p.half {
			w.excused++
		}
	}
	before := map[string][]string{}
	for name, p := range w.pods {
		if !p.touched {
			before[name] = p.ids
		}
	}
	w.remember()
	for name, ids := range before {
		if !slices.Equal(ids, w.pods[name].ids) {
			w.t.Fatalf("%s: pod %s, which was left alone, has other containers: %v, before %v", w.what, name, w.pods[name].ids, ids)
		}
	}
}

// excuse hides the attempts' numbers of pods of which the runtime has a start
// that was cut short: its client died over the call.
func (w *churnWorld) excuse(inv, got agentproc.Inventory) agentproc.Inventory {
	out := maps.Clone(inv)
	for name, p := range w.pods {
		p.half = p.half || p.touched && slices.ContainsFunc(got[name], halfDone)
		if p.half {
			out[name] = unnumbered(agentproc.Inventory{name: inv[name]})[name]
		}
	}
	return out
}

func halfDone(line string) bool {
	return strings.HasSuffix(line, " never ran") || strings.HasSuffix(line, " not ready")
}

// remember notes the UIDs and container ids of now.
func (w *churnWorld) remember() {
	r, err := w.node.Status()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, p := range w.pods {
		p.ids = nil
	}
	for _, p := range r.Pods {
		w.pods[p.Name].uid = p.UID
	}
	for _, c := range w.node.Containers(w.t) {
		p := w.pods[c.Pod]
		p.ids = append(p.ids, c.ID)
	}
	for _, p := range w.pods {
		slices.Sort(p.ids)
	}
}

// await waits until the node says that it runs what is wanted.
func (w *churnWorld) await() {
	w.t.Helper()
	w.node.Await(w.t, w.what+": the pods are as wanted", func(r node.Report) error {
		if len(r.Pods) != len(w.pods) {
			return fmt.Errorf("%d pods, want %d", len(r.Pods), len(w.pods))
		}
		for name, want := range w.pods {
			if err := agentproc.Ready(name)(r); err != nil {
				return err
			}
			p, _ := agentproc.Pod(r, name)
			if p.UID == want.not {
				return errors.New("pod " + name + " is still the old one")
			}
			if want.crashed && !restarted(p.Status) {
				return errors.New("pod " + name + " was not restarted")
			}
		}
		return nil
	})
}

func restarted(s corev1.PodStatus) bool {
	return len(s.ContainerStatuses) == 1 && s.ContainerStatuses[0].RestartCount > 0
}
