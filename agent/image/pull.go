package image

import (
	"context"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// flightKey is what makes two pulls the same one.
type flightKey struct {
	ref                             string
	user, password, identity, token string
}

// flight is one pull that any number of callers wait for. waiters is guarded
// by the Store's lock, id and err are valid once done is closed.
type flight struct {
	done    chan struct{}
	cancel  context.CancelFunc
	waiters int
	id      string
	err     error
}

// pull joins the pull of ref with these credentials, or starts it. The pull
// outlives the caller who started it as long as anybody waits; the last one
// to leave cancels it and sees it end.
func (s *Store) pull(ctx context.Context, ref string, auth *runtimeapi.AuthConfig) (string, error) {
	key := flightKey{ref, auth.GetUsername(), auth.GetPassword(), auth.GetIdentityToken(), auth.GetRegistryToken()}
	s.mu.Lock()
	f := s.flights[key]
	if f == nil {
		f = &flight{done: make(chan struct{})}
		var shared context.Context
		shared, f.cancel = context.WithCancel(context.WithoutCancel(ctx))
		s.flights[key] = f
		go s.fly(shared, key, f, auth)
	}
	f.waiters++
	s.mu.Unlock()

	select {
	case <-f.done:
		return f.id, f.err
	case <-ctx.Done():
	}
	s.mu.Lock()
	f.waiters--
	last := f.waiters == 0
	if last {
		s.land(key, f) // whoever comes now starts afresh
		f.cancel()
	}
	s.mu.Unlock()
	if last {
		<-f.done
	}
	return "", context.Cause(ctx)
}

// fly waits for a slot and pulls.
func (s *Store) fly(ctx context.Context, key flightKey, f *flight, auth *runtimeapi.AuthConfig) {
	defer close(f.done)
	defer f.cancel()
	select {
	case s.slots <- struct{}{}:
		f.id, f.err = s.cfg.Runtime.Pull(ctx, key.ref, auth)
		<-s.slots
	case <-ctx.Done():
		f.err = ctx.Err()
	}
	s.mu.Lock()
	s.land(key, f)
	s.mu.Unlock()
}

// land takes f off the board; the lock is held.
func (s *Store) land(key flightKey, f *flight) {
	if s.flights[key] == f {
		delete(s.flights, key)
	}
}
