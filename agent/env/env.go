// Package env makes a container's environment: literal values, values from
// the pod's own fields and resources, and $(VAR) in all of them. It reads
// nothing but its arguments; values from other objects are not its business,
// and neither are the variables that name services.
package env

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	helper "k8s.io/component-helpers/resource"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/kubernetes/pkg/api/v1/resource"
	"k8s.io/kubernetes/pkg/apis/core/pods"
	"k8s.io/kubernetes/pkg/fieldpath"
	"k8s.io/kubernetes/third_party/forked/golang/expansion"
)

// Facts are what a pod may ask for that does not stand in its spec.
type Facts struct {
	NodeName string
	// HostIPs and PodIPs are in the order of the node's families, primary
	// first. A host-network pod has the node's.
	HostIPs, PodIPs []netip.Addr
	// Allocatable stands in for the limits that a container has not.
	Allocatable corev1.ResourceList
}

// Make returns the container's variables in the order of its spec; of two
// with one name the later value counts, in the earlier place. A reference to
// a variable that stands further down, or nowhere, stays as it is written.
func Make(pod *corev1.Pod, c *corev1.Container, f Facts) ([]*runtimeapi.KeyValue, error) {
	if len(c.EnvFrom) > 0 {
		return nil, fmt.Errorf("make environment of container %s: envFrom is not supported on this node", c.Name)
	}
	var vars []*runtimeapi.KeyValue
	values := map[string]string{}
	mapping := expansion.MappingFuncFor(values)
	for i := range c.Env {
		v := &c.Env[i]
		value := expansion.Expand(v.Value, mapping)
		if v.Value == "" && v.ValueFrom != nil {
			var err error
			if value, err = resolve(v.ValueFrom, pod, c, f); err != nil {
				return nil, fmt.Errorf("make environment of container %s: variable %s: %w", c.Name, v.Name, err)
			}
		}
		values[v.Name] = value
		if i := slices.IndexFunc(vars, func(kv *runtimeapi.KeyValue) bool { return kv.Key == v.Name }); i >= 0 {
			vars[i].Value = []byte(value)
			continue
		}
		vars = append(vars, &runtimeapi.KeyValue{Key: v.Name, Value: []byte(value)})
	}
	return vars, nil
}

// Expand returns the function that replaces $(VAR) by one of vars, for
// command, args and subPathExpr. What it does not know it leaves; $$(VAR) is
// how $(VAR) is written literally.
func Expand(vars []*runtimeapi.KeyValue) func(string) string {
	values := map[string]string{}
	for _, kv := range vars {
		values[kv.Key] = string(kv.Value)
	}
	mapping := expansion.MappingFuncFor(values)
	return func(text string) string { return expansion.Expand(text, mapping) }
}

func resolve(src *corev1.EnvVarSource, pod *corev1.Pod, c *corev1.Container, f Facts) (string, error) {
	switch {
	case src.FieldRef != nil:
		return field(src.FieldRef, pod, f)
	case src.ResourceFieldRef != nil:
		return amount(src.ResourceFieldRef, pod, c, f.Allocatable)
	case src.ConfigMapKeyRef != nil:
		return "", errors.New("valueFrom.configMapKeyRef is not supported on this node")
	case src.SecretKeyRef != nil:
		return "", errors.New("valueFrom.secretKeyRef is not supported on this node")
	case src.FileKeyRef != nil:
		return "", errors.New("valueFrom.fileKeyRef is not supported on this node")
	}
	return "", errors.New("valueFrom names no source")
}

func field(ref *corev1.ObjectFieldSelector, pod *corev1.Pod, f Facts) (string, error) {
	path, _, err := pods.ConvertDownwardAPIFieldLabel(ref.APIVersion, ref.FieldPath, "")
	if err != nil {
		return "", err
	}
	switch path {
	case "spec.nodeName":
		return f.NodeName, nil
	case "spec.serviceAccountName":
		return pod.Spec.ServiceAccountName, nil
	case "status.hostIP":
		return first(f.HostIPs), nil
	case "status.hostIPs":
		return join(f.HostIPs), nil
	case "status.podIP":
		return first(f.PodIPs), nil
	case "status.podIPs":
		return join(f.PodIPs), nil
	}
	return fieldpath.ExtractFieldPathAsString(pod, path)
}

// amount is a container's request or limit in units of the divisor, rounded
// up. A limit that is not set is the pod's, or else all that the node has.
func amount(ref *corev1.ResourceFieldSelector, pod *corev1.Pod, c *corev1.Container, allocatable corev1.ResourceList) (string, error) {
	if ref.ContainerName != "" && ref.ContainerName != c.Name {
		var err error
		if c, err = container(pod, ref.ContainerName); err != nil {
			return "", err
		}
	}
	if helper.IsPodLevelLimitsSet(pod) {
		allocatable = allocatable.DeepCopy()
		for name, limit := range pod.Spec.Resources.Limits {
			if _, has := allocatable[name]; has && helper.IsSupportedPodLevelResource(name) && !limit.IsZero() {
				allocatable[name] = limit
			}
		}
	}
	limited := c.DeepCopy()
	resource.MergeContainerResourceLimits(limited, allocatable)
	return resource.ExtractContainerResourceValue(ref, limited)
}

func container(pod *corev1.Pod, name string) (*corev1.Container, error) {
	for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i], nil
			}
		}
	}
	return nil, fmt.Errorf("resourceFieldRef names container %q, which the pod has not", name)
}

func first(ips []netip.Addr) string {
	if len(ips) == 0 {
		return ""
	}
	return ips[0].String()
}

func join(ips []netip.Addr) string {
	var words []string
	for _, ip := range ips {
		words = append(words, ip.String())
	}
	return strings.Join(words, ",")
}
