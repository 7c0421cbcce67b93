package containerd

import (
	"context"
	"fmt"
	"strings"

	"github.com/containerd/containerd/api/events"
	eventsv1 "github.com/containerd/containerd/api/services/events/v1"
	"github.com/containerd/containerd/api/types"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// Exits calls exited for every container and sandbox that ends or runs out of
// memory, until the stream ends; that error is returned, nil when ctx ended. It
// serves runtimes without CRI events. Events may be lost: look after (re)connecting.
func Exits(ctx context.Context, endpoint string, exited func(containerID string)) error {
	conn, err := connect(endpoint)
	if err != nil {
		return err
	}
	defer conn.Close()
	stream, err := eventsv1.NewEventsClient(conn).Subscribe(ctx, &eventsv1.SubscribeRequest{Filters: []string{
		`namespace=="` + namespace + `",topic=="/tasks/exit"`,
		`namespace=="` + namespace + `",topic=="/tasks/oom"`,
	}}, grpc.WaitForReady(true))
	if err != nil {
		return ended(ctx, fmt.Errorf("subscribe to containerd's events: %w", err))
	}
	for {
		envelope, err := stream.Recv()
		if err != nil {
			return ended(ctx, fmt.Errorf("read containerd's events: %w", err))
		}
		if id := ending(envelope); id != "" {
			exited(id)
		}
	}
}

// ending is the container whose end the event tells, or "": the process of an
// exec ends without its container.
func ending(e *types.Envelope) string {
	switch any := e.GetEvent(); {
	case strings.HasSuffix(any.GetTypeUrl(), "containerd.events.TaskExit"):
		var exit events.TaskExit
		if proto.Unmarshal(any.GetValue(), &exit) == nil && exit.GetID() == exit.GetContainerID() {
			return exit.GetContainerID()
		}
	case strings.HasSuffix(any.GetTypeUrl(), "containerd.events.TaskOOM"):
		var oom events.TaskOOM
		if proto.Unmarshal(any.GetValue(), &oom) == nil {
			return oom.GetContainerID()
		}
	}
	return ""
}
