package record

import (
	"context"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"
)

// watcher gathers the names that changed since it last looked.
type watcher struct {
	changed map[types.NamespacedName]struct{}
	wake    chan struct{} // one slot: "look"
}

// Watch calls changed with every name once and then with each name of which
// something changed, its removal included, until ctx ends. Changes of one name
// coalesce; the caller looks up what is true now. A slow caller delays nobody.
func (s *Store) Watch(ctx context.Context, changed func(types.NamespacedName)) error {
	w := &watcher{changed: map[types.NamespacedName]struct{}{}, wake: make(chan struct{}, 1)}
	s.mu.Lock()
	for key := range s.entries {
		w.changed[key] = struct{}{}
	}
	s.watchers[w] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.watchers, w)
		s.mu.Unlock()
	}()
	for {
		for _, key := range s.take(w) {
			if ctx.Err() != nil {
				return nil
			}
			changed(key)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-w.wake:
		}
	}
}

// take empties what w has gathered, in order of names.
func (s *Store) take(w *watcher) []types.NamespacedName {
	s.mu.Lock()
	defer s.mu.Unlock()
	keys := slices.Collect(maps.Keys(w.changed))
	clear(w.changed)
	slices.SortFunc(keys, func(a, b types.NamespacedName) int { return strings.Compare(a.String(), b.String()) })
	return keys
}

// tell notes for every watcher that key changed. The lock is held.
func (s *Store) tell(key types.NamespacedName) {
	for w := range s.watchers {
		w.changed[key] = struct{}{}
		select {
		case w.wake <- struct{}{}:
		default: // it has been told to look
		}
	}
}
