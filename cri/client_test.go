package cri_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"pinnace/cri"
)

// newer answers what containerd 1.6, which the suite runs against, has not or
// never says.
type newer struct {
	runtimeapi.UnimplementedRuntimeServiceServer
	runtimeapi.UnimplementedImageServiceServer
}

func (newer) RuntimeConfig(context.Context, *runtimeapi.RuntimeConfigRequest) (*runtimeapi.RuntimeConfigResponse, error) {
	return &runtimeapi.RuntimeConfigResponse{Linux: &runtimeapi.LinuxRuntimeConfiguration{
		CgroupDriver: runtimeapi.CgroupDriver_CGROUPFS}}, nil
}

func (newer) PodSandboxStatus(context.Context, *runtimeapi.PodSandboxStatusRequest) (*runtimeapi.PodSandboxStatusResponse, error) {
	return &runtimeapi.PodSandboxStatusResponse{Status: &runtimeapi.PodSandboxStatus{
		Id: "s1", State: runtimeapi.PodSandboxState_SANDBOX_READY,
		Network: &runtimeapi.PodSandboxNetworkStatus{Ip: "10.85.0.7", AdditionalIps: []*runtimeapi.PodIP{{Ip: "fd00:85::7"}, {Ip: "?"}}},
	}}, nil
}

func (newer) ContainerStatus(_ context.Context, req *runtimeapi.ContainerStatusRequest) (*runtimeapi.ContainerStatusResponse, error) {
	if req.ContainerId == "short" { // as containerd has it now and then
		return &runtimeapi.ContainerStatusResponse{Status: &runtimeapi.ContainerStatus{
			Id: "short", State: runtimeapi.ContainerState_CONTAINER_EXITED, StartedAt: 2000, FinishedAt: 1000,
		}}, nil
	}
	return &runtimeapi.ContainerStatusResponse{Status: &runtimeapi.ContainerStatus{
		Id: "c1", State: runtimeapi.ContainerState_CONTAINER_UNKNOWN,
		StartedAt: time.Time{}.UnixNano(), // what a Go runtime makes of a zero time
	}}, nil
}

// StopPodSandbox does not find something, but the sandbox is there.
func (newer) StopPodSandbox(context.Context, *runtimeapi.StopPodSandboxRequest) (*runtimeapi.StopPodSandboxResponse, error) {
	return nil, status.Error(codes.NotFound, "network namespace: not found")
}

func (newer) GetContainerEvents(_ *runtimeapi.GetEventsRequest, s runtimeapi.RuntimeService_GetContainerEventsServer) error {
	for i, kind := range []runtimeapi.ContainerEventType{
		runtimeapi.ContainerEventType_CONTAINER_CREATED_EVENT,
		runtimeapi.ContainerEventType_CONTAINER_STARTED_EVENT,
		runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT,
		runtimeapi.ContainerEventType_CONTAINER_DELETED_EVENT,
	} {
		if err := s.Send(&runtimeapi.ContainerEventResponse{ContainerId: string(rune('a' + i)), ContainerEventType: kind}); err != nil {
			return err
		}
	}
	return nil
}

func serve(t *testing.T, srv newer) *cri.Client {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "cri.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	runtimeapi.RegisterRuntimeServiceServer(server, srv)
	runtimeapi.RegisterImageServiceServer(server, srv)
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	client, err := cri.Dial("unix://" + socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		client.Close()
		server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return client
}

func TestNewerRuntime(t *testing.T) {
	c := serve(t, newer{})
	ctx := t.Context()
	if driver, err := c.CgroupDriver(ctx); driver != "cgroupfs" || err != nil {
		t.Errorf("CgroupDriver: %q, %v", driver, err)
	}
	s, err := c.Sandbox(ctx, "s1")
	want := []netip.Addr{netip.MustParseAddr("10.85.0.7"), netip.MustParseAddr("fd00:85::7")}
	if err != nil || !slices.Equal(s.IPs, want) {
		t.Errorf("Sandbox: %v, %v; want the addresses %v", s, err, want)
	}
	if !s.CreatedAt.IsZero() {
		t.Errorf("a creation at 0 is %s", s.CreatedAt)
	}
	got, err := c.Container(ctx, "c1")
	if err != nil || got.State != cri.ContainerUnknown || !got.StartedAt.IsZero() {
		t.Errorf("Container: %+v, %v", got, err)
	}
	got, err = c.Container(ctx, "short")
	if err != nil || got.State != cri.ContainerExited || !got.StartedAt.Equal(got.FinishedAt) || got.FinishedAt.UnixNano() != 1000 {
		t.Errorf("Container that ended at once: %+v, %v", got, err)
	}
	err = c.StopSandbox(ctx, "s1")
	if err == nil || !strings.Contains(err.Error(), "network namespace: not found") {
		t.Errorf("StopSandbox of a sandbox that is there: %v; want the runtime's error", err)
	}
	if _, err := c.Image(ctx, "a"); err == nil || errors.Is(err, cri.ErrNotFound) {
		t.Errorf("Image of a runtime that knows no images: %v", err)
	}
}

func TestExits(t *testing.T) {
	c := serve(t, newer{})
	var ids []string
	err := c.Exits(t.Context(), func(id string) { ids = append(ids, id) })
	if err == nil || !strings.Contains(err.Error(), "the stream ended") {
		t.Errorf("Exits returned %v at the end of the stream", err)
	}
	if !slices.Equal(ids, []string{"c", "d"}) {
		t.Errorf("told of %v; want the stopped c and the deleted d", ids)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Exits(ctx, func(string) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("Exits with an ended context: %v", err)
	}
}

func TestRuntimeAway(t *testing.T) {
	c, err := cri.Dial("unix://" + filepath.Join(t.TempDir(), "nobody.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = c.Sandboxes(t.Context(), nil)
	if err == nil || !strings.HasPrefix(err.Error(), "list sandboxes: ") || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("with nobody there: %v", err)
	}
}
