package containerd

import (
	"context"
	"fmt"
	"time"

	tasksv1 "github.com/containerd/containerd/api/services/tasks/v1"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// buryLimit bounds the end of a task that SIGKILL was sent to.
const buryLimit = 10 * time.Second

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
	tasks := tasksv1.NewTasksClient(conn)
	_, err = tasks.Kill(ctx, &tasksv1.KillRequest{ContainerID: id, Signal: uint32(unix.SIGKILL), All: true})
	if status.Code(err) == codes.NotFound {
		if _, err = tasks.Get(ctx, &tasksv1.GetRequest{ContainerID: id}); status.Code(err) == codes.NotFound {
			return nil
		}
	}
	if _, err := tasks.Wait(ctx, &tasksv1.WaitRequest{ContainerID: id}); err != nil && status.Code(err) != codes.NotFound {
		return fmt.Errorf("wait for the end of container %s: %w", id, err)
	}
	if _, err := tasks.Delete(ctx, &tasksv1.DeleteTaskRequest{ContainerID: id}); err != nil && status.Code(err) != codes.NotFound {
		return fmt.Errorf("delete the task of container %s: %w", id, err)
	}
	return nil
}
