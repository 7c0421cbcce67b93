package cri

import (
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ContainerOptions is what a container's configuration needs beside the pod.
type ContainerOptions struct {
	Instance string // for LabelInstance
	Attempt  uint32
	// ImageRef is what to create the container from: what Pull returned, or
	// Image's id.
	ImageRef string
	// Image is the same image; a container runs as its user unless the pod
	// says otherwise.
	Image Image
	Env   []*runtimeapi.KeyValue
	// Expand replaces $(VAR) in command and args; nil replaces nothing.
	Expand func(string) string
	Mounts []*runtimeapi.Mount
	// LogPath is relative to the sandbox's log directory.
	LogPath string
	// Annotations go onto the container as they are: AnnotationBackoff and
	// the termination message's.
	Annotations map[string]string
	Node        NodeFacts
}

// NodeFacts is what the conversion must know of the machine.
type NodeFacts struct {
	MemoryCapacity int64    // bytes; for the OOM score of Burstable pods
	PageSizes      []string // huge page sizes as the kernel's cgroups spell them: 2MB, 1GB
	Unified        bool     // cgroup v2
	// SwapAccounting: the kernel can limit a cgroup's swap. Containers then
	// get none, as everywhere in Kubernetes by default.
	SwapAccounting bool
	SeccompRoot    string // where Localhost seccomp profiles lie
	AppArmor       bool   // the kernel has it and it is on
}

// ContainerConfig is what the runtime is told of one attempt of a container.
// It takes a pod that has been defaulted and validated; the error names what
// this node cannot do for it.
func ContainerConfig(pod *corev1.Pod, c *corev1.Container, o ContainerOptions) (*runtimeapi.ContainerConfig, error) {
	sec, err := containerSecurity(pod, c, o)
	if err != nil {
		return nil, fmt.Errorf("configure container %s/%s/%s: %w", pod.Namespace, pod.Name, c.Name, err)
	}
	cfg := &runtimeapi.ContainerConfig{
		Metadata:    &runtimeapi.ContainerMetadata{Name: c.Name, Attempt: o.Attempt},
		Image:       &runtimeapi.ImageSpec{Image: o.ImageRef, UserSpecifiedImage: c.Image},
		Command:     expandAll(c.Command, o.Expand),
		Args:        expandAll(c.Args, o.Expand),
		WorkingDir:  c.WorkingDir,
		Envs:        o.Env,
		Mounts:      o.Mounts,
		Labels:      identity(pod, o.Instance),
		Annotations: maps.Clone(o.Annotations),
		LogPath:     o.LogPath,
		Stdin:       c.Stdin,
		StdinOnce:   c.StdinOnce,
		Tty:         c.TTY,
		Linux: &runtimeapi.LinuxContainerConfig{
			Resources:       resources(pod, c, o.Node),
			SecurityContext: sec,
		},
	}
	cfg.Labels[LabelContainerName] = c.Name
	if c.Lifecycle != nil && c.Lifecycle.StopSignal != nil {
		cfg.StopSignal = runtimeapi.Signal(runtimeapi.Signal_value[string(*c.Lifecycle.StopSignal)])
	}
	return cfg, nil
}

func expandAll(words []string, expand func(string) string) []string {
	if expand == nil {
		return words
	}
	var out []string
	for _, w := range words {
		out = append(out, expand(w))
	}
	return out
}
