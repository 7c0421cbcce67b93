package probe

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Hook runs a postStart or preStop hook to its end; only ctx bounds it. The
// error is fit for the pod's event. Any answer to an HTTP hook is success, as
// in Kubernetes; so is the fall back to plain HTTP when an HTTPS hook meets a
// server without TLS. A tcpSocket hook fails, as the API documents.
func Hook(ctx context.Context, h *corev1.LifecycleHandler, t Target, ex Execer) error {
	switch {
	case h.Exec != nil:
		return hookExec(ctx, h.Exec, t, ex)
	case h.HTTPGet != nil:
		return hookHTTP(ctx, h.HTTPGet, t)
	case h.Sleep != nil:
		return hookSleep(ctx, h.Sleep.Seconds)
	case h.TCPSocket != nil:
		return errors.New("run hook: tcpSocket is not supported in lifecycle hooks")
	}
	return errors.New("run hook: it has no handler")
}

func hookExec(ctx context.Context, a *corev1.ExecAction, t Target, ex Execer) error {
	got, err := ex.Exec(ctx, t.ContainerID, a.Command, 0)
	command := strings.Join(a.Command, " ")
	if err != nil {
		return fmt.Errorf("run exec hook %q: %w", command, err)
	}
	if got.ExitCode == 0 {
		return nil
	}
	if text := output(got); text != "" {
		return fmt.Errorf("run exec hook %q: exited with %d: %s", command, got.ExitCode, text)
	}
	return fmt.Errorf("run exec hook %q: exited with %d", command, got.ExitCode)
}

func hookHTTP(ctx context.Context, a *corev1.HTTPGetAction, t Target) error {
	req, err := request(ctx, a, t)
	if err != nil {
		return fmt.Errorf("run HTTP hook %q: %w", a.Path, err)
	}
	_, _, err = get(req, 0)
	if errors.Is(err, http.ErrSchemeMismatch) {
		plain := req.Clone(ctx)
		plain.URL.Scheme = "http"
		plain.Header.Del("Authorization") // meant for an encrypted connection
		_, _, err = get(plain, 0)
	}
	if err != nil {
		return fmt.Errorf("run HTTP hook: %w", err)
	}
	return nil
}

func hookSleep(ctx context.Context, secs int64) error {
	timer := time.NewTimer(time.Duration(secs) * time.Second)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("run sleep hook of %d s: %w", secs, context.Cause(ctx))
	}
}
