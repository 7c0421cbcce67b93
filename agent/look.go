package agent

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"pinnace/agent/plan"
	"pinnace/cri"
)

// ours is the label that everything of this agent carries in the runtime.
func (a *Agent) ours() map[string]string {
	return map[string]string{cri.LabelInstance: a.cfg.Node.Instance}
}

// restore makes a worker for every pod name that has something in the
// runtime, with what it has there already looked at, so that a restart
// with many pods is quick. Names that the source still wants and that have
// nothing there get their worker from the source's first list.
func (a *Agent) restore(ctx context.Context) error {
	pods, err := a.observeAll(ctx, nil)
	for err != nil {
		a.cfg.Logger.Warn("cannot list the pods that run; trying again", "err", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
			pods, err = a.observeAll(ctx, nil)
		}
	}
	var details sync.WaitGroup
	places := make(chan struct{}, 8)
	for key, got := range pods {
		w := newWorker(a, key)
		w.got = got
		details.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			w.stale = w.detail(ctx) != nil
		})
		a.workers[key] = w
	}
	details.Wait()
	if err := a.sweepMarks(pods); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, w := range a.workers {
		a.start(ctx, w)
		w.wake()
	}
	if len(pods) > 0 {
		a.cfg.Logger.Info("took up running pods", "pods", len(pods))
	}
	return nil
}

// observeAll lists everything of ours in the runtime by pod name.
func (a *Agent) observeAll(ctx context.Context, more map[string]string) (map[types.NamespacedName]*plan.Observed, error) {
	labels := a.ours()
	maps.Copy(labels, more)
	sandboxes, err := a.cfg.Runtime.Sandboxes(ctx, labels)
	if err != nil {
		return nil, err
	}
	all, err := a.cfg.Runtime.Containers(ctx, labels)
	if err != nil {
		return nil, err
	}
	pods := map[types.NamespacedName]*plan.Observed{}
	keys := map[string]types.NamespacedName{}
	for _, s := range sandboxes {
		key := types.NamespacedName{Namespace: s.Namespace, Name: s.Name}
		keys[s.ID] = key
		if pods[key] == nil {
			pods[key] = &plan.Observed{}
		}
		pods[key].Sandboxes = append(pods[key].Sandboxes, s)
	}
	for _, c := range all {
		if key, ok := keys[c.SandboxID]; ok {
			pods[key].Containers = append(pods[key].Containers, c)
		}
	}
	return pods, nil
}

// look finds what events have lost: it lists the whole node and wakes the
// workers whose picture of their pod is not what the runtime shows.
func (a *Agent) look(ctx context.Context) (answered bool) {
	pods, err := a.observeAll(ctx, nil)
	if err != nil {
		a.cfg.Logger.Debug("looked at the runtime in vain", "err", err)
		return false
	}
	a.mu.Lock()
	workers := maps.Clone(a.workers)
	a.mu.Unlock()
	for key, got := range pods {
		if w, ok := workers[key]; !ok {
			a.worker(ctx, key).refresh()
		} else if !w.knows(got) {
			w.refresh()
		}
		delete(workers, key)
	}
	for _, w := range workers {
		if !w.knows(&plan.Observed{}) {
			w.refresh()
		}
	}
	return true
}

// listen follows the runtime's exit events for ever.
func (a *Agent) listen(ctx context.Context) {
	wait := time.Duration(0)
	for ctx.Err() == nil {
		began := time.Now()
		err := a.follow(ctx)
		if time.Since(began) > time.Minute {
			wait = 0
		}
		wait = min(max(2*wait, 100*time.Millisecond), 10*time.Second)
		a.cfg.Logger.Debug("lost the runtime's events", "err", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// follow is one life of the event stream. Nobody tells when the runtime has
// taken the subscription in, and what ended since the last look and before that
// is never told: some looks soon after catch it, each tried until the runtime
// answers.
func (a *Agent) follow(ctx context.Context) error {
	following, broken := context.WithCancel(ctx)
	var looks sync.WaitGroup
	defer looks.Wait()
	defer broken()
	looks.Go(func() {
		for _, wait := range []time.Duration{200 * time.Millisecond, time.Second, 4 * time.Second} {
			for answered := false; !answered; wait = 300 * time.Millisecond {
				select {
				case <-following.Done():
					return
				case <-time.After(wait):
					answered = a.look(following)
				}
			}
		}
	})
	return a.cfg.Exits(ctx, a.exited)
}

func (a *Agent) exited(id string) {
	a.mu.Lock()
	w := a.owners[id]
	a.mu.Unlock()
	if w != nil {
		w.note(id)
	}
}

// rotate looks at the log size of every running container.
func (a *Agent) rotate(ctx context.Context) {
	a.mu.Lock()
	workers := slices.Collect(maps.Values(a.workers))
	a.mu.Unlock()
	for _, w := range workers {
		for id, path := range w.logFiles() {
			if err := a.rotator.Rotate(ctx, id, path); err != nil {
				a.cfg.Logger.Warn("log not rotated", "pod", w.key, "file", path, "err", err)
			}
		}
	}
}

// sweepMarks removes the marks of pods that are no more.
func (a *Agent) sweepMarks(pods map[types.NamespacedName]*plan.Observed) error {
	live := map[string]bool{}
	for _, got := range pods {
		for _, s := range got.Sandboxes {
			live[s.UID+".json"] = true
		}
	}
	dir := filepath.Join(a.cfg.Paths.Run, "pods")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		if !live[f.Name()] { // also what a write left half done
			if err := os.Remove(filepath.Join(dir, f.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}
