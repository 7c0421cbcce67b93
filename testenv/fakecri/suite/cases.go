package suite

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"time"

	"pinnace/cri"
)

// ChildThere succeeds once the container's shell has a sleeping child.
var ChildThere = []string{"/bin/sh", "-c", "grep -qs '(sleep)' /proc/[0-9]*/stat"}

func life(e *env) {
	before := time.Now().Add(-time.Second)
	box := e.ready()
	s, err := e.Sandbox(e.Context(), box.id)
	e.ok(err)
	if s.ID != box.id || !s.Ready || s.Name != "suite" || s.Namespace != "test" || s.UID != box.cfg.Metadata.Uid ||
		s.CreatedAt.Before(before) || s.Annotations["note"] != "on the sandbox" || len(s.IPs) != 0 {
		e.Errorf("sandbox is %+v", s)
	}
	id := e.create(box, "web", ExitsThree, 4)
	c := e.look(id)
	if c.State != cri.ContainerCreated || !c.StartedAt.IsZero() || !c.FinishedAt.IsZero() || c.CreatedAt.Before(before) {
		e.Errorf("created container is %+v", c)
	}
	if c.ID != id || c.Name != "web" || c.Attempt != 4 || c.PodUID != box.cfg.Metadata.Uid {
		e.Errorf("created container is %+v", c)
	}
	if c.LogPath != filepath.Join(e.logDir, "web.4.log") || c.ImageRef == "" || c.Annotations[cri.AnnotationBackoff] != "10s" {
		e.Errorf("created container is %+v", c)
	}
	e.ok(e.StartContainer(e.Context(), id))
	c = e.exited(id)
	e.wantExit(c, 3, "Error")
	if c.StartedAt.Before(before) || c.FinishedAt.Before(c.StartedAt) {
		e.Errorf("exited container started %s, finished %s", c.StartedAt, c.FinishedAt)
	}
	zero := e.running(box, "done", ExitsZero)
	e.wantExit(e.exited(zero), 0, "Completed")

	forever := e.running(box, "on", Forever)
	if c = e.look(forever); c.State != cri.ContainerRunning || c.StartedAt.IsZero() || !c.FinishedAt.IsZero() {
		e.Errorf("running container is %+v", c)
	}
	e.ok(e.StopSandbox(e.Context(), box.id))
	e.ok(e.StopSandbox(e.Context(), box.id)) // again
	e.wantExit(e.look(forever), 137, "Error")
	if s, err = e.Sandbox(e.Context(), box.id); err != nil || s.Ready {
		e.Errorf("stopped sandbox is %+v, %v", s, err)
	}
}

func lists(e *env) {
	pod := e.sandboxConfig(0)
	first := e.run(pod)
	pod.Metadata.Attempt = 1
	second := e.run(pod)
	mine := map[string]string{cri.LabelPodUID: pod.Metadata.Uid}
	got, err := e.Sandboxes(e.Context(), mine)
	e.ok(err)
	if len(got) != 2 || got[0].ID != second.id || got[1].ID != first.id {
		e.Errorf("sandboxes are %+v; want %s, %s", got, second.id, first.id)
	} else if got[0].Attempt != 1 || got[1].Attempt != 0 {
		e.Errorf("attempts are %d, %d; want 1, 0, whatever became of the configuration since", got[0].Attempt, got[1].Attempt)
	}
	old := e.create(first, "web", Forever, 0)
	young := e.create(second, "web", Forever, 1)
	list, err := e.Containers(e.Context(), mine)
	e.ok(err)
	if len(list) != 2 || list[0].ID != young || list[1].ID != old {
		e.Errorf("containers are %+v; want %s, %s", list, young, old)
	}
	for _, c := range list {
		if c.Name != "web" || c.PodUID != pod.Metadata.Uid || c.State != cri.ContainerCreated || c.SandboxID == "" || c.CreatedAt.IsZero() {
			e.Errorf("listed container is %+v", c)
		}
	}
	list, err = e.Containers(e.Context(), map[string]string{cri.LabelPodUID: pod.Metadata.Uid, cri.LabelContainerName: "other"})
	if err != nil || len(list) != 0 {
		e.Errorf("containers of another name are %+v, %v", list, err)
	}
}

func reserved(e *env) {
	box := e.ready()
	_, err := e.RunSandbox(e.Context(), box.cfg, "")
	e.refused(err, "is reserved for")
	id := e.create(box, "web", Forever, 0)
	_, err = e.CreateContainer(e.Context(), box.id, e.containerConfig(box.cfg, "web", Forever, 0), box.cfg)
	e.refused(err, "is reserved for")
	e.create(box, "web", Forever, 1)
	e.ok(e.RemoveContainer(e.Context(), id))
	e.create(box, "web", Forever, 0)
	e.ok(e.RemoveSandbox(e.Context(), box.id))
	e.run(box.cfg)
}

func startsOnce(e *env) {
	box := e.ready()
	id := e.running(box, "web", Forever)
	e.refused(e.StartContainer(e.Context(), id), "CONTAINER_RUNNING state")
	e.ok(e.StopContainer(e.Context(), id, 0))
	e.refused(e.StartContainer(e.Context(), id), "CONTAINER_EXITED state")
}

func stoppedSandbox(e *env) {
	box := e.ready()
	created := e.create(box, "early", Forever, 0)
	e.ok(e.StopSandbox(e.Context(), box.id))
	e.refused(e.StartContainer(e.Context(), created), "is not running")
	e.wantExit(e.look(created), 128, "StartError")
	_, err := e.CreateContainer(e.Context(), box.id, e.containerConfig(box.cfg, "late", Forever, 0), box.cfg)
	e.refused(err, "sandbox")
}

func stop(e *env) {
	box := e.ready()
	polite := e.running(box, "polite", Forever)
	e.up(polite)
	e.ok(e.StopContainer(e.Context(), polite, 30*time.Second))
	e.wantExit(e.look(polite), 0, "Completed")
	e.ok(e.StopContainer(e.Context(), polite, 30*time.Second)) // again

	stubborn := e.running(box, "stubborn", Stubborn)
	e.up(stubborn)
	start := time.Now()
	e.ok(e.StopContainer(e.Context(), stubborn, time.Second))
	if took := time.Since(start); took < time.Second {
		e.Errorf("killed after %s; its grace was 1 s", took)
	}
	e.wantExit(e.look(stubborn), 137, "Error")

	killed := e.running(box, "killed", Stubborn)
	e.ok(e.StopContainer(e.Context(), killed, 0))
	e.wantExit(e.look(killed), 137, "Error")

	created := e.create(box, "created", Forever, 0)
	e.ok(e.StopContainer(e.Context(), created, time.Second))
}

func remove(e *env) {
	box := e.ready()
	id := e.running(box, "web", Stubborn)
	e.ok(e.RemoveContainer(e.Context(), id))
	if _, err := e.Container(e.Context(), id); !errors.Is(err, cri.ErrNotFound) {
		e.Errorf("removed container: %v; want ErrNotFound", err)
	}
	left := e.running(box, "left", Stubborn)
	e.ok(e.RemoveSandbox(e.Context(), box.id))
	if _, err := e.Container(e.Context(), left); !errors.Is(err, cri.ErrNotFound) {
		e.Errorf("container of a removed sandbox: %v; want ErrNotFound", err)
	}
	if _, err := e.Sandbox(e.Context(), box.id); !errors.Is(err, cri.ErrNotFound) {
		e.Errorf("removed sandbox: %v; want ErrNotFound", err)
	}
}

func absent(e *env) {
	id := strings.Repeat("0f", 32)
	ctx := e.Context()
	_, sandboxErr := e.Sandbox(ctx, id)
	_, containerErr := e.Container(ctx, id)
	_, execErr := e.Exec(ctx, id, SayHello, time.Second)
	_, imageErr := e.Image(ctx, "example.com/none:1")
	for what, err := range map[string]error{
		"sandbox": sandboxErr, "container": containerErr, "exec": execErr, "image": imageErr,
		"start": e.StartContainer(ctx, id), "log": e.ReopenLog(ctx, id),
	} {
		if !errors.Is(err, cri.ErrNotFound) {
			e.Errorf("%s: %v; want ErrNotFound", what, err)
		}
	}
	e.ok(e.StopSandbox(ctx, id))
	e.ok(e.RemoveSandbox(ctx, id))
	e.ok(e.StopContainer(ctx, id, time.Second))
	e.ok(e.RemoveContainer(ctx, id))

	box := e.ready()
	cfg := e.containerConfig(box.cfg, "web", Forever, 0)
	cfg.Image.Image = "example.com/none:1"
	_, err := e.CreateContainer(ctx, box.id, cfg, box.cfg)
	e.refused(err, "example.com/none:1")
	cfg.Image.Image = e.o.Image // the name has not stayed reserved
	_, err = e.CreateContainer(ctx, box.id, cfg, box.cfg)
	e.ok(err)

	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := e.Sandbox(ended, box.id); !errors.Is(err, context.Canceled) {
		e.Errorf("with an ended context: %v; want context.Canceled", err)
	}
}

func failedStart(e *env) {
	box := e.ready()
	id := e.create(box, "web", Absent, 0)
	err := e.StartContainer(e.Context(), id)
	e.refused(err, "/no/such/program")
	if errors.Is(err, cri.ErrNotFound) {
		e.Errorf("%v is ErrNotFound, but the container is there", err)
	}
	c := e.look(id)
	e.wantExit(c, 128, "StartError")
	if !strings.Contains(c.Message, "/no/such/program") {
		e.Errorf("message %q does not name the program", c.Message)
	}
}

func exec(e *env) {
	box := e.ready()
	id := e.running(box, "web", Forever)
	res, err := e.Exec(e.Context(), id, SayHello, 10*time.Second)
	e.ok(err)
	if string(res.Stdout) != "hello\n" || string(res.Stderr) != "oh\n" || res.ExitCode != 7 {
		e.Errorf("exec answered %q, %q, %d", res.Stdout, res.Stderr, res.ExitCode)
	}
	_, err = e.Exec(e.Context(), id, TakesLong, time.Second)
	if !errors.Is(err, cri.ErrTimeout) || !errors.Is(err, context.DeadlineExceeded) {
		e.Errorf("exec that takes too long: %v; want ErrTimeout", err)
	}
	_, err = e.Exec(e.Context(), id, NoSuchFile, 10*time.Second)
	if err == nil || errors.Is(err, cri.ErrNotFound) {
		e.Errorf("exec of what is not there: %v; want an error, and not of the container", err)
	}
	e.ok(e.StopContainer(e.Context(), id, 0))
	_, err = e.Exec(e.Context(), id, SayHello, time.Second)
	e.refused(err, "CONTAINER_EXITED state")
}

func reopen(e *env) {
	box := e.ready()
	id := e.running(box, "web", Forever)
	e.ok(e.ReopenLog(e.Context(), id))
	e.ok(e.StopContainer(e.Context(), id, 0))
	e.refused(e.ReopenLog(e.Context(), id), "is not running")
}

func image(e *env) {
	img, err := e.Image(e.Context(), e.o.Image)
	e.ok(err)
	same, err := e.Image(e.Context(), img.ID)
	e.ok(err)
	if img.ID == "" || same.ID != img.ID {
		e.Errorf("image by name has id %q, by id %q", img.ID, same.ID)
	}
}

// events passes where the runtime has none. The stream opens some time after
// the call, so containers end until one of them is told of.
func events(e *env) {
	box := e.ready()
	ctx, cancel := context.WithCancel(e.Context())
	defer cancel()
	told, done := make(chan string, 1000), make(chan error, 1)
	go func() { done <- e.Exits(ctx, func(id string) { told <- id }) }()
	mine := map[string]bool{}
	for attempt := range uint32(20) {
		id := e.create(box, "web", ExitsZero, attempt)
		mine[id] = true
		e.ok(e.StartContainer(e.Context(), id))
		e.exited(id)
		for wait := time.After(time.Second); wait != nil; {
			select {
			case id := <-told:
				if !mine[id] {
					continue // another case's
				}
				cancel()
				if err := <-done; !errors.Is(err, context.Canceled) {
					e.Errorf("the stream ended with %v; want context.Canceled", err)
				}
				return
			case err := <-done:
				if !errors.Is(err, cri.ErrNoEvents) {
					e.Errorf("the stream ended with %v", err)
				}
				return
			case <-wait:
				wait = nil
			}
		}
	}
	cancel()
	e.Errorf("none of 20 exits was told; the stream ended with %v", <-done)
}
