package cri

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// The deadline of each class of verb. A pull has none of its own: how long an
// image may take is the caller's to say.
const (
	lookTimeout   = 10 * time.Second
	changeTimeout = 2 * time.Minute
	// A sandbox waits for its network and, on a cold node, for the pause image.
	sandboxTimeout = 4 * time.Minute
	// execSlack is what an exec may take beyond its own timeout, so that the
	// runtime's verdict arrives before ours.
	execSlack = 10 * time.Second
)

// maxMessage bounds one gRPC message. The default of 4 MiB is too small for
// a list of some thousand containers or for the output of an exec.
const maxMessage = 16 << 20

// Client speaks to one runtime over one connection. All its methods are safe
// for concurrent use. It connects when first called and again by itself when
// the runtime was away; until it is back, calls fail at once.
type Client struct {
	conn    *grpc.ClientConn
	runtime runtimeapi.RuntimeServiceClient
	images  runtimeapi.ImageServiceClient
}

// Dial returns a client of the runtime at endpoint, a unix:// URL of an
// absolute path. It does not wait for the runtime: the first call does.
func Dial(endpoint string) (*Client, error) {
	socket, ok := strings.CutPrefix(endpoint, "unix://")
	if !ok || !path.IsAbs(socket) {
		return nil, fmt.Errorf("dial runtime %q: want unix:///absolute/path", endpoint)
	}
	conn, err := grpc.NewClient("unix://"+socket,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
		// A restarted runtime is found again within a second.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: 5 * time.Second,
		}))
	if err != nil {
		return nil, fmt.Errorf("dial runtime %s: %w", endpoint, err)
	}
	return &Client{
		conn:    conn,
		runtime: runtimeapi.NewRuntimeServiceClient(conn),
		images:  runtimeapi.NewImageServiceClient(conn),
	}, nil
}

// Close ends the connection and every call on it.
func (c *Client) Close() error { return c.conn.Close() }

// verb is one call to the runtime: what it does, to what, for how long.
type verb struct {
	what  string // "stop container", the words before the id in an error
	id    string
	limit time.Duration // 0: the caller's context alone bounds it
}

// call runs one request under its verb's deadline and tells its error in the
// house's form.
func call[Req, Resp any](ctx context.Context, v verb,
	rpc func(context.Context, Req, ...grpc.CallOption) (Resp, error), req Req) (Resp, error) {
	callCtx := ctx
	if v.limit > 0 {
		var cancel context.CancelFunc
		callCtx, cancel = context.WithTimeout(ctx, v.limit)
		defer cancel()
	}
	resp, err := rpc(callCtx, req)
	if err == nil {
		return resp, nil
	}
	err = v.fault(err)
	if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) && callCtx.Err() != nil {
		err = fmt.Errorf("%s: no answer within %s: %w", v.name(), v.limit, context.DeadlineExceeded)
	}
	return resp, err
}
