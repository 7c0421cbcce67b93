package volume

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Mounts translates the container's volume mounts for the runtime. expand replaces $(VAR) by the container's variables.
// Sub-paths are made when absent, looked up inside the volume and nowhere
// else, and bound to a place that the pod cannot touch. Idempotent; Teardown
// undoes it.
func (s Set) Mounts(pod *corev1.Pod, c *corev1.Container, expand func(string) string) ([]*runtimeapi.Mount, error) {
	out := make([]*runtimeapi.Mount, 0, len(c.VolumeMounts))
	for i := range c.VolumeMounts {
		m := &c.VolumeMounts[i]
		got, err := mount(m, s.Host)
		if err == nil {
			got.SelinuxRelabel = ours(pod, m.Name)
			at := filepath.Join(s.Dir, "subpaths", c.Name, strconv.Itoa(i))
			got.HostPath, err = within(got, m, at, expand)
		}
		if err != nil {
			return nil, fmt.Errorf("mount volume %q into container %q: %w", m.Name, c.Name, err)
		}
		out = append(out, got)
	}
	return out, nil
}

// ours reports whether the volume's content belongs to the pod alone, so
// that its labels may be changed.
func ours(pod *corev1.Pod, name string) bool {
	return slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool {
		return v.Name == name && v.EmptyDir != nil
	})
}

// mount is the whole volume's mount.
func mount(m *corev1.VolumeMount, host map[string]string) (*runtimeapi.Mount, error) {
	path, ok := host[m.Name]
	if !ok {
		return nil, errors.New("the pod has no such volume")
	}
	out := &runtimeapi.Mount{HostPath: path, ContainerPath: m.MountPath, Readonly: m.ReadOnly}
	if !filepath.IsAbs(out.ContainerPath) {
		out.ContainerPath = "/" + out.ContainerPath
	}
	if m.MountPropagation != nil {
		switch *m.MountPropagation {
		case corev1.MountPropagationNone:
		case corev1.MountPropagationHostToContainer:
			out.Propagation = runtimeapi.MountPropagation_PROPAGATION_HOST_TO_CONTAINER
		case corev1.MountPropagationBidirectional:
			out.Propagation = runtimeapi.MountPropagation_PROPAGATION_BIDIRECTIONAL
		default:
			return nil, fmt.Errorf("unknown mountPropagation %q", *m.MountPropagation)
		}
	}
	// IfPossible asks for it only where the runtime is known to do it, and
	// here nobody knows.
	if m.RecursiveReadOnly != nil && *m.RecursiveReadOnly == corev1.RecursiveReadOnlyEnabled {
		if !m.ReadOnly || out.Propagation != runtimeapi.MountPropagation_PROPAGATION_PRIVATE {
			return nil, errors.New("recursiveReadOnly needs readOnly and no mountPropagation")
		}
		out.RecursiveReadOnly = true
	}
	return out, nil
}

// within narrows a mount to its sub-path, bound to at, and returns the path
// to hand to the runtime.
func within(whole *runtimeapi.Mount, m *corev1.VolumeMount, at string, expand func(string) string) (string, error) {
	sub := m.SubPath
	if m.SubPathExpr != "" {
		sub = expand(m.SubPathExpr)
		if strings.Contains(sub, "$(") && !strings.Contains(m.SubPathExpr, "$$") {
			return "", fmt.Errorf("subPathExpr %q names a variable that the container does not have", m.SubPathExpr)
		}
	}
	if sub == "" {
		return whole.HostPath, nil
	}
	if filepath.IsAbs(sub) {
		return "", fmt.Errorf("subPath %q must be relative", sub)
	}
	if slices.Contains(strings.Split(sub, "/"), "..") {
		return "", fmt.Errorf("subPath %q must not contain '..'", sub)
	}
	if err := bind(whole.HostPath, sub, at, whole.Propagation); err != nil {
		return "", fmt.Errorf("subPath %q: %w", sub, err)
	}
	return at, nil
}
