// Package probe asks a container how it is: one attempt of a probe (exec,
// HTTP, TCP, gRPC), one run of a lifecycle hook, and the loop that turns
// attempts into verdicts. It never restarts or stops anything and keeps no
// state between calls; the agent hands in the last verdict and is told the
// next one. Attempts leave no connection, file or goroutine behind.
package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"pinnace/cri"
)

// Kind is what a probe decides about.
type Kind string

// The three kinds of probes that a container can have.
const (
	Startup   Kind = "startup"
	Readiness Kind = "readiness"
	Liveness  Kind = "liveness"
)

// Result is the outcome of an attempt, and of a series of them the verdict.
// Unknown says nothing about the container: the attempt could not be made.
type Result int

// The outcomes.
const (
	Unknown Result = iota
	Success
	Failure
)

func (r Result) String() string {
	switch r {
	case Success:
		return "success"
	case Failure:
		return "failure"
	}
	return "unknown"
}

// Target is the container that is asked. Named ports are those of Container.
// A probe without a host of its own goes to PodIP, or to NodeIP when the pod
// uses the host's network.
type Target struct {
	PodIP       netip.Addr
	ContainerID string
	Container   *corev1.Container
	HostNetwork bool
	NodeIP      netip.Addr
}

// Execer runs a command in a container; cri.Client is one. A timeout of 0
// leaves only the context's.
type Execer interface {
	Exec(ctx context.Context, id string, cmd []string, timeout time.Duration) (cri.ExecResult, error)
}

// maxOutput bounds what is kept of a command's output or a response's body.
const maxOutput = 10 << 10

// Try makes one attempt within the probe's timeout (1 s when unset). The
// message of a Failure is what the pod's event shows; that of a Success is
// what the container answered. An attempt that ctx cut short is Unknown.
func Try(ctx context.Context, spec *corev1.Probe, t Target, ex Execer) (Result, string) {
	timeout := seconds(spec.TimeoutSeconds, 1)
	if spec.Exec != nil {
		return tryExec(ctx, spec.Exec, t, ex, timeout)
	}
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var res Result
	var msg string
	switch {
	case spec.HTTPGet != nil:
		res, msg = tryHTTP(bounded, spec.HTTPGet, t, timeout)
	case spec.TCPSocket != nil:
		res, msg = tryTCP(bounded, spec.TCPSocket, t)
	case spec.GRPC != nil:
		res, msg = tryGRPC(bounded, spec.GRPC, t, timeout)
	default:
		return Unknown, "probe has no handler"
	}
	if ctx.Err() != nil {
		return Unknown, "probe interrupted: " + context.Cause(ctx).Error()
	}
	return res, msg
}

// tryTCP succeeds when the port accepts a connection.
func tryTCP(ctx context.Context, a *corev1.TCPSocketAction, t Target) (Result, string) {
	port, err := t.port(a.Port)
	if err != nil {
		return Unknown, err.Error()
	}
	host, err := t.host(a.Host)
	if err != nil {
		return Unknown, err.Error()
	}
	conn, err := dialer().DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return Failure, err.Error()
	}
	conn.Close()
	return Success, ""
}

// host is where a probe goes that names no host of its own.
func (t Target) host(own string) (string, error) {
	if own != "" {
		return own, nil
	}
	ip := t.PodIP
	if t.HostNetwork && t.NodeIP.IsValid() {
		ip = t.NodeIP
	}
	if !ip.IsValid() {
		return "", errors.New("pod has no address yet")
	}
	return ip.String(), nil
}

// port resolves a number or the name of one of the container's ports.
func (t Target) port(p intstr.IntOrString) (int, error) {
	n := p.IntValue()
	if p.Type == intstr.String {
		n = 0
		if t.Container == nil {
			return 0, fmt.Errorf("port %q not found: no container to look it up in", p.StrVal)
		}
		for _, have := range t.Container.Ports {
			if have.Name == p.StrVal {
				n = int(have.ContainerPort)
				break
			}
		}
		if n == 0 {
			return 0, fmt.Errorf("port %q not found in container %q", p.StrVal, t.Container.Name)
		}
	}
	if n < 1 || n > 65535 {
		return 0, fmt.Errorf("invalid port number %d", n)
	}
	return n, nil
}

// seconds is a field that counts seconds, or its default when unset.
func seconds(n, unset int32) time.Duration {
	if n <= 0 {
		n = unset
	}
	return time.Duration(n) * time.Second
}
