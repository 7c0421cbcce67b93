package cri

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// CreateContainer makes a container of cfg in a ready sandbox, whose own
// configuration goes along, and returns its id. The pair of name and attempt
// is taken until the container is removed.
func (c *Client) CreateContainer(ctx context.Context, sandboxID string, cfg *runtimeapi.ContainerConfig,
	sandbox *runtimeapi.PodSandboxConfig) (string, error) {
	m := sandbox.GetMetadata()
	id := m.GetNamespace() + "/" + m.GetName() + "/" + cfg.GetMetadata().GetName()
	v := verb{what: "create container", id: id, limit: changeTimeout}
	resp, err := call(ctx, v, c.runtime.CreateContainer,
		&runtimeapi.CreateContainerRequest{PodSandboxId: sandboxID, Config: cfg, SandboxConfig: sandbox})
	if err != nil {
		return "", err
	}
	return resp.ContainerId, nil
}

// StartContainer starts a created container, once in its life.
func (c *Client) StartContainer(ctx context.Context, id string) error {
	v := verb{what: "start container", id: id, limit: changeTimeout}
	_, err := call(ctx, v, c.runtime.StartContainer, &runtimeapi.StartContainerRequest{ContainerId: id})
	return err
}

// StopContainer sends the container its stop signal, and SIGKILL when it
// still runs after grace, which is rounded up to whole seconds; no grace
// kills at once. Idempotent; an absent container is success.
func (c *Client) StopContainer(ctx context.Context, id string, grace time.Duration) error {
	grace = max(grace, 0)
	v := verb{what: "stop container", id: id, limit: grace + changeTimeout}
	_, err := call(ctx, v, c.runtime.StopContainer,
		&runtimeapi.StopContainerRequest{ContainerId: id, Timeout: seconds(grace)})
	return c.unlessGone(ctx, err, c.containerGone, id)
}

// RemoveContainer removes the container; if it still runs it is killed.
// Idempotent; an absent container is success.
func (c *Client) RemoveContainer(ctx context.Context, id string) error {
	v := verb{what: "remove container", id: id, limit: changeTimeout}
	_, err := call(ctx, v, c.runtime.RemoveContainer, &runtimeapi.RemoveContainerRequest{ContainerId: id})
	return c.unlessGone(ctx, err, c.containerGone, id)
}

// Containers lists the containers that carry all of labels, the highest
// attempt first.
func (c *Client) Containers(ctx context.Context, labels map[string]string) ([]Container, error) {
	v := verb{what: "list containers", limit: lookTimeout}
	resp, err := call(ctx, v, c.runtime.ListContainers,
		&runtimeapi.ListContainersRequest{Filter: &runtimeapi.ContainerFilter{LabelSelector: labels}})
	if err != nil {
		return nil, err
	}
	list := make([]Container, 0, len(resp.Containers))
	for _, r := range resp.Containers {
		list = append(list, Container{
			ID:        r.Id,
			SandboxID: r.PodSandboxId,
			Name:      r.GetMetadata().GetName(),
			PodUID:    r.Labels[LabelPodUID],
			Attempt:   r.GetMetadata().GetAttempt(),
			State:     stateOf(r.State),
			CreatedAt: instant(r.CreatedAt),
		})
	}
	SortContainers(list)
	return list, nil
}

// SortContainers puts the highest attempt first; the later creation, then the
// id, decide between equals.
func SortContainers(list []Container) {
	slices.SortFunc(list, func(a, b Container) int {
		return cmp.Or(cmp.Compare(b.Attempt, a.Attempt), b.CreatedAt.Compare(a.CreatedAt), strings.Compare(a.ID, b.ID))
	})
}

// Container returns one container with all that the runtime knows of it, or
// ErrNotFound. SandboxID stays empty: a status does not name it, a list does.
func (c *Client) Container(ctx context.Context, id string) (Container, error) {
	v := verb{what: "look at container", id: id, limit: lookTimeout}
	resp, err := call(ctx, v, c.runtime.ContainerStatus,
		&runtimeapi.ContainerStatusRequest{ContainerId: id})
	if err != nil {
		return Container{}, err
	}
	s := resp.GetStatus()
	out := Container{
		ID:          s.GetId(),
		Name:        s.GetMetadata().GetName(),
		PodUID:      s.GetLabels()[LabelPodUID],
		Attempt:     s.GetMetadata().GetAttempt(),
		State:       stateOf(s.GetState()),
		CreatedAt:   instant(s.GetCreatedAt()),
		StartedAt:   instant(s.GetStartedAt()),
		FinishedAt:  instant(s.GetFinishedAt()),
		ExitCode:    s.GetExitCode(),
		Reason:      s.GetReason(),
		Message:     s.GetMessage(),
		ImageRef:    s.GetImageRef(),
		LogPath:     s.GetLogPath(),
		Annotations: s.GetAnnotations(),
	}
	// containerd notes the start when the process already runs: one that ends
	// at once has then ended before it started.
	if !out.FinishedAt.IsZero() && out.FinishedAt.Before(out.StartedAt) {
		out.StartedAt = out.FinishedAt
	}
	return out, nil
}

// ReopenLog makes the runtime open the container's log file anew, by name.
func (c *Client) ReopenLog(ctx context.Context, id string) error {
	v := verb{what: "reopen log of container", id: id, limit: lookTimeout}
	_, err := call(ctx, v, c.runtime.ReopenContainerLog, &runtimeapi.ReopenContainerLogRequest{ContainerId: id})
	return err
}

func (c *Client) containerGone(ctx context.Context, id string) bool {
	_, err := c.Container(ctx, id)
	return errors.Is(err, ErrNotFound)
}

func stateOf(s runtimeapi.ContainerState) ContainerState {
	switch s {
	case runtimeapi.ContainerState_CONTAINER_CREATED:
		return ContainerCreated
	case runtimeapi.ContainerState_CONTAINER_RUNNING:
		return ContainerRunning
	case runtimeapi.ContainerState_CONTAINER_EXITED:
		return ContainerExited
	}
	return ContainerUnknown
}

// seconds rounds up to the whole seconds that CRI takes.
func seconds(d time.Duration) int64 {
	return int64(math.Ceil(d.Seconds()))
}
