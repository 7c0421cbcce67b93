package cri

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestFault(t *testing.T) {
	look := verb{what: "look at container", id: "c0ffee"}
	tests := []struct {
		name string
		verb verb
		err  error
		want string
		is   error
		not  error
	}{
		{"by code", look, status.Error(codes.NotFound, `an error occurred when try to find container "c0ffee": not found`),
			`look at container c0ffee: an error occurred when try to find container "c0ffee": not found`, ErrNotFound, nil},
		{"by words, the code lost", look, status.Error(codes.Unknown, `container "c0ffee" not found`),
			`look at container c0ffee: container "c0ffee" not found`, ErrNotFound, nil},
		{"something else not found", look, status.Error(codes.Unknown, `exec: "foo": executable file not found`),
			`look at container c0ffee: exec: "foo": executable file not found`, nil, ErrNotFound},
		{"nested noise", verb{what: "pull image", id: "a/b"},
			status.Error(codes.Unknown, "rpc error: code = Unknown desc = failed to pull: rpc error: code = Code(17) desc = denied"),
			"pull image a/b: failed to pull: denied", nil, ErrNotFound},
		{"no words", verb{what: "list containers"}, status.Error(codes.Unavailable, ""), "list containers: unavailable", nil, nil},
		{"deadline", look, status.Error(codes.DeadlineExceeded, "context deadline exceeded"),
			"look at container c0ffee: context deadline exceeded", context.DeadlineExceeded, nil},
		{"canceled", look, status.Error(codes.Canceled, "context canceled"),
			"look at container c0ffee: context canceled", context.Canceled, nil},
		{"not gRPC's", look, errors.New("boom"), "look at container c0ffee: boom", nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := tt.verb.fault(tt.err)
			if got.Error() != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if tt.is != nil && !errors.Is(got, tt.is) {
				t.Errorf("%v is not %v", got, tt.is)
			}
			if tt.not != nil && errors.Is(got, tt.not) {
				t.Errorf("%v is %v", got, tt.not)
			}
		})
	}
}

func TestCallDeadline(t *testing.T) {
	hang := func(ctx context.Context, _ string, _ ...grpc.CallOption) (string, error) {
		<-ctx.Done()
		return "", status.FromContextError(ctx.Err()).Err()
	}
	v := verb{what: "stop sandbox", id: "s1", limit: time.Millisecond}
	_, err := call(t.Context(), v, hang, "")
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "stop sandbox s1: no answer within 1ms") {
		t.Errorf("own deadline: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	v.limit = time.Hour
	_, err = call(ctx, v, hang, "")
	if !errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), "no answer") {
		t.Errorf("caller's deadline: %v", err)
	}
}

func TestErrTimeoutIsADeadline(t *testing.T) {
	if !errors.Is(ErrTimeout, context.DeadlineExceeded) {
		t.Error("ErrTimeout is not a context.DeadlineExceeded")
	}
}

func TestDialRefuses(t *testing.T) {
	for _, endpoint := range []string{"", "unix://", "unix://relative.sock", "/run/containerd.sock", "tcp://127.0.0.1:1"} {
		if c, err := Dial(endpoint); err == nil {
			c.Close()
			t.Errorf("Dial(%q) succeeded", endpoint)
		}
	}
}

func TestDriverOf(t *testing.T) {
	tests := []struct{ name, config, want, err string }{
		{"systemd", `{"containerd":{"defaultRuntimeName":"runc","runtimes":{"runc":{"options":{"SystemdCgroup":true}}}}}`, "systemd", ""},
		{"cgroupfs", `{"containerd":{"defaultRuntimeName":"runc","runtimes":{"runc":{"options":{"SystemdCgroup":false}}}}}`, "cgroupfs", ""},
		{"no options", `{"containerd":{"defaultRuntimeName":"runc","runtimes":{"runc":{"options":null}}}}`, "cgroupfs", ""},
		{"of another runtime", `{"containerd":{"defaultRuntimeName":"b","runtimes":{"a":{"options":{"SystemdCgroup":true}},"b":{}}}}`, "cgroupfs", ""},
		{"default not shown", `{"containerd":{"defaultRuntimeName":"runc"}}`, "", `does not show its default runtime "runc"`},
		{"nothing", ``, "", "read the configuration"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := driverOf(tt.config)
			if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("got %q, %v; want %q, %q", got, err, tt.want, tt.err)
			}
		})
	}
}
