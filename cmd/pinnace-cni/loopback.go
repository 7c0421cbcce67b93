package main

import (
	"fmt"
	"io"
	"slices"
)

// loopback answers as the loopback plugin, which containerd calls beside the
// hook for every pod. It only says yes: the agent sets lo up within the
// hook's ADD, and the runtime waits for both before anything runs in the pod.
// (Setting it up from here would mean entering the namespace on a locked
// thread; netlink cannot reach another namespace's lo.)
func loopback(env environment, cfg config, stdout io.Writer) error {
	if !slices.Contains(supported("loopback"), cfg.Version) {
		return &problem{Code: codeVersion, Msg: fmt.Sprintf("configuration has cniVersion %q: loopback does not speak it", cfg.Version)}
	}
	if env.Command != "ADD" {
		return nil
	}
	code := printJSON(stdout, map[string]any{
		"cniVersion": cfg.Version,
		"interfaces": []map[string]string{{"name": "lo", "mac": "00:00:00:00:00:00", "sandbox": env.Netns}},
	})
	if code != 0 {
		return &problem{Code: codeIO, Msg: "write the result"}
	}
	return nil
}
