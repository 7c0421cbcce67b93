package suite

import (
	"context"
	"strings"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"pinnace/cri"
)

// box is a sandbox that has been run.
type box struct {
	id  string
	cfg *runtimeapi.PodSandboxConfig
}

// ready runs a sandbox, which the case removes at its end.
func (e *env) ready() box {
	e.Helper()
	return e.run(e.sandboxConfig(0))
}

func (e *env) run(cfg *runtimeapi.PodSandboxConfig) box {
	e.Helper()
	id, err := e.RunSandbox(e.Context(), cfg, "")
	if err != nil {
		e.Fatal(err)
	}
	e.Cleanup(func() {
		if err := e.RemoveSandbox(context.Background(), id); err != nil {
			e.Errorf("clean up: %v", err)
		}
	})
	return box{id, cfg}
}

func (e *env) create(b box, name, program string, attempt uint32) string {
	e.Helper()
	id, err := e.CreateContainer(e.Context(), b.id, e.containerConfig(b.cfg, name, program, attempt), b.cfg)
	if err != nil {
		e.Fatal(err)
	}
	return id
}

// running creates and starts a container.
func (e *env) running(b box, name, program string) string {
	e.Helper()
	id := e.create(b, name, program, 0)
	e.ok(e.StartContainer(e.Context(), id))
	return id
}

func (e *env) ok(err error) {
	e.Helper()
	if err != nil {
		e.Fatal(err)
	}
}

// refused wants an error that says words.
func (e *env) refused(err error, words string) {
	e.Helper()
	if err == nil {
		e.Fatalf("succeeded; want an error with %q", words)
	}
	if !strings.Contains(err.Error(), words) {
		e.Fatalf("error %q does not say %q", err, words)
	}
}

func (e *env) look(id string) cri.Container {
	e.Helper()
	c, err := e.Container(e.Context(), id)
	if err != nil {
		e.Fatal(err)
	}
	return c
}

// exited waits until the container has.
func (e *env) exited(id string) cri.Container {
	e.Helper()
	ctx, cancel := context.WithTimeout(e.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		c := e.look(id)
		if c.State == cri.ContainerExited {
			return c
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			e.Fatalf("container %s has not exited: %+v", id, c)
		}
	}
}

// up waits until a Forever has set its trap and a Stubborn ignores signals:
// until then SIGTERM would end or spare them by chance.
func (e *env) up(id string) {
	e.Helper()
	ctx, cancel := context.WithTimeout(e.Context(), 20*time.Second)
	defer cancel()
	for {
		// The shell's child is there once the trap is.
		res, err := e.Exec(ctx, id, ChildThere, 10*time.Second)
		if err != nil {
			e.Fatal(err)
		}
		if res.ExitCode == 0 {
			return
		}
	}
}

func (e *env) wantExit(c cri.Container, code int32, reason string) {
	e.Helper()
	if c.State != cri.ContainerExited || c.ExitCode != code || c.Reason != reason {
		e.Errorf("container is in state %d, exit code %d, reason %q; want exited, %d, %q", c.State, c.ExitCode, c.Reason, code, reason)
	}
}
