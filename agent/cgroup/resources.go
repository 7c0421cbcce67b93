package cgroup

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"
)

// Limits is what a pod as a whole gets from the kernel, in the kernel's v1
// units. Zero means: not limited.
type Limits struct {
	Shares    uint64           // CPU weight, 2 to 262144; 1024 is one core
	Quota     int64            // CPU time in µs per Period
	Period    uint64           // µs
	Memory    int64            // bytes
	HugePages map[string]int64 // page size as the kernel writes it ("2MB") to bytes
}

// The kernel's bounds, and the period that Kubernetes uses.
const (
	minShares, maxShares = 2, 1 << 18
	period               = 100_000
	minQuota             = 1000
)

// Resources computes a pod's limits as Kubernetes does: containers run
// together and add up, init containers run before and need no more than
// their largest; a limit counts for the pod only when every container has it.
func Resources(pod *corev1.Pod) Limits {
	opts := resourcehelper.PodResourcesOptions{}
	requests, limits := resourcehelper.PodRequests(pod, opts), resourcehelper.PodLimits(pod, opts)
	out := Limits{
		Shares:    shares(requests.Cpu().MilliValue()),
		HugePages: hugePages(requests),
	}
	if limited(pod, corev1.ResourceCPU) {
		out.Quota = max(limits.Cpu().MilliValue()*period/1000, minQuota)
		out.Period = period
	}
	if limited(pod, corev1.ResourceMemory) {
		out.Memory = limits.Memory().Value()
	}
	return out
}

// shares is the CPU weight of a request: a pod that asks for nothing gets the
// least there is.
func shares(milli int64) uint64 {
	return uint64(min(max(milli*1024/1000, minShares), maxShares))
}

// limited reports whether the pod itself or each of its containers has a
// limit for name.
func limited(pod *corev1.Pod, name corev1.ResourceName) bool {
	has := func(r *corev1.ResourceRequirements) bool {
		q, ok := r.Limits[name]
		return ok && !q.IsZero()
	}
	if pod.Spec.Resources != nil && has(pod.Spec.Resources) {
		return true
	}
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if !has(&list[i].Resources) {
				return false
			}
		}
	}
	return true
}

// hugePages picks the hugepages-<size> entries.
func hugePages(list corev1.ResourceList) map[string]int64 {
	var out map[string]int64
	for name, q := range list {
		text, ok := strings.CutPrefix(string(name), corev1.ResourceHugePagesPrefix)
		if !ok {
			continue
		}
		size, err := resource.ParseQuantity(text)
		if err != nil {
			continue // the API's validation has refused it already
		}
		if out == nil {
			out = map[string]int64{}
		}
		out[pageSize(size.Value())] += q.Value()
	}
	return out
}
