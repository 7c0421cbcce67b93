package cri

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/ptr"
)

// SandboxOptions is what a sandbox's configuration needs beside the pod.
type SandboxOptions struct {
	Instance     string // for LabelInstance
	CgroupParent string // in the words of the runtime's cgroup driver
	LogDirectory string // absolute; the containers' log paths are relative to it
	DNS          *runtimeapi.DNSConfig
	Hostname     string // ignored for a host-network pod
	Attempt      uint32
}

// SandboxConfig is what the runtime is told of a pod's sandbox. It takes a
// pod that has been defaulted and validated. Host ports are not in it: they
// are the proxy's.
func SandboxConfig(pod *corev1.Pod, o SandboxOptions) *runtimeapi.PodSandboxConfig {
	cfg := &runtimeapi.PodSandboxConfig{
		Metadata: &runtimeapi.PodSandboxMetadata{
			Name:      pod.Name,
			Namespace: pod.Namespace,
			Uid:       string(pod.UID),
			Attempt:   o.Attempt,
		},
		LogDirectory: o.LogDirectory,
		DnsConfig:    o.DNS,
		Labels:       map[string]string{},
		Annotations:  maps.Clone(pod.Annotations),
		Linux: &runtimeapi.LinuxPodSandboxConfig{
			CgroupParent:    o.CgroupParent,
			SecurityContext: sandboxSecurity(pod),
		},
	}
	maps.Copy(cfg.Labels, pod.Labels)
	maps.Copy(cfg.Labels, identity(pod, o.Instance)) // last: a pod cannot pass for another
	// runc refuses a hostname in the host's UTS namespace.
	if !pod.Spec.HostNetwork {
		cfg.Hostname = o.Hostname
	}
	if sc := pod.Spec.SecurityContext; sc != nil && len(sc.Sysctls) > 0 {
		cfg.Linux.Sysctls = map[string]string{}
		for _, s := range sc.Sysctls {
			cfg.Linux.Sysctls[s.Name] = s.Value
		}
	}
	return cfg
}

// identity is the labels by which what belongs to a pod is found again.
func identity(pod *corev1.Pod, instance string) map[string]string {
	return map[string]string{
		LabelPodName:      pod.Name,
		LabelPodNamespace: pod.Namespace,
		LabelPodUID:       string(pod.UID),
		LabelInstance:     instance,
	}
}

func sandboxSecurity(pod *corev1.Pod) *runtimeapi.LinuxSandboxSecurityContext {
	sec := &runtimeapi.LinuxSandboxSecurityContext{
		NamespaceOptions: namespaces(pod),
		Privileged:       anyPrivileged(pod),
		// The pause process needs no more, whatever the containers get.
		Seccomp: &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault},
	}
	sc := pod.Spec.SecurityContext
	if sc == nil {
		return sec
	}
	sec.RunAsUser = int64Value(sc.RunAsUser)
	sec.RunAsGroup = int64Value(sc.RunAsGroup)
	sec.SelinuxOptions = selinux(sc.SELinuxOptions)
	sec.SupplementalGroups = groups(sc)
	if sc.SupplementalGroupsPolicy != nil {
		sec.SupplementalGroupsPolicy = groupsPolicy[*sc.SupplementalGroupsPolicy]
	}
	return sec
}

// namespaces says which namespaces the pod's containers share with each other
// and which with the node.
func namespaces(pod *corev1.Pod) *runtimeapi.NamespaceOption {
	ns := &runtimeapi.NamespaceOption{
		Network: runtimeapi.NamespaceMode_POD,
		Ipc:     runtimeapi.NamespaceMode_POD,
		Pid:     runtimeapi.NamespaceMode_CONTAINER,
	}
	if pod.Spec.HostNetwork {
		ns.Network = runtimeapi.NamespaceMode_NODE
	}
	if pod.Spec.HostIPC {
		ns.Ipc = runtimeapi.NamespaceMode_NODE
	}
	switch {
	case pod.Spec.HostPID:
		ns.Pid = runtimeapi.NamespaceMode_NODE
	case ptr.Deref(pod.Spec.ShareProcessNamespace, false):
		ns.Pid = runtimeapi.NamespaceMode_POD
	}
	return ns
}

func anyPrivileged(pod *corev1.Pod) bool {
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if sc := list[i].SecurityContext; sc != nil && ptr.Deref(sc.Privileged, false) {
				return true
			}
		}
	}
	return false
}

// groups are the supplemental groups of every process in the pod, the volume
// group first.
func groups(sc *corev1.PodSecurityContext) []int64 {
	var out []int64
	if sc.FSGroup != nil {
		out = append(out, *sc.FSGroup)
	}
	return append(out, sc.SupplementalGroups...)
}

var groupsPolicy = map[corev1.SupplementalGroupsPolicy]runtimeapi.SupplementalGroupsPolicy{
	corev1.SupplementalGroupsPolicyMerge:  runtimeapi.SupplementalGroupsPolicy_Merge,
	corev1.SupplementalGroupsPolicyStrict: runtimeapi.SupplementalGroupsPolicy_Strict,
}

func selinux(o *corev1.SELinuxOptions) *runtimeapi.SELinuxOption {
	if o == nil {
		return nil
	}
	return &runtimeapi.SELinuxOption{User: o.User, Role: o.Role, Type: o.Type, Level: o.Level}
}

func int64Value(v *int64) *runtimeapi.Int64Value {
	if v == nil {
		return nil
	}
	return &runtimeapi.Int64Value{Value: *v}
}
