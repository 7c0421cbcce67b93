package agent

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"pinnace/agent/image"
	"pinnace/agent/plan"
	"pinnace/agent/probe"
	"pinnace/cri"
)

// jobs are the steps that take their time: they run beside the worker and
// leave a note when they end. The map belongs to the worker's goroutine.
type jobs struct {
	running map[string]*job
	group   sync.WaitGroup
}

type job struct{ cancel context.CancelFunc }

// begin runs f beside the worker; a job of the same name is called off first.
// The note that f returns is applied by the worker, unless the job was called
// off by then.
func (j *jobs) begin(ctx context.Context, w *worker, name string, f func(context.Context) func(*worker)) {
	if old, ok := j.running[name]; ok {
		old.cancel()
	}
	ctx, cancel := context.WithCancel(ctx)
	me := &job{cancel}
	j.running[name] = me
	j.group.Go(func() {
		note := f(ctx)
		cancel()
		w.tell(func(w *worker) {
			if j.running[name] == me {
				delete(j.running, name)
				note(w)
			}
		})
	})
}

// cancel calls off the jobs whose name begins with prefix.
func (j *jobs) cancel(prefix string) {
	for name, job := range j.running {
		if strings.HasPrefix(name, prefix) {
			job.cancel()
			delete(j.running, name)
		}
	}
}

func (j *jobs) wait() {
	j.cancel("")
	j.group.Wait()
}

// pull fetches the image for a container's next attempt.
func (w *worker) pull(ctx context.Context, s plan.Step) {
	c, err := w.spec(s.Container)
	if err != nil {
		return
	}
	ref, policy, uid := c.Image, c.ImagePullPolicy, w.uid
	w.got.Images[s.Container] = plan.Image{Attempt: s.Attempt, Pulling: true}
	w.jobs.begin(ctx, w, "pull/"+s.Container, func(ctx context.Context) func(*worker) {
		img, err := w.agent.cfg.Images.Ensure(ctx, ref, policy)
		return func(w *worker) {
			if w.uid == uid {
				w.pulled(s, img, err)
			}
		}
	})
}

func (w *worker) pulled(s plan.Step, img cri.Image, err error) {
	if err != nil {
		w.got.Images[s.Container] = plan.Image{}
		var told *image.Error
		if errors.As(err, &told) {
			err = reasoned{told.Reason, errors.New(told.Message)}
		}
		w.fail(plan.SubjectImage.Of(s.Container), s, err)
		return
	}
	w.trace.mark(&w.trace.image)
	delete(w.got.Failures, plan.SubjectImage.Of(s.Container))
	w.local.images[s.Container] = img
	w.got.Images[s.Container] = plan.Image{Attempt: s.Attempt, Ref: img.ID}
}

// target is where the probes and hooks of a container go.
func (w *worker) target(c *corev1.Container, id string) probe.Target {
	t := probe.Target{ContainerID: id, Container: c, HostNetwork: w.pod.Spec.HostNetwork}
	if ips := w.agent.cfg.Node.IPs; len(ips) > 0 {
		t.NodeIP, t.PodIP = ips[0], ips[0]
	}
	if sb := w.got.Sandboxes; !t.HostNetwork && len(sb) > 0 && len(sb[0].IPs) > 0 {
		t.PodIP = sb[0].IPs[0]
	}
	return t
}

// postStart runs a container's hook. It is delivered at least once: an agent
// that dies over it runs it again.
func (w *worker) postStart(ctx context.Context, s plan.Step) {
	c, err := w.spec(s.Container)
	if err != nil {
		return
	}
	hook, target := c.Lifecycle.PostStart, w.target(c, s.ID)
	w.mark(s.ID, func(m *plan.Mark) { m.PostStart = plan.Running })
	w.jobs.begin(ctx, w, "hook/"+s.ID, func(ctx context.Context) func(*worker) {
		err := probe.Hook(ctx, hook, target, w.agent.cfg.Runtime)
		return func(w *worker) {
			verdict := plan.Success
			if err != nil {
				verdict = plan.Failed
				w.log.Warn("postStart hook failed", "container", s.Container, "err", err)
			}
			w.mark(s.ID, func(m *plan.Mark) { m.PostStart = verdict })
		}
	})
}

// stop ends a container: preStop hook, SIGTERM, and SIGKILL when the grace
// period is over. A second stop with less grace takes the place of the first.
func (w *worker) stop(ctx context.Context, s plan.Step) {
	w.jobs.cancel("hook/" + s.ID)
	if w.got.Stopping == nil {
		w.got.Stopping = map[string]plan.Stopping{}
	}
	_, hurried := w.got.Stopping[s.ID]
	w.got.Stopping[s.ID] = plan.Stopping{Grace: s.Grace}
	if s.Restart {
		w.mark(s.ID, func(m *plan.Mark) { m.Restart = true })
		w.saveMarks()
	}
	var hook *corev1.LifecycleHandler
	var target probe.Target
	if c, err := w.spec(s.Container); err == nil && s.UID == string(w.uid) && c.Lifecycle != nil && !hurried {
		hook, target = c.Lifecycle.PreStop, w.target(c, s.ID)
	}
	w.log.Info("stopping a container", "container", s.Container, "reason", s.Reason, "grace", s.Grace)
	w.jobs.begin(ctx, w, "stop/"+s.ID, func(ctx context.Context) func(*worker) {
		err := w.end(ctx, s, hook, target)
		return func(w *worker) {
			delete(w.got.Stopping, s.ID)
			w.noted(ctx, s.ID)
			if err != nil {
				w.fail(plan.SubjectRemove, s, err)
				return
			}
			delete(w.got.Failures, plan.SubjectRemove)
		}
	})
}

// leastGrace is what a container gets after SIGTERM even when its preStop
// hook has used up the whole grace period, as upstream documents.
const leastGrace = 2 * time.Second

func (w *worker) end(ctx context.Context, s plan.Step, hook *corev1.LifecycleHandler, t probe.Target) error {
	grace := s.Grace
	if hook != nil && grace > 0 {
		began := time.Now()
		hookCtx, cancel := context.WithTimeout(ctx, grace)
		if err := probe.Hook(hookCtx, hook, t, w.agent.cfg.Runtime); err != nil && ctx.Err() == nil {
			w.log.Warn("preStop hook failed", "container", s.Container, "err", err)
		}
		cancel()
		grace = max(grace-time.Since(began), leastGrace)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return w.agent.cfg.Runtime.StopContainer(ctx, s.ID, grace)
}
