package runtime

import (
	"context"
	"encoding/json"
	"path/filepath"
	"syscall"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Pod is one running sandbox with one container.
type Pod struct {
	Sandbox, Container string // ids
	Config             *runtimeapi.PodSandboxConfig
}

func setsid() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// CgroupParent is where this runtime's pods lie when RunPod makes them.
func (r *Runtime) CgroupParent() string { return "/" + filepath.Base(r.Dir) }

// RunPod starts a pod in the host's network (so it needs no CNI) that runs
// command in the image; without a command the image's own.
func (r *Runtime) RunPod(t testing.TB, name, image string, command ...string) Pod {
	t.Helper()
	ctx := t.Context()
	cfg := &runtimeapi.PodSandboxConfig{
		Metadata:     &runtimeapi.PodSandboxMetadata{Name: name, Namespace: "default", Uid: name},
		LogDirectory: filepath.Join(r.Dir, "logs", name),
		Linux: &runtimeapi.LinuxPodSandboxConfig{
			CgroupParent:    r.CgroupParent(),
			SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{NamespaceOptions: hostNetwork()},
		},
	}
	sandbox, err := r.CRI.RunPodSandbox(ctx, &runtimeapi.RunPodSandboxRequest{Config: cfg})
	if err != nil {
		t.Fatal(err)
	}
	container, err := r.CRI.CreateContainer(ctx, &runtimeapi.CreateContainerRequest{
		PodSandboxId:  sandbox.GetPodSandboxId(),
		SandboxConfig: cfg,
		Config: &runtimeapi.ContainerConfig{
			Metadata: &runtimeapi.ContainerMetadata{Name: "main"},
			Image:    &runtimeapi.ImageSpec{Image: image},
			Command:  command,
			LogPath:  "main.log",
			Linux: &runtimeapi.LinuxContainerConfig{
				SecurityContext: &runtimeapi.LinuxContainerSecurityContext{NamespaceOptions: hostNetwork()},
			},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.CRI.StartContainer(ctx, &runtimeapi.StartContainerRequest{ContainerId: container.GetContainerId()}); err != nil {
		t.Fatal(err)
	}
	return Pod{sandbox.GetPodSandboxId(), container.GetContainerId(), cfg}
}

func hostNetwork() *runtimeapi.NamespaceOption {
	return &runtimeapi.NamespaceOption{Network: runtimeapi.NamespaceMode_NODE, Pid: runtimeapi.NamespaceMode_CONTAINER}
}

// PID is the container's first process, seen from the host; 0 when it does
// not run.
func (r *Runtime) PID(t testing.TB, container string) int {
	t.Helper()
	resp, err := r.CRI.ContainerStatus(t.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: container, Verbose: true})
	if err != nil {
		t.Fatal(err)
	}
	if resp.GetStatus().GetState() != runtimeapi.ContainerState_CONTAINER_RUNNING {
		return 0
	}
	var info struct {
		PID int `json:"pid"`
	}
	if err := json.Unmarshal([]byte(resp.GetInfo()["info"]), &info); err != nil {
		t.Fatal(err)
	}
	return info.PID
}

// removePods removes every pod that the runtime still knows, as well as it can.
func (r *Runtime) removePods(ctx context.Context) {
	list, err := r.CRI.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{})
	if err != nil {
		return // it does not run: Stop kills what is left
	}
	for _, s := range list.GetItems() {
		_, _ = r.CRI.StopPodSandbox(ctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: s.GetId()})
		_, _ = r.CRI.RemovePodSandbox(ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: s.GetId()})
	}
}
