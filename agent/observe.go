package agent

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"pinnace/agent/logs"
	"pinnace/agent/plan"
	"pinnace/cri"
)

// Limits of a termination message, as the Pod API documents them.
const (
	messageLimit     = 4096
	messageTail      = 80   // lines of log
	messageTailLimit = 2048 // bytes of log
)

// lookAgain lists the pod in the runtime and looks at each part of it.
func (w *worker) lookAgain(ctx context.Context) error {
	pods, err := w.agent.observeAll(ctx, map[string]string{
		cri.LabelPodNamespace: w.key.Namespace,
		cri.LabelPodName:      w.key.Name,
	})
	if err != nil {
		return err
	}
	w.got.Sandboxes, w.got.Containers = nil, nil
	if got := pods[w.key]; got != nil {
		w.got.Sandboxes, w.got.Containers = got.Sandboxes, got.Containers
	}
	if err := w.detail(ctx); err != nil {
		return err
	}
	w.stale = false
	return nil
}

// detail completes what a list leaves out.
func (w *worker) detail(ctx context.Context) error {
	for _, s := range slices.Clone(w.got.Sandboxes) {
		w.agent.own(w, s.ID)
		if s.Ready {
			if err := w.lookSandbox(ctx, s.ID); err != nil {
				return err
			}
		}
	}
	for _, c := range slices.Clone(w.got.Containers) {
		w.agent.own(w, c.ID)
		if err := w.lookContainer(ctx, c.ID); err != nil {
			return err
		}
	}
	return nil
}

func (w *worker) lookSandbox(ctx context.Context, id string) error {
	s, err := w.agent.cfg.Runtime.Sandbox(ctx, id)
	if errors.Is(err, cri.ErrNotFound) {
		w.got.Sandboxes = slices.DeleteFunc(w.got.Sandboxes, func(s cri.Sandbox) bool { return s.ID == id })
		return nil
	}
	if err != nil {
		return err
	}
	for i := range w.got.Sandboxes {
		if w.got.Sandboxes[i].ID == id {
			w.got.Sandboxes[i] = s
		}
	}
	return nil
}

func (w *worker) lookContainer(ctx context.Context, id string) error {
	c, err := w.agent.cfg.Runtime.Container(ctx, id)
	if errors.Is(err, cri.ErrNotFound) {
		w.got.Containers = slices.DeleteFunc(w.got.Containers, func(c cri.Container) bool { return c.ID == id })
		return nil
	}
	if err != nil {
		return err
	}
	for i, old := range w.got.Containers {
		if old.ID == id {
			c.SandboxID, c.PodUID = old.SandboxID, old.PodUID // a status leaves them out
			w.got.Containers[i] = withMessage(c)
		}
	}
	return nil
}

// withMessage adds an ended container's last words: its termination message
// file, or the end of its log when the policy says so and it failed.
func withMessage(c cri.Container) cri.Container {
	if c.State != cri.ContainerExited {
		return c
	}
	text := readEnd(c.Annotations[cri.AnnotationMessageFile], messageLimit)
	if text == "" && c.ExitCode != 0 && c.Annotations[cri.AnnotationMessagePolicy] == "FallbackToLogsOnError" {
		tail, err := logs.Tail(c.LogPath, messageTail, messageTailLimit)
		if err == nil {
			text = string(tail)
		}
	}
	if text != "" {
		c.Message = text
	}
	return c
}

// readEnd is the last bytes of a file, "" when there is none.
func readEnd(file string, limit int64) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	if fi, err := f.Stat(); err == nil && fi.Size() > limit {
		if _, err := f.Seek(-limit, io.SeekEnd); err != nil {
			return ""
		}
	}
	text, err := io.ReadAll(io.LimitReader(f, limit))
	if err != nil {
		return ""
	}
	return strings.ToValidUTF8(string(text), "\uFFFD")
}

// note is called by others when an id of this pod has ended.
func (w *worker) note(id string) {
	w.tell(func(w *worker) { w.noted(context.Background(), id) })
}

// noted looks at one id; when that does not work, the next sync looks at all.
func (w *worker) noted(ctx context.Context, id string) {
	ctx = context.WithoutCancel(ctx)
	look := w.lookContainer
	if slices.ContainsFunc(w.got.Sandboxes, func(s cri.Sandbox) bool { return s.ID == id }) {
		look = w.lookSandbox
	}
	if err := look(ctx, id); err != nil {
		w.stale = true
	}
	w.ending.noted(id, w.alive(id), time.Now())
}

// alive reports whether an id runs as far as this worker knows.
func (w *worker) alive(id string) bool {
	return slices.ContainsFunc(w.got.Sandboxes, func(s cri.Sandbox) bool { return s.ID == id && s.Ready }) ||
		slices.ContainsFunc(w.got.Containers, func(c cri.Container) bool { return c.ID == id && c.State == cri.ContainerRunning })
}

// lookLate looks again at ids whose end is overdue, and returns when to do so
// next.
func (w *worker) lookLate(ctx context.Context) time.Time {
	for _, id := range w.ending.due(time.Now()) {
		w.noted(ctx, id)
	}
	return w.ending.next()
}

// believe writes down what this worker takes for true, for the slow look.
func (w *worker) believe() {
	ids, files := map[string]cri.ContainerState{}, map[string]string{}
	for _, s := range w.got.Sandboxes {
		ids[s.ID] = cri.ContainerExited
		if s.Ready {
			ids[s.ID] = cri.ContainerRunning
		}
	}
	for _, c := range w.got.Containers {
		ids[c.ID] = c.State
		if c.State == cri.ContainerRunning && c.LogPath != "" {
			files[c.ID] = c.LogPath
		}
	}
	w.inbox.mu.Lock()
	defer w.inbox.mu.Unlock()
	w.inbox.ids, w.inbox.logs = ids, files
}

// knows reports whether a list shows what this worker believes.
func (w *worker) knows(got *plan.Observed) bool {
	w.inbox.mu.Lock()
	defer w.inbox.mu.Unlock()
	n := len(got.Sandboxes) + len(got.Containers)
	for _, s := range got.Sandboxes {
		state, ok := w.inbox.ids[s.ID]
		if !ok || s.Ready != (state == cri.ContainerRunning) {
			return false
		}
	}
	for _, c := range got.Containers {
		if state, ok := w.inbox.ids[c.ID]; !ok || state != c.State {
			return false
		}
	}
	return n == len(w.inbox.ids)
}

func (w *worker) logFiles() map[string]string {
	w.inbox.mu.Lock()
	defer w.inbox.mu.Unlock()
	return w.inbox.logs
}
