package probe

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"pinnace/cri"
)

func wantWords(t *testing.T, err error, words ...string) {
	t.Helper()
	if (err == nil) != (len(words) == 0) {
		t.Fatalf("error %v, want %q", err, words)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not say %q", err, w)
		}
	}
}

func TestHookExec(t *testing.T) {
	h := &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"sh", "-c", "$(X)"}}}
	run := func(res cri.ExecResult, err error) error {
		return Hook(context.Background(), h, Target{ContainerID: "id"}, execFunc(func(_ context.Context, id string, cmd []string, timeout time.Duration) (cri.ExecResult, error) {
			if id != "id" || timeout != 0 || cmd[2] != "$(X)" {
				t.Errorf("exec in %s of %q within %v", id, cmd, timeout)
			}
			return res, err
		}))
	}
	wantWords(t, run(cri.ExecResult{}, nil))
	wantWords(t, run(cri.ExecResult{ExitCode: 3, Stderr: []byte("no such user\n")}, nil), "run exec hook", "sh -c", "exited with 3: no such user")
	wantWords(t, run(cri.ExecResult{ExitCode: 3}, nil), "exited with 3")
	gone := errors.New("container is gone")
	if err := run(cri.ExecResult{}, gone); !errors.Is(err, gone) {
		t.Errorf("error %v", err)
	}
}

func TestHookHTTP(t *testing.T) {
	leakless(t)
	var got []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = append(got, r.URL.Path+" "+r.Header.Get("Authorization"))
		w.WriteHeader(http.StatusInternalServerError)
	}))
	defer srv.Close()
	tg, port := at(t, srv.URL)
	auth := []corev1.HTTPHeader{{Name: "Authorization", Value: "secret"}}
	hook := func(scheme corev1.URIScheme, port intstr.IntOrString) error {
		return Hook(context.Background(), &corev1.LifecycleHandler{HTTPGet: &corev1.HTTPGetAction{
			Path: "/start", Scheme: scheme, Port: port, HTTPHeaders: auth}}, tg, nil)
	}
	wantWords(t, hook("", port)) // any answer will do
	wantWords(t, hook(corev1.URISchemeHTTPS, port))
	if strings.Join(got, "|") != "/start secret|/start " {
		t.Errorf("the server saw %q", got)
	}
	wantWords(t, hook("", intstr.FromString("nope")), "run HTTP hook", `port "nope" not found`)
	srv.Close()
	wantWords(t, hook("", port), "run HTTP hook", "/start", "connection refused")
}

func TestHookSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 30}}
		start := time.Now()
		if err := Hook(t.Context(), h, Target{}, nil); err != nil || time.Since(start) != 30*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := Hook(ctx, h, Target{}, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("cut short: %v", err)
		}
	})
}

func TestHookUnsupported(t *testing.T) {
	wantWords(t, Hook(context.Background(), &corev1.LifecycleHandler{TCPSocket: &corev1.TCPSocketAction{}}, Target{}, nil), "tcpSocket", "not supported")
	wantWords(t, Hook(context.Background(), &corev1.LifecycleHandler{}, Target{}, nil), "no handler")
}
