package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"pinnace/cri"
)

// leakless fails the test when it leaves goroutines or open files behind.
// What a closed connection winds up on its own gets a moment for it.
func leakless(t *testing.T) {
	t.Helper()
	count := func() (int, int) {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return runtime.NumGoroutine(), len(fds)
	}
	goroutines, fds := count()
	t.Cleanup(func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for range 400 {
			if g, f := count(); g <= goroutines && f <= fds {
				return
			}
			<-tick.C
		}
		g, f := count()
		buf := make([]byte, 1<<16)
		t.Errorf("left: %d goroutines and %d files more\n%s", g-goroutines, f-fds, buf[:runtime.Stack(buf, true)])
	})
}

// execFunc is an Execer.
type execFunc func(ctx context.Context, id string, cmd []string, timeout time.Duration) (cri.ExecResult, error)

func (f execFunc) Exec(ctx context.Context, id string, cmd []string, timeout time.Duration) (cri.ExecResult, error) {
	return f(ctx, id, cmd, timeout)
}

func try(t *testing.T, spec corev1.Probe, tg Target, want Result, words ...string) {
	t.Helper()
	got, msg := Try(context.Background(), &spec, tg, nil)
	if got != want {
		t.Errorf("%v (%s), want %v", got, msg, want)
	}
	for _, w := range words {
		if !strings.Contains(msg, w) {
			t.Errorf("message %q does not say %q", msg, w)
		}
	}
}

// at is a target where srv listens, and its port.
func at(t *testing.T, raw string) (Target, intstr.IntOrString) {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}
	return Target{
		PodIP:       netip.MustParseAddr(u.Hostname()),
		ContainerID: "id",
		Container:   &corev1.Container{Name: "app", Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: int32(port)}}},
	}, intstr.FromInt(port)
}

func get200(a corev1.HTTPGetAction) corev1.Probe {
	return corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &a}}
}

func TestHTTP(t *testing.T) {
	leakless(t)
	mux := http.NewServeMux()
	var seen *http.Request
	mux.HandleFunc("/status/{code}", func(w http.ResponseWriter, r *http.Request) {
		seen = r
		code, _ := strconv.Atoi(r.PathValue("code"))
		w.WriteHeader(code)
		io.WriteString(w, "the body")
	})
	mux.HandleFunc("/hop/{n}", func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.PathValue("n"))
		if n == 0 {
			return
		}
		http.Redirect(w, r, fmt.Sprintf("/hop/%d", n-1), http.StatusFound)
	})
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://192.0.2.1/", http.StatusFound)
	})
	mux.HandleFunc("/big", func(w http.ResponseWriter, r *http.Request) {
		w.Write(make([]byte, 1<<20))
	})
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	mux.HandleFunc("/trickle", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	srv := httptest.NewServer(mux)
	defer srv.Close()
	tg, port := at(t, srv.URL)
	path := func(p string) corev1.Probe { return get200(corev1.HTTPGetAction{Path: p, Port: port}) }

	try(t, path("/status/200?x=1"), tg, Success, "the body")
	if ua, accept := seen.Header.Get("User-Agent"), seen.Header.Get("Accept"); ua != "pinnace-probe" || accept != "*/*" || seen.URL.RawQuery != "x=1" {
		t.Errorf("request: agent %q accept %q query %q", ua, accept, seen.URL.RawQuery)
	}
	if _, ok := seen.Header["Accept-Encoding"]; ok {
		t.Error("asked for compression")
	}
	try(t, path("/status/399"), tg, Success, "Probe terminated redirects")
	try(t, path("/status/400"), tg, Failure, "HTTP probe failed with statuscode: 400")
	try(t, path("/status/500"), tg, Failure, "HTTP probe failed with statuscode: 500")
	if _, msg := Try(t.Context(), ptr(path("/status/500")), tg, nil); strings.Contains(msg, "the body") {
		t.Error("the failure shows the body")
	}
	try(t, path("/hop/9"), tg, Success)
	try(t, path("/hop/11"), tg, Failure, "stopped after 10 redirects")
	try(t, path("/away"), tg, Success, "Probe terminated redirects")
	try(t, path("/slow"), tg, Failure, "/slow", "exceeded")
	try(t, path("/trickle"), tg, Failure, "/trickle")
	if res, msg := Try(t.Context(), ptr(path("/big")), tg, nil); res != Success || len(msg) != maxOutput {
		t.Errorf("large body: %v, %d bytes kept", res, len(msg))
	}

	named := get200(corev1.HTTPGetAction{Path: "status/204", Port: intstr.FromString("web"), HTTPHeaders: []corev1.HTTPHeader{
		{Name: "Host", Value: "shop.example"}, {Name: "X-A", Value: "1"}, {Name: "X-A", Value: "2"},
		{Name: "User-Agent", Value: "mine"}, {Name: "Accept", Value: ""}}})
	try(t, named, tg, Success)
	if seen.Host != "shop.example" || !slices.Equal(seen.Header["X-A"], []string{"1", "2"}) || seen.Header.Get("User-Agent") != "mine" || seen.Header["Accept"] != nil {
		t.Errorf("request: host %q headers %v", seen.Host, seen.Header)
	}
	elsewhere := get200(corev1.HTTPGetAction{Host: "127.0.0.1", Path: "/status/200", Port: port})
	try(t, elsewhere, Target{}, Success)
	onNode := Target{PodIP: netip.MustParseAddr("192.0.2.1"), NodeIP: tg.PodIP, HostNetwork: true}
	try(t, path("/status/200"), onNode, Success)

	try(t, get200(corev1.HTTPGetAction{Port: intstr.FromString("nope")}), tg, Unknown, `port "nope" not found`)
	try(t, get200(corev1.HTTPGetAction{Port: intstr.FromInt(70000)}), tg, Unknown, "invalid port")
	try(t, path("/"), Target{}, Unknown, "no address")
	try(t, corev1.Probe{}, tg, Unknown, "no handler")
}

func ptr[T any](v T) *T { return &v }

func TestHTTPS(t *testing.T) {
	leakless(t)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.Proto)
	}))
	srv.EnableHTTP2 = true
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	defer srv.Close()
	tg, port := at(t, srv.URL)
	try(t, get200(corev1.HTTPGetAction{Scheme: corev1.URISchemeHTTPS, Port: port}), tg, Success, "HTTP/2.0")
	try(t, get200(corev1.HTTPGetAction{Scheme: corev1.URISchemeHTTP, Port: port}), tg, Failure, "400")
}

func TestIPv6(t *testing.T) {
	leakless(t)
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6 on loopback: ", err)
	}
	srv := httptest.NewUnstartedServer(http.NotFoundHandler())
	srv.Listener.Close()
	srv.Listener = l
	srv.Start()
	defer srv.Close()
	tg, port := at(t, srv.URL)
	try(t, get200(corev1.HTTPGetAction{Port: port}), tg, Failure, "404")
	try(t, corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: port}}}, tg, Success)
}

func TestTCP(t *testing.T) {
	leakless(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tg, port := at(t, "http://"+l.Addr().String())
	spec := corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: port}}}
	try(t, spec, tg, Success)
	l.Close()
	try(t, spec, tg, Failure, l.Addr().String(), "connection refused")
}

func TestGRPC(t *testing.T) {
	leakless(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	checks := health.NewServer()
	checks.SetServingStatus("db", healthpb.HealthCheckResponse_NOT_SERVING)
	healthpb.RegisterHealthServer(srv, checks)
	go srv.Serve(l)
	defer srv.Stop()
	tg, port := at(t, "http://"+l.Addr().String())
	ask := func(service *string) corev1.Probe {
		return corev1.Probe{ProbeHandler: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: port.IntVal, Service: service}}}
	}
	try(t, ask(nil), tg, Success, "service healthy")
	try(t, ask(ptr("")), tg, Success)
	try(t, ask(ptr("db")), tg, Failure, `service unhealthy (responded with "NOT_SERVING")`)
	try(t, ask(ptr("other")), tg, Failure, "health rpc probe failed", "unknown service")
	srv.Stop()
	try(t, ask(nil), tg, Failure, "failed to connect service", l.Addr().String(), "connection refused")

	bare, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	without := grpc.NewServer()
	go without.Serve(bare)
	defer without.Stop()
	tg, port = at(t, "http://"+bare.Addr().String())
	try(t, ask(nil), tg, Failure, "does not implement the grpc health protocol")

	mute, err := net.Listen("tcp", "127.0.0.1:0") // connects, never speaks
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	tg, port = at(t, "http://"+mute.Addr().String())
	try(t, ask(nil), tg, Failure, "timeout: failed to connect service", "1s")
}

func TestExec(t *testing.T) {
	tg := Target{ContainerID: "id", Container: &corev1.Container{Env: []corev1.EnvVar{
		{Name: "PORT", Value: "80"}, {Name: "SECRET", ValueFrom: &corev1.EnvVarSource{}}}}}
	spec := &corev1.Probe{TimeoutSeconds: 3, ProbeHandler: corev1.ProbeHandler{
		Exec: &corev1.ExecAction{Command: []string{"check", "$(PORT)", "$(SECRET)", "$(OTHER)", "$$(PORT)"}}}}
	for _, c := range []struct {
		res  cri.ExecResult
		err  error
		want Result
		msg  string
	}{
		{cri.ExecResult{Stdout: []byte("fine\n")}, nil, Success, "fine"},
		{cri.ExecResult{ExitCode: 1, Stdout: []byte("out\n"), Stderr: []byte("err\n")}, nil, Failure, "out\nerr"},
		{cri.ExecResult{ExitCode: 2}, nil, Failure, "command exited with 2"},
		{cri.ExecResult{ExitCode: 1, Stderr: []byte(strings.Repeat("x", 1<<20))}, nil, Failure, strings.Repeat("x", maxOutput)},
		{cri.ExecResult{}, fmt.Errorf("exec: %w", cri.ErrTimeout), Failure, `command "check 80  $(OTHER) $(PORT)" timed out after 3s`},
		{cri.ExecResult{}, errors.New("container is not running"), Unknown, "container is not running"},
	} {
		got, msg := Try(context.Background(), spec, tg, execFunc(func(_ context.Context, id string, cmd []string, timeout time.Duration) (cri.ExecResult, error) {
			if want := []string{"check", "80", "", "$(OTHER)", "$(PORT)"}; id != "id" || timeout != 3*time.Second || !slices.Equal(cmd, want) {
				t.Errorf("exec in %s of %q within %v", id, cmd, timeout)
			}
			return c.res, c.err
		}))
		if got != c.want || msg != c.msg {
			t.Errorf("%v %.99q, want %v %.99q", got, msg, c.want, c.msg)
		}
	}
}

// TestInterrupted: the agent's leaving is never the container's failure.
func TestInterrupted(t *testing.T) {
	leakless(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	tg, port := at(t, "http://"+l.Addr().String())
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, h := range []corev1.ProbeHandler{
		{HTTPGet: &corev1.HTTPGetAction{Port: port}},
		{TCPSocket: &corev1.TCPSocketAction{Port: port}},
		{GRPC: &corev1.GRPCAction{Port: port.IntVal}},
		{Exec: &corev1.ExecAction{}},
	} {
		got, msg := Try(ctx, &corev1.Probe{ProbeHandler: h}, tg, execFunc(func(ctx context.Context, _ string, _ []string, _ time.Duration) (cri.ExecResult, error) {
			return cri.ExecResult{}, ctx.Err()
		}))
		if got != Unknown || !strings.Contains(msg, "interrupted") {
			t.Errorf("%+v: %v, %s", h, got, msg)
		}
	}
}
