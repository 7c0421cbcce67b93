package fakecri

import (
	"context"
	"fmt"
	"strings"
	"time"

	"pinnace/cri"
)

// Script is what a container does once started. The zero value runs until it
// is stopped and ends on SIGTERM at once, with 143.
type Script struct {
	// StartError makes the start fail with these words; the container is then
	// exited with 128, as containerd leaves it.
	StartError string
	// Exits ends the container by itself, After its start, with Code; OOM
	// says that the kernel did it.
	Exits bool
	After time.Duration
	Code  int32
	OOM   bool
	// IgnoresTERM: only SIGKILL ends it. Else SIGTERM does, after TermTakes,
	// with TermCode, or 143 when that is nil.
	IgnoresTERM bool
	TermTakes   time.Duration
	TermCode    *int32
	// Exec answers commands run in the container; nil: they all succeed and
	// say nothing. It may wait for ctx, which ends with the timeout.
	Exec func(ctx context.Context, cmd []string) (cri.ExecResult, error)
}

// exit is how a container ended.
type exit struct {
	code   int32
	reason string
}

func exited(code int32, oom bool) exit {
	switch {
	case oom:
		return exit{code, "OOMKilled"}
	case code == 0:
		return exit{code, "Completed"}
	}
	return exit{code, "Error"}
}

// Crash ends a running container from within, as a bug of its own would; it
// fails the test's assumption loudly when the container does not run.
func (r *Runtime) Crash(id string, code int32) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := r.container(id)
	if err != nil {
		return err
	}
	if c.state != cri.ContainerRunning {
		return fmt.Errorf("crash container %s: it does not run", id)
	}
	r.finish(c, exited(code, false))
	return nil
}

// Exec runs cmd by the container's script.
func (r *Runtime) Exec(ctx context.Context, id string, cmd []string, timeout time.Duration) (cri.ExecResult, error) {
	what := "exec in container " + id
	var script Script
	var ended <-chan struct{}
	err := r.do(ctx, Exec, what, func() error {
		c, err := r.container(id)
		if err != nil {
			return err
		}
		if c.state != cri.ContainerRunning {
			return fmt.Errorf("container is in %s state", word(c.state))
		}
		script, ended = c.script, c.ended
		return nil
	})
	if err != nil || script.Exec == nil {
		return cri.ExecResult{}, err
	}
	execCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	if timeout > 0 {
		var stop context.CancelFunc
		execCtx, stop = context.WithTimeout(execCtx, timeout)
		defer stop()
	}
	type answer struct {
		res cri.ExecResult
		err error
	}
	answered := make(chan answer, 1)
	go func() {
		res, err := script.Exec(execCtx, cmd)
		answered <- answer{res, err}
	}()
	select {
	case a := <-answered:
		if a.err != nil && ctx.Err() == nil && execCtx.Err() != nil {
			return cri.ExecResult{}, fmt.Errorf("%s: %q: %w", what, strings.Join(cmd, " "), cri.ErrTimeout)
		}
		if a.err != nil {
			return cri.ExecResult{}, fmt.Errorf("%s: %w", what, a.err)
		}
		return a.res, nil
	case <-ended: // the command dies with its container
		return cri.ExecResult{ExitCode: 137}, nil
	}
}
