package node

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"pinnace/agent/cgroup"
	"pinnace/containerd"
	"pinnace/cri"
	"pinnace/network"
	"pinnace/network/hook"
)

// hookName is the CNI hook's binary; it lies beside the agent's.
const hookName = "pinnace-cni"

// systemd reports whether PID 1 is systemd.
func systemd() bool {
	fi, err := os.Stat("/run/systemd/system")
	return err == nil && fi.IsDir()
}

// containerdConfig describes the private containerd.
func (c *Config) containerdConfig(h *house) containerd.Config {
	return containerd.Config{
		Root:          filepath.Join(c.Root, "containerd"),
		Run:           filepath.Join(c.Run, "containerd"),
		CNIBin:        filepath.Join(c.Root, "cni", "bin"),
		CNIConf:       filepath.Join(c.Root, "cni", "net.d"),
		SandboxImage:  pauseImage,
		SystemdCgroup: systemd(),
		RestrictOOM:   containerd.MissingSysResource(),
		Instance:      c.Instance(),
		Logger:        h.log,
	}
}

// networkConfig describes the pod network.
func (c *Config) networkConfig(h *house) network.Config {
	return network.Config{Instance: c.Instance(), RunDir: c.Run, Prefixes: c.Pods, Logger: h.log}
}

// openNetwork makes the pod network ready to be asked for links. It comes
// before the runtime, which reads the hook's configuration as it starts.
func (h *house) openNetwork(ctx context.Context) error {
	if h.cfg.Network == "cni" {
		return nil
	}
	var err error
	if h.network, err = network.New(h.cfg.networkConfig(h)); err != nil {
		return err
	}
	if err := h.network.Start(ctx); err != nil {
		return err
	}
	if h.cfg.CRIEndpoint != "" {
		return nil
	}
	return h.installHook(h.path("cni", "bin"), h.path("cni", "net.d"))
}

// installHook puts the hook and its configuration where the runtime looks.
func (h *house) installHook(bin, conf string) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	binary := filepath.Join(filepath.Dir(exe), hookName)
	if _, err := os.Stat(binary); err != nil {
		return fmt.Errorf("find the CNI hook: %w; it belongs beside %s", err, exe)
	}
	return hook.Install(binary, bin, conf, h.socket())
}

// openRuntime starts or takes up the private containerd, or dials the one
// that was given.
func (h *house) openRuntime(ctx context.Context) error {
	endpoint := h.cfg.CRIEndpoint
	if endpoint == "" {
		var err error
		if h.daemon, err = containerd.New(h.cfg.containerdConfig(h)); err != nil {
			return err
		}
		if err := h.daemon.Start(ctx); err != nil {
			return err
		}
		endpoint = h.daemon.Endpoint()
	}
	var err error
	if h.runtime, err = cri.Dial(endpoint); err != nil {
		return err
	}
	name, version, err := h.runtime.Version(ctx)
	if err != nil {
		return err
	}
	h.containerd = name == "containerd"
	h.log.Info("runtime answers", "name", name, "version", version, "endpoint", endpoint)
	if h.daemon != nil {
		return nil
	}
	return h.shareNetwork(ctx)
}

// openCgroups asks who drives the cgroups: for a private containerd that is
// systemd where it is PID 1, for a shared one whatever it says.
func (h *house) openCgroups(ctx context.Context) error {
	h.systemd = systemd()
	if h.daemon == nil {
		driver, err := h.runtime.CgroupDriver(ctx)
		if err != nil {
			return err
		}
		h.systemd = driver == "systemd"
	}
	var err error
	h.cgroups, err = cgroup.New(cgroup.Config{Root: h.cfg.cgroupRoot(), Systemd: h.systemd})
	return err
}

const cgroupPrefix = "pinnace-"

// cgroupRoot is a cgroup of this agent alone, below the one that was given:
// what is in it may be killed.
func (c *Config) cgroupRoot() string {
	return path.Join("/", c.CgroupRoot, cgroupPrefix+c.Instance())
}

// loadImages brings the image files below ROOT/images into containerd.
func (h *house) loadImages(ctx context.Context) error {
	dir := h.path("images")
	files, err := filepath.Glob(filepath.Join(dir, "*.tar"))
	if err != nil || len(files) == 0 {
		return err
	}
	endpoint := h.cfg.CRIEndpoint
	if h.daemon != nil {
		endpoint = h.daemon.Endpoint()
	} else if !h.containerd {
		return fmt.Errorf("%s holds image files, and CRI has no call to load them into this runtime: load them with its own tool and empty the folder", dir)
	}
	names, err := containerd.Load(ctx, endpoint, dir, h.path("images.json"))
	if len(names) > 0 {
		h.log.Info("loaded images", "names", strings.Join(names, " "))
	}
	if err != nil && len(names) > 0 {
		h.log.Warn("left an image file out", "err", err)
		return nil
	}
	return err
}

// bury ends what containerd may have left of a container whose start failed.
func (h *house) bury(ctx context.Context, id string) error {
	if h.daemon != nil {
		return containerd.Bury(ctx, h.daemon.Endpoint(), id)
	}
	if !h.containerd {
		return nil
	}
	return containerd.Bury(ctx, h.cfg.CRIEndpoint, id)
}

// advised is the runtime with its darkest message put into advice.
type advised struct{ *cri.Client }

// RunSandbox is the client's, with advice in its error.
func (a advised) RunSandbox(ctx context.Context, cfg *runtimeapi.PodSandboxConfig, handler string) (string, error) {
	id, err := a.Client.RunSandbox(ctx, cfg, handler)
	if err != nil {
		if advice := containerd.Advice(err.Error()); advice != "" {
			err = fmt.Errorf("%w (%s)", err, advice)
		}
	}
	return id, err
}
