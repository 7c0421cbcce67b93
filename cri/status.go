package cri

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Status is how the runtime says it is.
type Status struct {
	RuntimeReady bool
	NetworkReady bool
	// Reason is why one of the two is false, in the runtime's words; "" when
	// both are true.
	Reason string
	// Info is the runtime's verbose part, by topic; containerd's "config" and
	// "lastCNILoadStatus" are in it.
	Info map[string]string
}

// Version returns the runtime's name and version.
func (c *Client) Version(ctx context.Context) (name, version string, err error) {
	v := verb{what: "ask runtime's version", limit: lookTimeout}
	resp, err := call(ctx, v, c.runtime.Version, &runtimeapi.VersionRequest{Version: "v1"})
	if err != nil {
		return "", "", err
	}
	return resp.RuntimeName, resp.RuntimeVersion, nil
}

// Status asks how the runtime is.
func (c *Client) Status(ctx context.Context) (Status, error) {
	v := verb{what: "ask runtime's status", limit: lookTimeout}
	resp, err := call(ctx, v, c.runtime.Status, &runtimeapi.StatusRequest{Verbose: true})
	if err != nil {
		return Status{}, err
	}
	s := Status{Info: resp.Info}
	var reasons []string
	for _, cond := range resp.GetStatus().GetConditions() {
		switch cond.Type {
		case runtimeapi.RuntimeReady:
			s.RuntimeReady = cond.Status
		case runtimeapi.NetworkReady:
			s.NetworkReady = cond.Status
		}
		if !cond.Status {
			reasons = append(reasons, strings.TrimSuffix(cond.Reason+": "+cond.Message, ": "))
		}
	}
	s.Reason = strings.Join(reasons, "; ")
	return s, nil
}

// CgroupDriver returns "systemd" or "cgroupfs": who the runtime lets make a
// pod's cgroups. A runtime without the question (containerd before 2.0) is
// answered for by its configuration, which its verbose status shows.
func (c *Client) CgroupDriver(ctx context.Context) (string, error) {
	v := verb{what: "ask runtime's cgroup driver", limit: lookTimeout}
	resp, err := call(ctx, v, c.runtime.RuntimeConfig, &runtimeapi.RuntimeConfigRequest{})
	if err == nil && resp.GetLinux() != nil {
		if resp.Linux.CgroupDriver == runtimeapi.CgroupDriver_CGROUPFS {
			return "cgroupfs", nil
		}
		return "systemd", nil
	}
	if err != nil && !errors.Is(err, errNoVerb) {
		return "", err
	}
	s, err := c.Status(ctx)
	if err != nil {
		return "", err
	}
	driver, err := driverOf(s.Info["config"])
	if err != nil {
		return "", fmt.Errorf("%s: %w", v.what, err)
	}
	return driver, nil
}

// driverOf reads the cgroup driver of the default runtime out of containerd's
// configuration in JSON.
func driverOf(config string) (string, error) {
	var conf struct {
		Containerd struct {
			Default  string `json:"defaultRuntimeName"`
			Runtimes map[string]struct {
				Options struct {
					SystemdCgroup bool
				} `json:"options"`
			} `json:"runtimes"`
		} `json:"containerd"`
	}
	if err := json.Unmarshal([]byte(config), &conf); err != nil {
		return "", fmt.Errorf("read the configuration in the runtime's status: %w", err)
	}
	runtime, ok := conf.Containerd.Runtimes[conf.Containerd.Default]
	if !ok {
		return "", fmt.Errorf("the runtime's status does not show its default runtime %q", conf.Containerd.Default)
	}
	if runtime.Options.SystemdCgroup {
		return "systemd", nil
	}
	return "cgroupfs", nil
}
