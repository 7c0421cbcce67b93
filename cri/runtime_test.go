package cri_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"pinnace/cri"
	"pinnace/testenv/fakecri/suite"
	"pinnace/testenv/runtime"
)

func dial(t *testing.T, r *runtime.Runtime) *cri.Client {
	t.Helper()
	c, err := cri.Dial(r.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestRuntime is all that needs a real containerd: one is started for it.
func TestRuntime(t *testing.T) {
	r := runtime.Start(t)
	c := dial(t, r)
	t.Run("suite", func(t *testing.T) {
		suite.Suite(t, suite.Options{
			New:          func(*testing.T) suite.Runtime { return c },
			Image:        runtime.Busybox,
			CgroupParent: r.CgroupParent(),
			LogDir:       func(t *testing.T) string { return t.TempDir() },
		})
	})
	t.Run("about itself", func(t *testing.T) { aboutItself(t, c) })
	t.Run("images", func(t *testing.T) { images(t, c) })
	for _, g := range goldens(t) {
		t.Run("golden "+filepath.Base(g.path), func(t *testing.T) { judge(t, c, r, g) })
	}
}

func aboutItself(t *testing.T, c *cri.Client) {
	name, version, err := c.Version(t.Context())
	if err != nil || name != "containerd" || version == "" {
		t.Errorf("Version: %q, %q, %v", name, version, err)
	}
	s, err := c.Status(t.Context())
	if err != nil || !s.RuntimeReady || s.NetworkReady != (s.Reason == "") || s.Info["config"] == "" {
		t.Errorf("Status: ready %t, network %t, reason %q, %v", s.RuntimeReady, s.NetworkReady, s.Reason, err)
	}
	if driver, err := c.CgroupDriver(t.Context()); err != nil || driver != "cgroupfs" {
		t.Errorf("CgroupDriver: %q, %v; want cgroupfs", driver, err)
	}
}

func images(t *testing.T, c *cri.Client) {
	list, err := c.Images(t.Context())
	if err != nil || len(list) < 3 {
		t.Errorf("Images: %+v, %v; want the three that are loaded", list, err)
	}
	// The answer of a registry that is not there comes through unadorned.
	_, err = c.Pull(t.Context(), "127.0.0.1:1/nobody/nothing:1", nil)
	if err == nil || !strings.Contains(err.Error(), "connection refused") || strings.Contains(err.Error(), "rpc error") {
		t.Errorf("Pull: %v", err)
	}
	if err := c.RemoveImage(t.Context(), "127.0.0.1:1/nobody/nothing:1"); err != nil {
		t.Errorf("RemoveImage of the absent: %v", err)
	}
}

// judge lets the runtime start what a golden says, but in the host's network,
// which needs no set-up, and with what this host has not left out.
func judge(t *testing.T, c *cri.Client, r *runtime.Runtime, g golden) {
	ctx, dir := t.Context(), t.TempDir()
	pod := g.sandbox()
	pod.Hostname, pod.LogDirectory = "", dir
	pod.Linux.CgroupParent = r.CgroupParent()
	pod.Linux.SecurityContext.NamespaceOptions.Network = runtimeapi.NamespaceMode_NODE
	pod.Linux.SecurityContext.SelinuxOptions = nil
	id, err := c.RunSandbox(ctx, pod, "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.RemoveSandbox(t.Context(), id); err != nil {
			t.Error(err)
		}
	}()
	hosts := filepath.Join(dir, "hosts")
	if err := os.WriteFile(hosts, []byte("127.0.0.1\tlocalhost\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, spec := range g.containers() {
		cfg := g.container(t, spec)
		cfg.Image.Image = runtime.Busybox
		cfg.Command, cfg.Args, cfg.WorkingDir = []string{"/bin/sh", "-c", "exec sleep 1000"}, nil, "/tmp"
		cfg.Mounts[0].HostPath = hosts
		cfg.Linux.Resources.HugepageLimits = nil
		cfg.Linux.Resources.MemorySwapLimitInBytes = 0
		cfg.Linux.Resources.Unified = nil
		sc := cfg.Linux.SecurityContext
		sc.NamespaceOptions.Network = runtimeapi.NamespaceMode_NODE
		sc.SelinuxOptions, sc.Apparmor, sc.ApparmorProfile = nil, nil, ""
		if sc.RunAsUsername != "" {
			sc.RunAsUsername = "root"
		}
		if sc.Seccomp.ProfileType == runtimeapi.SecurityProfile_Localhost {
			sc.Seccomp.LocalhostRef = filepath.Join(dir, "seccomp.json")
			if err := os.WriteFile(sc.Seccomp.LocalhostRef, []byte(`{"defaultAction":"SCMP_ACT_ALLOW"}`), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		container, err := c.CreateContainer(ctx, id, cfg, pod)
		if err != nil {
			t.Errorf("%s: %v", spec.Name, err)
			continue
		}
		if err := c.StartContainer(ctx, container); err != nil {
			t.Errorf("%s: %v", spec.Name, err)
			continue
		}
		inside(t, c, container, cfg)
	}
}

// inside asks the container what it got.
func inside(t *testing.T, c *cri.Client, id string, cfg *runtimeapi.ContainerConfig) {
	t.Helper()
	res, err := c.Exec(t.Context(), id, []string{"/bin/sh", "-c", `id -u; echo "$NAME"; grep NoNewPrivs /proc/self/status; pwd`}, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	words := strings.Fields(string(res.Stdout))
	sc := cfg.Linux.SecurityContext
	want := []string{strconv.FormatInt(sc.RunAsUser.GetValue(), 10), "Ann", "NoNewPrivs:", "0", "/tmp"}
	if sc.NoNewPrivs {
		want[3] = "1"
	}
	if strings.Join(words, " ") != strings.Join(want, " ") {
		t.Errorf("%s: inside it is %q; want %q (stderr %s)", cfg.Metadata.Name, words, want, res.Stderr)
	}
}
