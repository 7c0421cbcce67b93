package node

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"pinnace/agent/admit"
	"pinnace/agent/manifest"
)

// checker judges a pod from a manifest for this node.
func checker(nodeName string) manifest.Check { return admit.Check(nodeName) }

// verdicts holds the last word on every manifest, for `pinnace status`.
type verdicts struct {
	mu   sync.Mutex
	last manifest.Snapshot
	note string // why the directory is not followed just now
}

func (v *verdicts) set(s manifest.Snapshot, note string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.last, v.note = s, note
}

func (v *verdicts) get() (manifest.Snapshot, string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.last, v.note
}

// applyRetry is how long apply waits after the record could not be written.
const applyRetry = 5 * time.Second

// apply carries one look at the manifest directory into the record. A refused
// file keeps the pods that it last described; a directory that is not whole,
// or not the one it was, keeps all. It comes back only when the record is
// written or ctx ends, so that a full disk delays an edit and loses none.
func (h *house) apply(ctx context.Context, s manifest.Snapshot) {
	for ctx.Err() == nil {
		s = manifest.Resolve(s, h.store.Owner)
		err := h.record(s)
		if err == nil {
			return
		}
		h.log.Error("manifests not recorded; what runs goes on", "err", err)
		h.files.set(s, fmt.Sprintf("not recorded, trying again: %v", err))
		select {
		case <-ctx.Done():
		case <-time.After(applyRetry):
			s = h.dir.Read()
		}
	}
}

// record writes down what a snapshot wants, and its verdicts.
func (h *house) record(s manifest.Snapshot) error {
	keep, note, err := h.keep(s)
	if err != nil {
		return err
	}
	if err := h.store.Apply(accepted(s), keep); err != nil {
		return err
	}
	old, oldNote := h.files.get()
	h.files.set(s, note)
	h.tell(old, s, oldNote, note)
	return nil
}

func accepted(s manifest.Snapshot) []*corev1.Pod {
	var pods []*corev1.Pod
	for _, f := range s.Files {
		pods = append(pods, f.Pods...)
	}
	return pods
}

// keep says which files' pods stay although the snapshot does not show them,
// and why when that is all of them.
func (h *house) keep(s manifest.Snapshot) (func(file string) bool, string, error) {
	if !s.Whole {
		return everything, s.Reason, nil
	}
	refused, names := map[string]bool{}, []string{}
	for _, f := range s.Files {
		refused[f.Name] = len(f.Problems) > 0
		names = append(names, f.Name)
	}
	prune, reason, err := h.store.Settle(s.Device, names)
	if err != nil || !prune {
		return everything, reason, err
	}
	return func(file string) bool { return refused[file] }, s.Note, nil
}

func everything(string) bool { return true }

// tell logs what is new about the manifests since the last snapshot.
func (h *house) tell(old, s manifest.Snapshot, oldNote, note string) {
	if note != "" && note != oldNote {
		h.log.Warn("the manifest directory is not as it was", "note", note)
	}
	known := map[string][]manifest.Problem{}
	for _, f := range old.Files {
		known[f.Name] = f.Problems
	}
	for _, f := range s.Files {
		if slices.Equal(known[f.Name], f.Problems) {
			continue
		}
		for _, p := range f.Problems {
			h.log.Warn("refused a manifest", "file", f.Name, "line", p.Line, "field", p.Field, "reason", p.Reason)
		}
	}
}
