package agent

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"pinnace/agent/image"
	"pinnace/agent/plan"
	"pinnace/agent/volume"
	"pinnace/cri"
)

// worker keeps one pod name as its source wants it. All that it knows is
// owned by the goroutine of run; others leave notes in the inbox.
type worker struct {
	agent *Agent
	key   types.NamespacedName
	log   *slog.Logger

	trigger chan struct{} // one slot: look again
	inbox   inbox
	jobs    jobs
	probes  probes

	// Owned by run.
	uid     types.UID
	pod     *corev1.Pod // as last seen; nil when not wanted
	got     *plan.Observed
	stale   bool // got must be looked at anew
	ending  ending
	local   local
	trace   trace
	printed corev1.PodStatus // last status published
}

// local is what a worker keeps of a pod besides what plan decides upon.
type local struct {
	volumes volume.Set
	images  map[string]cri.Image // by container name
	marks   savedMarks           // as on disk
}

// inbox takes notes from other goroutines to the worker's.
type inbox struct {
	mu    sync.Mutex
	notes []func(*worker)
	ids   map[string]cri.ContainerState // what the worker believes, for the slow look
	logs  map[string]string             // log files of running containers by id
}

func newWorker(a *Agent, key types.NamespacedName) *worker {
	w := &worker{
		agent:   a,
		key:     key,
		log:     a.cfg.Logger.With("pod", key.String()),
		trigger: make(chan struct{}, 1),
		got:     &plan.Observed{},
		ending:  ending{},
	}
	w.jobs.running = map[string]*job{}
	w.probes.running = map[probeKey]context.CancelFunc{}
	return w
}

// wake asks for another look at the pod. It never blocks.
func (w *worker) wake() {
	select {
	case w.trigger <- struct{}{}:
	default:
	}
}

// tell leaves a note that the worker's goroutine will apply.
func (w *worker) tell(note func(*worker)) {
	w.inbox.mu.Lock()
	w.inbox.notes = append(w.inbox.notes, note)
	w.inbox.mu.Unlock()
	w.wake()
}

// refresh asks for a full look at the pod in the runtime.
func (w *worker) refresh() { w.tell(func(w *worker) { w.stale = true }) }

// run is the worker's life: woken, it syncs until nothing is left to do,
// then sleeps until the next event or the moment that plan has named.
func (w *worker) run(ctx context.Context) {
	defer w.jobs.wait()
	defer w.probes.stop()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.trigger:
		case <-timer.C:
		}
		next := w.sync(ctx)
		if w.pod == nil && len(w.got.Sandboxes) == 0 && ctx.Err() == nil && w.agent.leave(w) {
			return
		}
		wait := time.Hour
		if !next.IsZero() {
			wait = max(time.Until(next), time.Millisecond)
		}
		timer.Reset(wait)
	}
}

// sync takes steps until plan has no more and returns when to look again.
func (w *worker) sync(ctx context.Context) time.Time {
	for ctx.Err() == nil {
		w.absorb()
		late := w.lookLate(ctx)
		w.adopt()
		if w.stale {
			if err := w.lookAgain(ctx); err != nil {
				w.log.Warn("looked at the pod in vain", "err", err)
				return time.Now().Add(time.Second)
			}
		}
		steps, next := plan.Decide(w.pod, w.got, time.Now())
		w.probes.sync(ctx, w)
		// The world hears of a pod when it is taken up and when it comes to
		// rest, not of every step between.
		if (len(steps) == 0 || w.printed.Phase == "") && !w.publish() {
			next = sooner(next, time.Now().Add(time.Second))
		}
		if len(steps) == 0 {
			return sooner(next, late)
		}
		w.take(ctx, steps)
	}
	return time.Time{}
}

// absorb applies the notes left by others.
func (w *worker) absorb() {
	w.inbox.mu.Lock()
	notes := w.inbox.notes
	w.inbox.notes = nil
	w.inbox.mu.Unlock()
	for _, note := range notes {
		note(w)
	}
}

// adopt takes up what the source wants now. A new UID under the name is a
// new pod: what was remembered of the old one does not count for it.
func (w *worker) adopt() {
	pod, ok := w.agent.cfg.Source.Get(w.key)
	if !ok {
		w.pod = nil
		return
	}
	w.pod = pod
	if pod.DeletionTimestamp != nil {
		w.jobs.cancel("pull/")
	}
	if pod.UID == w.uid {
		return
	}
	w.jobs.cancel("")
	w.uid = pod.UID
	w.local = local{images: map[string]cri.Image{}}
	w.printed = corev1.PodStatus{}
	w.trace = newTrace()
	w.got = &plan.Observed{
		Sandboxes:  w.got.Sandboxes,
		Containers: w.got.Containers,
		Images:     map[string]plan.Image{},
		Failures:   map[plan.Subject]plan.Failure{},
		Marks:      map[string]plan.Mark{},
		Stopping:   map[string]plan.Stopping{},
	}
	w.loadMarks()
}

// take does the steps in order up to the first that fails.
func (w *worker) take(ctx context.Context, steps []plan.Step) {
	for _, s := range steps {
		began := time.Now()
		err := w.step(ctx, s)
		if ctx.Err() != nil {
			return
		}
		subject := subjectOf(s)
		if err == nil {
			if s.Verb.Settles() {
				delete(w.got.Failures, subject)
			}
			w.log.Debug("took a step", "step", s.Verb, "container", s.Container, "id", s.ID, "took", time.Since(began))
			continue
		}
		if s.Verb == plan.Create {
			delete(w.got.Images, s.Container) // it may have been removed: look again
		}
		w.fail(subject, s, err)
		w.stale = true
		return
	}
}

// fail records why a step did not work and how long to leave it alone.
func (w *worker) fail(subject plan.Subject, s plan.Step, err error) {
	reason := reasonOf(s, err)
	if w.got.Failures == nil { // a pod that nobody wants has no other state
		w.got.Failures = map[plan.Subject]plan.Failure{}
	}
	last := w.got.Failures[subject]
	if underWay(err) {
		last.Count = 0
	}
	f := last.Fail(subject, reason, err.Error(), time.Now())
	w.got.Failures[subject] = f
	w.log.Warn("step did not work", "step", s.Verb, "container", s.Container, "reason", reason,
		"err", err, "again_in", time.Until(f.RetryAt).Round(time.Millisecond))
}

// underWay reports whether the runtime is still at an earlier call for the
// same thing, from an agent that was killed over it. That ends soon: waiting
// longer and longer would be wrong.
func underWay(err error) bool {
	return strings.Contains(err.Error(), "is reserved for") || strings.Contains(err.Error(), "in starting state")
}

// reasoned is an error that knows the CamelCase reason for a status.
type reasoned struct {
	reason string
	error
}

func (r reasoned) Unwrap() error { return r.error }

func reasonOf(s plan.Step, err error) string {
	var r reasoned
	if errors.As(err, &r) {
		return r.reason
	}
	switch s.Verb {
	case plan.Setup:
		return "FailedMount"
	case plan.RunSandbox:
		return "FailedCreatePodSandBox"
	case plan.Pull:
		return image.ErrImagePull
	case plan.Create:
		return "CreateContainerError"
	case plan.Start:
		return "RunContainerError"
	}
	return "FailedKillPod"
}

func subjectOf(s plan.Step) plan.Subject {
	switch s.Verb {
	case plan.Setup:
		return plan.SubjectSetup
	case plan.RunSandbox, plan.StopSandbox:
		return plan.SubjectSandbox
	case plan.Create, plan.Start:
		return plan.SubjectCreate.Of(s.Container)
	case plan.Pull:
		return plan.SubjectImage.Of(s.Container)
	}
	return plan.SubjectRemove
}

// publish tells the source the pod's status when it has changed, and the
// slow look what this worker believes. It reports whether the source took it.
func (w *worker) publish() bool {
	defer w.saveMarks()
	w.believe()
	if w.pod == nil {
		return true
	}
	node := plan.Node{IPs: w.agent.cfg.Node.IPs, Runtime: "containerd"}
	s := plan.Status(w.pod, w.got, node, time.Now())
	w.trace.status(w, s)
	if reflect.DeepEqual(s, w.printed) {
		return true
	}
	if err := w.agent.cfg.Source.SetStatus(w.key, w.uid, s); err != nil {
		w.log.Warn("status not recorded", "err", err)
		return false
	}
	w.printed = s
	return true
}
