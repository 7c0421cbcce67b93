package containerd

import (
	"context"
	"errors"
	"fmt"
	"time"

	tasksv1 "github.com/containerd/containerd/api/services/tasks/v1"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// buryLimit bounds the end of a task that SIGKILL was sent to; buryAgain is
// the pause between two tries.
const (
	buryLimit = 10 * time.Second
	buryAgain = 20 * time.Millisecond
)

// Bury ends and deletes the task of a container that CRI holds for ended. When
// the client of a start is killed, containerd 1.6 gives the start up and calls
// the container failed, but its process may have come to run all the same; it
// would run beside its successor, and the container could not be removed. A
// container without a task is what it should be.
func Bury(ctx context.Context, endpoint, id string) error {
	conn, err := connect(endpoint)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(inNamespace(ctx), buryLimit)
	defer cancel()
	return bury(ctx, tasksv1.NewTasksClient(conn), id)
}

// bury tries until the task is gone: CRI may see it end at the same time and
// delete it under our hands.
func bury(ctx context.Context, tasks tasksv1.TasksClient, id string) error {
	again := time.NewTicker(buryAgain)
	defer again.Stop()
	for {
		_, err := tasks.Get(ctx, &tasksv1.GetRequest{ContainerID: id})
		if status.Code(err) == codes.NotFound {
			return nil
		}
		if err == nil {
			err = end(ctx, tasks, id)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("end what is left of container %s: %w", id, errors.Join(err, ctx.Err()))
		case <-again.C:
		}
	}
}

// end kills a task, waits for its end and deletes it.
func end(ctx context.Context, tasks tasksv1.TasksClient, id string) error {
	_, killed := tasks.Kill(ctx, &tasksv1.KillRequest{ContainerID: id, Signal: uint32(unix.SIGKILL), All: true})
	if _, err := tasks.Wait(ctx, &tasksv1.WaitRequest{ContainerID: id}); err != nil {
		return errors.Join(killed, err)
	}
	_, err := tasks.Delete(ctx, &tasksv1.DeleteTaskRequest{ContainerID: id})
	return err
}
