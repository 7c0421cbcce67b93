package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"pinnace/network/hook"
)

// hookCost is the CPU time that the hook's processes take for one pod: the
// call for the link and the one that containerd makes for loopback. The
// agent answers them as it does the runtime's.
func (n *host) hookCost(ctx context.Context, times int) (time.Duration, error) {
	var sum time.Duration
	for i := range times {
		ns, err := newNamespace()
		if err != nil {
			return 0, err
		}
		env := []string{
			fmt.Sprintf("CNI_CONTAINERID=bench%d", i), "CNI_IFNAME=eth0",
			fmt.Sprintf("CNI_NETNS=/proc/%d/fd/%d", os.Getpid(), ns.Fd()),
		}
		for _, call := range []struct{ binary, verb string }{
			{"loopback", "ADD"}, {"pinnace-cni", "ADD"}, {"pinnace-cni", "DEL"},
		} {
			used, err := n.callHook(ctx, call.binary, append(env, "CNI_COMMAND="+call.verb))
			if err != nil {
				return 0, err
			}
			if call.verb == "ADD" {
				sum += used
			}
		}
		ns.Close()
	}
	return sum / time.Duration(times), nil
}

func (n *host) callHook(ctx context.Context, binary string, env []string) (time.Duration, error) {
	conf := hook.Conflist(filepath.Join(n.run(), "net.sock"))
	plugin, err := pluginOf(conf)
	if err != nil {
		return 0, err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(n.root(), "cni", "bin", binary))
	cmd.Env, cmd.Stdin = env, bytes.NewReader(plugin)
	if out, err := cmd.Output(); err != nil {
		return 0, fmt.Errorf("call hook as %s: %w: %s", binary, err, out)
	}
	return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), nil
}
