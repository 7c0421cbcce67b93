package probe

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	health "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
)

// tryGRPC asks the standard health service. It always goes to the pod, in
// plain text.
func tryGRPC(ctx context.Context, a *corev1.GRPCAction, t Target, timeout time.Duration) (Result, string) {
	host, err := t.host("")
	if err != nil {
		return Unknown, err.Error()
	}
	addr := net.JoinHostPort(host, strconv.Itoa(int(a.Port)))
	conn, err := grpc.NewClient("passthrough:///"+addr,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUserAgent(userAgent),
		grpc.WithDisableServiceConfig(),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			return dialer().DialContext(ctx, "tcp", addr)
		}))
	if err != nil {
		return Unknown, err.Error()
	}
	defer conn.Close()
	ask := &health.HealthCheckRequest{}
	if a.Service != nil {
		ask.Service = *a.Service
	}
	got, err := health.NewHealthClient(conn).Check(ctx, ask)
	if err == nil {
		if got.GetStatus() != health.HealthCheckResponse_SERVING {
			return Failure, fmt.Sprintf("service unhealthy (responded with %q)", got.GetStatus())
		}
		return Success, "service healthy"
	}
	st := status.Convert(err)
	connected := conn.GetState() == connectivity.Ready
	switch {
	case st.Code() == codes.Unimplemented:
		return Failure, "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): " + st.Message()
	case st.Code() == codes.DeadlineExceeded && connected:
		return Failure, fmt.Sprintf("timeout: health rpc did not complete within %v", timeout)
	case st.Code() == codes.DeadlineExceeded:
		return Failure, fmt.Sprintf("timeout: failed to connect service %q within %v", addr, timeout)
	case st.Code() == codes.Unavailable && !connected:
		return Failure, fmt.Sprintf("error: failed to connect service at %q: %s", addr, st.Message())
	}
	return Failure, "error: health rpc probe failed: " + st.Message()
}
