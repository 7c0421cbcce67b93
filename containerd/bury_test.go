package containerd_test

import (
	"context"
	"testing"
	"time"

	tasksv1 "github.com/containerd/containerd/api/services/tasks/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"pinnace/containerd"
	"pinnace/testenv/runtime"
)

// TestBury ends a container's task behind CRI's back, twice, and one that
// never was.
func TestBury(t *testing.T) {
	r := runtime.Start(t)
	id := r.RunPod(t, "bury", runtime.Demo).Container
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for range 2 {
		if err := containerd.Bury(ctx, r.Endpoint, id); err != nil {
			t.Fatal(err)
		}
	}
	if err := containerd.Bury(ctx, r.Endpoint, "nobody"); err != nil {
		t.Error(err)
	}
	conn, err := grpc.NewClient(r.Endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	list, err := tasksv1.NewTasksClient(conn).List(metadata.AppendToOutgoingContext(ctx, "containerd-namespace", "k8s.io"), &tasksv1.ListTasksRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range list.GetTasks() {
		if task.GetContainerID() == id {
			t.Errorf("the task is still there: %v", task)
		}
	}
}
