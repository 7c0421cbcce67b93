package agent

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"time"

	corev1 "k8s.io/api/core/v1"

	"pinnace/agent/plan"
)

// savedMarks is the file RUN/pods/<uid>.json: what neither the runtime nor
// the source remembers of a pod, for as long as the node is up. It is
// written by rename and never synced: a reboot is meant to lose it.
type savedMarks struct {
	StartedAt  time.Time             `json:"startedAt"`
	Marks      map[string]plan.Mark  `json:"marks,omitempty"`
	Conditions []corev1.PodCondition `json:"conditions,omitempty"` // for their times
}

func (w *worker) marksFile(uid string) string {
	return filepath.Join(w.agent.cfg.Paths.Run, "pods", uid+".json")
}

// mark changes what is remembered of a container.
func (w *worker) mark(id string, change func(*plan.Mark)) {
	m := w.got.Marks[id]
	change(&m)
	if w.got.Marks == nil {
		w.got.Marks = map[string]plan.Mark{}
	}
	w.got.Marks[id] = m
}

// loadMarks takes up what an agent before this one left. A hook that was
// running then is run again; a file that cannot be read counts as none.
func (w *worker) loadMarks() {
	var saved savedMarks
	if text, err := os.ReadFile(w.marksFile(string(w.uid))); err == nil {
		if err := json.Unmarshal(text, &saved); err != nil {
			w.log.Warn("forgot the pod's probe results", "file", w.marksFile(string(w.uid)), "err", err)
			saved = savedMarks{}
		}
	}
	for id, m := range saved.Marks {
		if m.PostStart == plan.Running {
			m.PostStart = plan.Unknown
		}
		w.got.Marks[id] = m
	}
	w.got.StartedAt = saved.StartedAt
	if w.got.StartedAt.IsZero() {
		w.got.StartedAt = w.begun()
	}
	if len(w.pod.Status.Conditions) == 0 {
		w.pod.Status.Conditions = saved.Conditions
	}
}

// begun is when the pod was taken up first: its status knows, or else its
// making, which comes just before.
func (w *worker) begun() time.Time {
	if at := w.pod.Status.StartTime; at != nil {
		return at.Time
	}
	if at := w.pod.CreationTimestamp; !at.IsZero() {
		return at.Time
	}
	return time.Now().Truncate(time.Second)
}

// saveMarks writes the file when something in it has changed.
func (w *worker) saveMarks() {
	if w.pod == nil || w.pod.DeletionTimestamp != nil && len(w.got.Sandboxes) == 0 {
		return
	}
	now := savedMarks{StartedAt: w.got.StartedAt, Marks: map[string]plan.Mark{}, Conditions: w.printed.Conditions}
	for id, m := range w.got.Marks {
		if m != (plan.Mark{}) {
			now.Marks[id] = m
		}
	}
	if reflect.DeepEqual(now, w.local.marks) {
		return
	}
	if err := writeMarks(w.marksFile(string(w.uid)), now); err != nil {
		w.log.Warn("probe results not kept", "err", err)
		return
	}
	w.local.marks = now
}

func writeMarks(file string, m savedMarks) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := os.WriteFile(file+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}
