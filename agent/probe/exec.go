package probe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/kubernetes/third_party/forked/golang/expansion"

	"pinnace/cri"
)

// tryExec succeeds when the command exits with 0. As in Kubernetes, the
// command sees $(VAR) of the container's literal variables only.
func tryExec(ctx context.Context, a *corev1.ExecAction, t Target, ex Execer, timeout time.Duration) (Result, string) {
	cmd := expand(a.Command, t.Container)
	got, err := ex.Exec(ctx, t.ContainerID, cmd, timeout)
	switch {
	case ctx.Err() != nil:
		return Unknown, "probe interrupted: " + context.Cause(ctx).Error()
	case errors.Is(err, cri.ErrTimeout) || errors.Is(err, context.DeadlineExceeded):
		return Failure, fmt.Sprintf("command %q timed out after %v", strings.Join(cmd, " "), timeout)
	case err != nil:
		return Unknown, err.Error()
	case got.ExitCode != 0:
		return Failure, complaint(got)
	}
	return Success, output(got)
}

// complaint is what a command that failed had to say, its exit code if
// nothing.
func complaint(got cri.ExecResult) string {
	if text := output(got); text != "" {
		return text
	}
	return fmt.Sprintf("command exited with %d", got.ExitCode)
}

// output joins both streams, bounded, without the last line's end.
func output(got cri.ExecResult) string {
	all := append(bytes.Clone(got.Stdout), got.Stderr...)
	if len(all) > maxOutput {
		all = all[:maxOutput]
	}
	return strings.ToValidUTF8(strings.TrimSpace(string(all)), "")
}

// expand replaces $(VAR) by the container's literal variables.
func expand(cmd []string, c *corev1.Container) []string {
	vars := map[string]string{}
	if c != nil {
		for _, v := range c.Env {
			vars[v.Name] = v.Value
		}
	}
	mapping := expansion.MappingFuncFor(vars)
	out := make([]string, len(cmd))
	for i, arg := range cmd {
		out[i] = expansion.Expand(arg, mapping)
	}
	return out
}
