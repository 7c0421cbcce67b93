package agent

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// trace is where the time of a pod's first start went. It is told once, when
// the pod runs.
type trace struct {
	queued, image, sandboxBegun, sandboxReady, create, start time.Time
	told                                                     bool
}

func newTrace() trace { return trace{queued: time.Now()} }

// mark notes the first time that something happened.
func (t *trace) mark(at *time.Time) {
	if at.IsZero() {
		*at = time.Now()
	}
}

// status tells the trace when the pod has come to run. A pod that this agent
// found running has no trace.
func (t *trace) status(w *worker, s corev1.PodStatus) {
	if t.told || s.Phase == "" || s.Phase == corev1.PodPending {
		return
	}
	t.told = true
	if t.start.IsZero() || w.got.Sandboxes == nil {
		return
	}
	since := func(from, to time.Time) any {
		if from.IsZero() || to.IsZero() {
			return "-"
		}
		return to.Sub(from).Round(100 * time.Microsecond)
	}
	w.log.Info("the pod runs",
		"queued", since(t.queued, t.sandboxBegun), "sandbox", since(t.sandboxBegun, t.sandboxReady),
		"image", since(t.queued, t.image), "create", since(t.create, t.start),
		"start", since(t.start, time.Now()), "total", since(t.queued, time.Now()))
}
