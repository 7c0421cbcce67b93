package network

import "sync"

// keyed holds one lock per sandbox, so that an ADD and a DEL of one sandbox
// take turns while a hundred sandboxes are wired side by side. The zero value
// is ready.
type keyed struct {
	mu    sync.Mutex
	locks map[string]*turn
}

type turn struct {
	sync.Mutex
	waiting int
}

// lock waits for its turn with key and returns what ends it.
func (k *keyed) lock(key string) (unlock func()) {
	k.mu.Lock()
	if k.locks == nil {
		k.locks = map[string]*turn{}
	}
	t := k.locks[key]
	if t == nil {
		t = &turn{}
		k.locks[key] = t
	}
	t.waiting++
	k.mu.Unlock()
	t.Lock()
	return func() {
		t.Unlock()
		k.mu.Lock()
		defer k.mu.Unlock()
		if t.waiting--; t.waiting == 0 {
			delete(k.locks, key)
		}
	}
}
