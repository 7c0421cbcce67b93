package cri

import (
	"context"
	"errors"
	"fmt"
	"io"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Exits calls exited with the id of every container or sandbox that stopped
// or was deleted, from now on, in no order that means anything. It returns
// when the stream ends, always with an error: ctx's, ErrNoEvents when the
// runtime has no such stream, or why it ended. Events may be lost: whoever
// listens must also look.
func (c *Client) Exits(ctx context.Context, exited func(containerID string)) error {
	v := verb{what: "watch containers"}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.runtime.GetContainerEvents(ctx, &runtimeapi.GetEventsRequest{})
	for err == nil {
		var ev *runtimeapi.ContainerEventResponse
		if ev, err = stream.Recv(); err != nil {
			break
		}
		switch ev.ContainerEventType {
		case runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT, runtimeapi.ContainerEventType_CONTAINER_DELETED_EVENT:
			exited(ev.ContainerId)
		}
	}
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: the stream ended", v.what)
	}
	err = v.fault(err)
	if errors.Is(err, errNoVerb) {
		return fmt.Errorf("%s: %w", v.what, ErrNoEvents)
	}
	return err
}
