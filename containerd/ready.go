package containerd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/emptypb"
)

// namespace is where the CRI plugin keeps its containers and images.
const namespace = "k8s.io"

// connect opens a connection lazily; the caller closes it. A socket that is
// not there yet is tried again soon: it is on this machine.
func connect(endpoint string) (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient(endpoint,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 1.5, MaxDelay: 100 * time.Millisecond},
			MinConnectTimeout: time.Second,
		}))
	if err != nil {
		return nil, fmt.Errorf("dial containerd at %s: %w", endpoint, err)
	}
	return conn, nil
}

// inNamespace marks the calls that containerd's own services get.
func inNamespace(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "containerd-namespace", namespace)
}

// ready returns when CRI answers at our socket, or an error that says why it
// does not: the daemon's last words, or its refusal.
func (d *Daemon) ready(ctx context.Context, p process) error {
	bounded, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	gone := make(chan error, 1)
	go func() {
		gone <- p.wait(bounded)
		cancel()
	}()
	err := answers(bounded, d.Endpoint())
	cancel()
	watch := <-gone
	switch {
	case err == nil:
		return nil
	case watch == nil:
		return d.died()
	case ctx.Err() != nil:
		return fmt.Errorf("wait for containerd: %w", ctx.Err())
	default:
		return fmt.Errorf("wait for containerd at %s: %w", d.Endpoint(), err)
	}
}

// answers returns when CRI at endpoint answers a Version call. The call is
// made without CRI's types: no field of its request is set, and the answer's are
// not read.
func answers(ctx context.Context, endpoint string) error {
	conn, err := connect(endpoint)
	if err != nil {
		return err
	}
	defer conn.Close()
	for {
		err := conn.Invoke(ctx, "/runtime.v1.RuntimeService/Version", &emptypb.Empty{}, &emptypb.Empty{}, grpc.WaitForReady(true))
		if err == nil {
			return nil
		}
		if status.Code(err) == codes.Unimplemented {
			return errors.New("its CRI plugin is not loaded (see its log)")
		}
		select { // "server is not initialized yet"
		case <-ctx.Done():
			return err
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// seen returns when CRI knows the image: it learns of new ones from an event.
func seen(ctx context.Context, conn *grpc.ClientConn, name string) error {
	var spec, req emptypb.Empty // ImageStatusRequest{image: ImageSpec{image: name}}
	spec.ProtoReflect().SetUnknown(protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), name))
	req.ProtoReflect().SetUnknown(protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), spec.ProtoReflect().GetUnknown()))
	err := retry(ctx, 10*time.Second, func() error {
		var resp emptypb.Empty
		if err := conn.Invoke(ctx, "/runtime.v1.ImageService/ImageStatus", &req, &resp); err != nil {
			return err
		}
		if num, _, n := protowire.ConsumeTag(resp.ProtoReflect().GetUnknown()); n < 0 || num != 1 { // 1 is the image
			return errors.New("not there")
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("wait for CRI to see image %s: %w", name, err)
	}
	return nil
}
