package containerd_test

import (
	"os/exec"
	"strings"
	"testing"

	leasesv1 "github.com/containerd/containerd/api/services/leases/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"pinnace/testenv/runtime"
)

// collect runs containerd's garbage collector once and waits for it.
func collect(t *testing.T, r *runtime.Runtime) {
	t.Helper()
	conn, err := grpc.NewClient(r.Endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx := metadata.AppendToOutgoingContext(t.Context(), "containerd-namespace", "k8s.io")
	leases := leasesv1.NewLeasesClient(conn)
	if _, err := leases.Create(ctx, &leasesv1.CreateRequest{ID: "collect"}); err != nil {
		t.Fatal(err)
	}
	if _, err := leases.Delete(ctx, &leasesv1.DeleteRequest{ID: "collect", Sync: true}); err != nil {
		t.Fatal(err)
	}
}

func run(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", strings.Join(args, " "), err, out)
	}
}
