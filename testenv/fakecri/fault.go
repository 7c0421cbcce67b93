package fakecri

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrInjected is in every error that a fault made.
var ErrInjected = errors.New("injected fault")

// Verb is a kind of call, for faults to be planned by.
type Verb string

// The verbs: one for each call that changes something, Look for all that do
// not.
const (
	RunSandbox      Verb = "run sandbox"
	StopSandbox     Verb = "stop sandbox"
	RemoveSandbox   Verb = "remove sandbox"
	CreateContainer Verb = "create container"
	StartContainer  Verb = "start container"
	StopContainer   Verb = "stop container"
	RemoveContainer Verb = "remove container"
	ReopenLog       Verb = "reopen log of container"
	Exec            Verb = "exec in container"
	Pull            Verb = "pull image"
	RemoveImage     Verb = "remove image"
	Look            Verb = "look"
)

// Verbs are all of them.
func Verbs() []Verb {
	return []Verb{RunSandbox, StopSandbox, RemoveSandbox, CreateContainer, StartContainer, StopContainer,
		RemoveContainer, ReopenLog, Exec, Pull, RemoveImage, Look}
}

// Fault is what happens to one call.
type Fault struct {
	// Delay passes before anything else.
	Delay time.Duration
	// Before fails the call before it had an effect, After when it already
	// had: the caller does not learn the new id.
	Before, After bool
	// Words are the error's, beside ErrInjected.
	Words string
}

func (f Fault) error(when string) error {
	if f.Words == "" {
		return fmt.Errorf("%w, %s its effect", ErrInjected, when)
	}
	return fmt.Errorf("%s (%w, %s its effect)", f.Words, ErrInjected, when)
}

// Faults are chances from 0 to 1.
type Faults struct {
	Before, After float64
	// Slow is the chance that a call takes a while, up to SlowFor.
	Slow    float64
	SlowFor time.Duration
	// LostEvent is the chance that an exit is not told.
	LostEvent float64
}

// Plan makes the next call of verb suffer f; plans for one verb queue up and
// go before chance.
func (r *Runtime) Plan(verb Verb, f Fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.planned[verb] = append(r.planned[verb], f)
}

// SetFaults replaces the chances, from the next call on. The zero value ends
// them, so that a test can prove that all comes to rest.
func (r *Runtime) SetFaults(f Faults) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = f
}

// draw is the fault of one call.
func (r *Runtime) draw(verb Verb) Fault {
	r.mu.Lock()
	defer r.mu.Unlock()
	if plan := r.planned[verb]; len(plan) > 0 {
		r.planned[verb] = plan[1:]
		return plan[0]
	}
	var f Fault
	if r.chance(r.faults.Slow) && r.faults.SlowFor > 0 {
		f.Delay = time.Duration(r.rand.Int64N(int64(r.faults.SlowFor)) + 1)
	}
	f.Before = r.chance(r.faults.Before)
	f.After = r.chance(r.faults.After)
	return f
}

func (r *Runtime) chance(p float64) bool { return p > 0 && r.rand.Float64() < p }

// do runs one call: its fault, and its effect under the lock. what names the
// call in errors as cri.Client does.
func (r *Runtime) do(ctx context.Context, verb Verb, what string, effect func() error) error {
	return r.wait(ctx, verb, what, func() (<-chan struct{}, error) { return nil, effect() })
}

// wait is do for an effect that is complete only when the channel that it
// returns is closed.
func (r *Runtime) wait(ctx context.Context, verb Verb, what string, effect func() (<-chan struct{}, error)) error {
	f := r.draw(verb)
	if err := pause(ctx, f.Delay); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if f.Before {
		return fmt.Errorf("%s: %w", what, f.error("before"))
	}
	done, err := r.effect(effect)
	if err == nil && done != nil {
		select {
		case <-done:
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	if err == nil && f.After {
		err = f.error("after")
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func (r *Runtime) effect(effect func() (<-chan struct{}, error)) (<-chan struct{}, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.down {
		return nil, errors.New(`connection error: desc = "transport: Error while dialing: connect: connection refused"`)
	}
	return effect()
}

// pause waits for d, or for the end of ctx.
func pause(ctx context.Context, d time.Duration) error {
	if err := ctx.Err(); err != nil || d <= 0 {
		return err
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
