package agent

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"pinnace/agent/plan"
	"pinnace/agent/probe"
	"pinnace/cri"
)

type probeKey struct {
	id   string
	kind probe.Kind
}

// probes are the watches over the pod's running containers. The map belongs
// to the worker's goroutine.
type probes struct {
	running map[probeKey]context.CancelFunc
	group   sync.WaitGroup
}

// sync starts the watches that should run and ends those that should not.
func (p *probes) sync(ctx context.Context, w *worker) {
	want := w.watches()
	for key, cancel := range p.running {
		if _, ok := want[key]; !ok {
			cancel()
			delete(p.running, key)
		}
	}
	for key, watch := range want {
		if _, ok := p.running[key]; ok {
			continue
		}
		ctx, cancel := context.WithCancel(ctx)
		p.running[key] = cancel
		p.group.Go(func() {
			_ = watch.Run(ctx, w.agent.cfg.Runtime, func(r probe.Result, message string) { // ends with ctx only
				w.tell(func(w *worker) {
					if ctx.Err() == nil {
						w.probed(key, r, message)
					}
				})
			})
		})
	}
}

func (p *probes) stop() {
	for key, cancel := range p.running {
		cancel()
		delete(p.running, key)
	}
	p.group.Wait()
}

// watches lists the probes that should be running now: none before the
// postStart hook has ended; the startup probe until it succeeds, then the
// others; on a container that is to end only readiness, as a server may take
// itself off while it drains.
func (w *worker) watches() map[probeKey]probe.Watch {
	all := map[probeKey]probe.Watch{}
	if w.pod == nil || len(w.got.Sandboxes) == 0 {
		return all
	}
	for _, c := range w.got.Containers {
		_, ending := w.got.Stopping[c.ID]
		ending = ending || w.pod.DeletionTimestamp != nil
		spec, err := w.spec(c.Name)
		if err != nil || c.State != cri.ContainerRunning || c.SandboxID != w.got.Sandboxes[0].ID {
			continue
		}
		m := w.got.Marks[c.ID]
		hook := spec.Lifecycle != nil && spec.Lifecycle.PostStart != nil && m.PostStart != plan.Success
		starting := spec.StartupProbe != nil && m.Startup != plan.Success
		switch {
		case hook:
		case starting && !ending:
			w.watch(all, "startup", spec, c)
		case !starting:
			w.watch(all, "readiness", spec, c)
			if !ending {
				w.watch(all, "liveness", spec, c)
			}
		}
	}
	return all
}

func (w *worker) watch(all map[probeKey]probe.Watch, kind probe.Kind, spec *corev1.Container, c cri.Container) {
	m := w.got.Marks[c.ID]
	p, last := spec.LivenessProbe, m.Liveness
	switch kind {
	case "startup":
		p, last = spec.StartupProbe, m.Startup
	case "readiness":
		p, last = spec.ReadinessProbe, m.Readiness
	}
	if p == nil {
		return
	}
	all[probeKey{c.ID, kind}] = probe.Watch{
		Kind: kind, Spec: p, Target: w.target(spec, c.ID), Started: c.StartedAt, Last: results[last],
	}
}

// results and verdicts translate between the two packages' words.
var (
	results  = map[plan.Verdict]probe.Result{plan.Success: probe.Success, plan.Failed: probe.Failure}
	verdicts = map[probe.Result]plan.Verdict{probe.Success: plan.Success, probe.Failure: plan.Failed}
)

// probed records a verdict.
func (w *worker) probed(key probeKey, r probe.Result, message string) {
	v := verdicts[r]
	w.mark(key.id, func(m *plan.Mark) {
		switch key.kind {
		case "startup":
			m.Startup = v
		case "readiness":
			m.Readiness = v
		case "liveness":
			m.Liveness = v
		}
	})
	if v == plan.Failed {
		w.log.Warn("probe failed", "kind", key.kind, "id", key.id, "reason", message)
	}
}
