package fakecri

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"pinnace/cri"
)

// container goes from created to running to exited, each once.
type container struct {
	id, name, sandbox          string
	cfg                        *runtimeapi.ContainerConfig
	logDir, image              string
	state                      cri.ContainerState
	created, started, finished time.Time
	exit                       exit
	message                    string
	script                     Script
	ended                      chan struct{} // closed when it exits
}

func (c *container) observed() cri.Container {
	m := c.cfg.GetMetadata()
	return cri.Container{
		ID: c.id, SandboxID: c.sandbox, Name: m.GetName(), PodUID: c.cfg.Labels[cri.LabelPodUID], Attempt: m.GetAttempt(),
		State: c.state, CreatedAt: c.created, StartedAt: c.started, FinishedAt: c.finished,
		ExitCode: c.exit.code, Reason: c.exit.reason, Message: c.message,
		ImageRef: c.image, LogPath: path.Join(c.logDir, c.cfg.LogPath),
		Annotations: maps.Clone(c.cfg.Annotations),
	}
}

// word is how containerd spells a state.
func word(s cri.ContainerState) string {
	return map[cri.ContainerState]string{
		cri.ContainerCreated: "CONTAINER_CREATED",
		cri.ContainerRunning: "CONTAINER_RUNNING",
		cri.ContainerExited:  "CONTAINER_EXITED",
		cri.ContainerUnknown: "CONTAINER_UNKNOWN",
	}[s]
}

// CreateContainer needs a ready sandbox, a free name and an image that is
// there.
func (r *Runtime) CreateContainer(ctx context.Context, sandboxID string, cfg *runtimeapi.ContainerConfig,
	sandbox *runtimeapi.PodSandboxConfig) (string, error) {
	pod, m := sandbox.GetMetadata(), cfg.GetMetadata()
	what := strings.Join([]string{pod.GetNamespace(), pod.GetName(), m.GetName()}, "/")
	var id string
	err := r.do(ctx, CreateContainer, "create container "+what, func() error {
		s, err := r.sandbox(sandboxID)
		if err != nil {
			return err
		}
		if !s.ready {
			return fmt.Errorf("failed to get sandbox container task: no running task found: task %s not found", s.id)
		}
		c := &container{
			id: r.newID(), sandbox: s.id, cfg: proto.CloneOf(cfg), logDir: s.cfg.LogDirectory,
			state: cri.ContainerCreated, created: time.Now(), ended: make(chan struct{}),
		}
		sm := s.cfg.GetMetadata()
		c.name = strings.Join([]string{m.GetName(), sm.GetName(), sm.GetNamespace(), sm.GetUid(), fmt.Sprint(m.GetAttempt())}, "_")
		img, ok := r.store.find(cfg.GetImage().GetImage())
		if !ok {
			return fmt.Errorf("failed to resolve image %q: %w", cfg.GetImage().GetImage(), cri.ErrNotFound)
		}
		if err := r.reserve("container", c.name, c.id); err != nil {
			return err
		}
		c.image = refOf(img)
		if r.cfg.Script != nil {
			c.script = r.cfg.Script(cfg)
		}
		r.containers[c.id] = c
		id = c.id
		return nil
	})
	if err != nil {
		return "", err
	}
	return id, nil
}

// StartContainer starts a created container, once.
func (r *Runtime) StartContainer(ctx context.Context, id string) error {
	return r.do(ctx, StartContainer, "start container "+id, func() error {
		c, err := r.container(id)
		if err != nil {
			return err
		}
		if c.state != cri.ContainerCreated {
			return fmt.Errorf("failed to set starting state for container %q: container is in %s state", id, word(c.state))
		}
		words := c.script.StartError
		if s := r.sandboxes[c.sandbox]; s == nil || !s.ready {
			words = fmt.Sprintf("sandbox container %q is not running", c.sandbox)
		}
		if words != "" {
			c.message = words
			r.finish(c, exit{128, "StartError"})
			return errors.New(words)
		}
		c.state, c.started = cri.ContainerRunning, time.Now()
		if s := c.script; s.Exits {
			r.later(c, s.After, exited(s.Code, s.OOM))
		}
		return nil
	})
}

// StopContainer asks with SIGTERM and, when the grace is over, kills. It
// returns when the container has exited; absent is success.
func (r *Runtime) StopContainer(ctx context.Context, id string, grace time.Duration) error {
	return r.wait(ctx, StopContainer, "stop container "+id, func() (<-chan struct{}, error) {
		c, err := r.container(id)
		if err != nil {
			return nil, gone(err)
		}
		if c.state != cri.ContainerRunning {
			return nil, nil
		}
		if grace <= 0 {
			r.kill(c)
			return c.ended, nil
		}
		if s := c.script; !s.IgnoresTERM {
			code := int32(143)
			if s.TermCode != nil {
				code = *s.TermCode
			}
			r.later(c, s.TermTakes, exited(code, false))
		}
		// The kill is the call's: it does not come when the caller has left.
		r.after(grace, func() {
			if ctx.Err() == nil && c.state == cri.ContainerRunning {
				r.kill(c)
			}
		})
		return c.ended, nil
	})
}

// RemoveContainer kills what still runs; absent is success.
func (r *Runtime) RemoveContainer(ctx context.Context, id string) error {
	return r.do(ctx, RemoveContainer, "remove container "+id, func() error {
		c, err := r.container(id)
		if err != nil {
			return gone(err)
		}
		r.remove(c)
		return nil
	})
}

// Containers lists what carries all of labels, the highest attempt first.
func (r *Runtime) Containers(ctx context.Context, labels map[string]string) ([]cri.Container, error) {
	list := []cri.Container{}
	err := r.do(ctx, Look, "list containers", func() error {
		for _, c := range r.containers {
			if !has(c.cfg.Labels, labels) {
				continue
			}
			o := c.observed()
			list = append(list, cri.Container{ID: o.ID, SandboxID: o.SandboxID, Name: o.Name, PodUID: o.PodUID,
				Attempt: o.Attempt, State: o.State, CreatedAt: o.CreatedAt})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	cri.SortContainers(list)
	return list, nil
}

// Container returns one in full, or cri.ErrNotFound.
func (r *Runtime) Container(ctx context.Context, id string) (cri.Container, error) {
	var out cri.Container
	err := r.do(ctx, Look, "look at container "+id, func() error {
		c, err := r.container(id)
		if err == nil {
			out = c.observed()
		}
		return err
	})
	if err != nil {
		return cri.Container{}, err
	}
	return out, nil
}

// ReopenLog needs a running container; there is no file to open.
func (r *Runtime) ReopenLog(ctx context.Context, id string) error {
	return r.do(ctx, ReopenLog, "reopen log of container "+id, func() error {
		c, err := r.container(id)
		if err != nil {
			return err
		}
		if c.state != cri.ContainerRunning {
			return fmt.Errorf("container is not running")
		}
		return nil
	})
}

func (r *Runtime) container(id string) (*container, error) {
	if c, ok := r.containers[id]; ok {
		return c, nil
	}
	return nil, notFound("container", id)
}
