package criproxy

import (
	"context"
	"errors"
	"io"
	"net"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Moment says when a strike comes.
type Moment string

// The moments: the runtime has not heard of the call; it is at work on it;
// it has answered and nobody has heard the answer.
const (
	Before Moment = "before"
	During Moment = "during"
	After  Moment = "after"
)

// Strike is what happens to one call.
type Strike struct {
	At     int // the number of the changing call, from 1
	Moment Moment
	Delay  time.Duration // During: since the call was passed on
	Do     func()        // returns when it is done
}

// Proxy passes calls on.
type Proxy struct {
	Endpoint string
	conn     *grpc.ClientConn

	mu     sync.Mutex
	calls  []string
	strike Strike
}

// Start serves until the test ends. target is the runtime's endpoint.
func Start(tb testing.TB, socket, target string) *Proxy {
	tb.Helper()
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(codec{}), grpc.MaxCallRecvMsgSize(64<<20), grpc.MaxCallSendMsgSize(64<<20)))
	if err != nil {
		tb.Fatal(err)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		tb.Fatal(err)
	}
	p := &Proxy{Endpoint: "unix://" + socket, conn: conn}
	srv := grpc.NewServer(grpc.ForceServerCodec(codec{}), grpc.UnknownServiceHandler(p.pass), grpc.MaxRecvMsgSize(64<<20))
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	tb.Cleanup(func() {
		srv.Stop()
		conn.Close()
		if err := <-served; err != nil {
			tb.Errorf("proxy: %v", err)
		}
	})
	return p
}

// Arm counts anew and has s strike; the zero Strike never does.
func (p *Proxy) Arm(s Strike) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls, p.strike = nil, s
}

// Calls are the changing calls since Arm.
func (p *Proxy) Calls() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.calls...)
}

// changing reports whether a call changes something.
func changing(method string) bool {
	name := path.Base(method)
	for _, verb := range []string{"Run", "Stop", "Remove", "Create", "Start"} {
		if strings.HasPrefix(name, verb) && strings.HasPrefix(method, "/runtime.v1.RuntimeService/") {
			return true
		}
	}
	return false
}

// note counts a call and returns the strike that is meant for it.
func (p *Proxy) note(method string) Strike {
	if !changing(method) {
		return Strike{}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls = append(p.calls, path.Base(method))
	if p.strike.At == len(p.calls) {
		return p.strike
	}
	return Strike{}
}

var errStruck = status.Error(codes.Unavailable, "struck down")

func (p *Proxy) pass(_ any, caller grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(caller)
	s := p.note(method)
	if s.Moment == Before {
		s.Do()
		return errStruck
	}
	md, _ := metadata.FromIncomingContext(caller.Context())
	ctx, cancel := context.WithCancel(metadata.NewOutgoingContext(caller.Context(), md))
	defer cancel()
	runtime, err := p.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	if err != nil {
		return err
	}
	var pumps sync.WaitGroup
	defer pumps.Wait()
	defer cancel()
	pumps.Go(func() { there(caller, runtime, s) })
	return back(caller, runtime, s)
}

// there passes on what the caller says.
func there(caller grpc.ServerStream, runtime grpc.ClientStream, s Strike) {
	var f frame
	for caller.RecvMsg(&f) == nil {
		if runtime.SendMsg(&f) != nil {
			return
		}
		if s.Moment == During {
			runtime.CloseSend()
			select {
			case <-time.After(s.Delay):
			case <-runtime.Context().Done():
			}
			s.Do()
			return
		}
	}
	runtime.CloseSend()
}

// back passes on what the runtime says.
func back(caller grpc.ServerStream, runtime grpc.ClientStream, s Strike) error {
	for {
		var f frame
		err := runtime.RecvMsg(&f)
		if s.Moment == After {
			s.Do()
			return errStruck
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := caller.SendMsg(&f); err != nil {
			return err
		}
	}
}

// frame is a message that nobody reads.
type frame struct{ bytes []byte }

// codec hands messages through as they are.
type codec struct{}

func (codec) Marshal(v any) ([]byte, error) { return v.(*frame).bytes, nil }

func (codec) Unmarshal(data []byte, v any) error {
	v.(*frame).bytes = append([]byte(nil), data...)
	return nil
}

func (codec) Name() string { return "proto" }
