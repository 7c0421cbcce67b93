package cri

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Exec runs cmd in the container and waits for it. A command that ends, with
// whatever code, is no error. One that does not end within timeout is killed
// and the error is ErrTimeout; CRI counts in whole seconds, rounded up. No
// timeout means that ctx alone bounds it.
func (c *Client) Exec(ctx context.Context, id string, cmd []string, timeout time.Duration) (ExecResult, error) {
	v := verb{what: "exec in container", id: id}
	req := &runtimeapi.ExecSyncRequest{ContainerId: id, Cmd: cmd}
	if timeout > 0 {
		req.Timeout = seconds(timeout)
		v.limit = time.Duration(req.Timeout)*time.Second + execSlack
	}
	resp, err := call(ctx, v, c.runtime.ExecSync, req)
	if err != nil {
		if ctx.Err() == nil && timeout > 0 && timedOut(err) {
			return ExecResult{}, fmt.Errorf("%s: %q: %w after %s", v.name(), cmd, ErrTimeout, timeout)
		}
		return ExecResult{}, err
	}
	return ExecResult{Stdout: resp.Stdout, Stderr: resp.Stderr, ExitCode: resp.ExitCode}, nil
}

// timedOut reports whether the runtime says that the command took too long:
// by code, or in words where it lost the code on the way.
func timedOut(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) ||
		strings.Contains(err.Error(), "timeout") && strings.Contains(err.Error(), "exceeded")
}
