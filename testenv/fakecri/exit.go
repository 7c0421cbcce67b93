package fakecri

import (
	"context"
	"errors"
	"fmt"
	"time"

	"pinnace/cri"
)

// The methods of this file that take a container expect the lock to be held.

// end makes c exited.
func (c *container) end(e exit) {
	c.state, c.finished, c.exit = cri.ContainerExited, time.Now(), e
	close(c.ended)
}

// finish ends c and tells it to who listens.
func (r *Runtime) finish(c *container, e exit) {
	c.end(e)
	r.tell(c.id)
}

func (r *Runtime) kill(c *container) { r.finish(c, exited(137, false)) }

// remove forgets c, killed first if it must be.
func (r *Runtime) remove(c *container) {
	if c.state == cri.ContainerRunning {
		r.kill(c)
	}
	delete(r.names, c.name)
	delete(r.containers, c.id)
	r.tell(c.id)
}

// later ends c after d, unless something else did before.
func (r *Runtime) later(c *container, d time.Duration, e exit) {
	r.after(d, func() {
		if c.state == cri.ContainerRunning {
			r.finish(c, e)
		}
	})
}

// after runs f under the lock when d has passed.
func (r *Runtime) after(d time.Duration, f func()) {
	time.AfterFunc(d, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		f()
	})
}

// stream is one listener: the ids that it has not taken yet.
type stream struct {
	queue []string
	more  chan struct{} // one slot: the queue has something
	ended chan struct{}
}

// tell queues an id for every listener, but for what is lost.
func (r *Runtime) tell(id string) {
	if r.down {
		return
	}
	for s := range r.streams {
		if r.chance(r.faults.LostEvent) {
			continue
		}
		s.queue = append(s.queue, id)
		select {
		case s.more <- struct{}{}:
		default: // it has been woken already
		}
	}
}

// EndEvents ends every stream, as a restarted daemon does.
func (r *Runtime) EndEvents() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.endStreams()
}

func (r *Runtime) endStreams() {
	for s := range r.streams {
		close(s.ended)
		delete(r.streams, s)
	}
}

// Exits calls exited for everything that stops or is removed from now on,
// until ctx or the stream ends.
func (r *Runtime) Exits(ctx context.Context, exited func(containerID string)) error {
	if r.cfg.NoEvents {
		return fmt.Errorf("watch containers: %w", cri.ErrNoEvents)
	}
	s := &stream{more: make(chan struct{}, 1), ended: make(chan struct{})}
	err := r.do(ctx, Look, "watch containers", func() error {
		r.streams[s] = struct{}{}
		return nil
	})
	defer r.forget(s)
	if err != nil {
		return err
	}
	for {
		select {
		case <-s.more:
			for _, id := range r.take(s) {
				exited(id)
			}
		case <-s.ended:
			return errors.New("watch containers: the stream ended")
		case <-ctx.Done():
			return fmt.Errorf("watch containers: %w", ctx.Err())
		}
	}
}

func (r *Runtime) take(s *stream) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	ids := s.queue
	s.queue = nil
	return ids
}

func (r *Runtime) forget(s *stream) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.streams, s)
}
