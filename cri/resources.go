package cri

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	helper "k8s.io/component-helpers/resource"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	corehelper "k8s.io/kubernetes/pkg/apis/core/v1/helper"
	"k8s.io/kubernetes/pkg/apis/core/v1/helper/qos"
	"k8s.io/utils/ptr"
)

// CPU in the kernel's units. A quota below 1 ms and shares outside of these
// bounds are refused by the kernel.
const (
	cpuPeriod = 100_000 // µs
	minQuota  = 1_000   // µs
	minShares = 2
	maxShares = 262_144
)

// The OOM scores: what is killed last, and first, of all pods.
const (
	guaranteedScore = -997
	bestEffortScore = 1000
	nodeCritical    = "system-node-critical" // the priority class that counts as guaranteed
)

// resources are the container's limits in its cgroup. The pod's own cgroup is
// not the runtime's business.
func resources(pod *corev1.Pod, c *corev1.Container, node NodeFacts) *runtimeapi.LinuxContainerResources {
	cpuLimit, memoryLimit := c.Resources.Limits.Cpu(), c.Resources.Limits.Memory()
	// A container without a limit is bounded by its pod's.
	if helper.IsPodLevelResourcesSet(pod) {
		if cpuLimit.IsZero() {
			cpuLimit = pod.Spec.Resources.Limits.Cpu()
		}
		if memoryLimit.IsZero() {
			memoryLimit = pod.Spec.Resources.Limits.Memory()
		}
	}
	cpuRequest := cpuLimit
	if q, ok := c.Resources.Requests[corev1.ResourceCPU]; ok {
		cpuRequest = &q
	}
	r := &runtimeapi.LinuxContainerResources{
		CpuShares:          shares(cpuRequest),
		CpuQuota:           quota(cpuLimit),
		CpuPeriod:          cpuPeriod,
		MemoryLimitInBytes: memoryLimit.Value(),
		OomScoreAdj:        oomScore(pod, c, node.MemoryCapacity),
		HugepageLimits:     hugepages(pod, c, node.PageSizes),
	}
	if node.Unified {
		// The kernel then kills the whole container, not one process in it.
		r.Unified = map[string]string{"memory.oom.group": "1"}
	}
	if node.SwapAccounting {
		if node.Unified {
			r.Unified["memory.swap.max"] = "0"
		} else {
			r.MemorySwapLimitInBytes = r.MemoryLimitInBytes // memory and swap together
		}
	}
	return r
}

func shares(cpu *resource.Quantity) int64 {
	// The bound comes first: what is multiplied must not overflow.
	milli := min(cpu.MilliValue(), maxShares)
	return min(max(milli*1024/1000, minShares), maxShares)
}

func quota(cpu *resource.Quantity) int64 {
	if cpu.IsZero() {
		return 0 // no limit
	}
	const maxMilli = int64(1) << 40
	return max(min(cpu.MilliValue(), maxMilli)*cpuPeriod/1000, minQuota)
}

// hugepages limits every page size that the machine has; what the pod does
// not ask for is limited to nothing.
func hugepages(pod *corev1.Pod, c *corev1.Container, sizes []string) []*runtimeapi.HugepageLimit {
	want := map[string]uint64{}
	collect := func(limits corev1.ResourceList) {
		for name, amount := range limits {
			if !corehelper.IsHugePageResourceName(name) {
				continue
			}
			size, err := corehelper.HugePageSizeFromResourceName(name)
			if err != nil {
				continue // validation has refused it
			}
			if unit, err := corehelper.HugePageUnitSizeFromByteSize(size.Value()); err == nil {
				want[unit] = uint64(amount.Value())
			}
		}
	}
	if helper.IsPodLevelResourcesSet(pod) {
		collect(pod.Spec.Resources.Limits)
	}
	collect(c.Resources.Limits) // last: the container's own count
	var out []*runtimeapi.HugepageLimit
	for _, size := range sizes {
		out = append(out, &runtimeapi.HugepageLimit{PageSize: size, Limit: want[size]})
	}
	return out
}

// oomScore is how willingly the kernel kills this container when the machine
// runs out of memory, by the rule that Kubernetes documents: the less of the
// machine a Burstable container has asked for, the sooner.
func oomScore(pod *corev1.Pod, c *corev1.Container, capacity int64) int64 {
	if pod.Spec.PriorityClassName == nodeCritical {
		return guaranteedScore
	}
	switch qos.GetPodQOS(pod) {
	case corev1.PodQOSGuaranteed:
		return guaranteedScore
	case corev1.PodQOSBestEffort:
		return bestEffortScore
	}
	extra := unclaimed(pod)
	score := scoreOf(c.Resources.Requests.Memory().Value()+extra, capacity)
	if sidecar(pod, c) {
		// A sidecar is not killed before the containers that it serves.
		score = min(score, scoreOf(leastRequest(pod)+extra, capacity))
	}
	// Never as safe as a Guaranteed pod, always safer than a BestEffort one.
	return min(max(score, 1000+guaranteedScore), bestEffortScore-1)
}

func scoreOf(request, capacity int64) int64 {
	if capacity <= 0 || request >= capacity {
		return 0
	}
	if request <= 0 {
		return 1000
	}
	return 1000 - int64(1000*float64(request)/float64(capacity))
}

// unclaimed is each container's part of the memory that the pod as a whole
// requests beyond its containers' own requests.
func unclaimed(pod *corev1.Pod) int64 {
	if !helper.IsPodLevelRequestsSet(pod) || pod.Spec.Resources.Requests.Memory().IsZero() {
		return 0
	}
	claimed := helper.AggregateContainerRequests(pod, helper.PodResourcesOptions{})
	rest := pod.Spec.Resources.Requests.Memory().Value() - claimed.Memory().Value()
	n := len(pod.Spec.Containers) + len(pod.Spec.InitContainers)
	return max(rest, 0) / int64(max(n, 1))
}

func sidecar(pod *corev1.Pod, c *corev1.Container) bool {
	return ptr.Deref(c.RestartPolicy, "") == corev1.ContainerRestartPolicyAlways &&
		slices.ContainsFunc(pod.Spec.InitContainers, func(i corev1.Container) bool { return i.Name == c.Name })
}

// leastRequest is the smallest memory request among the regular containers.
func leastRequest(pod *corev1.Pod) int64 {
	var least int64
	for i := range pod.Spec.Containers {
		v := pod.Spec.Containers[i].Resources.Requests.Memory().Value()
		if i == 0 || v < least {
			least = v
		}
	}
	return least
}
