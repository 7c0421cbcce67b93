package volume

import (
	corev1 "k8s.io/api/core/v1"
	resourcehelper "k8s.io/component-helpers/resource"
)

// memoryLimit is the size of a memory volume in bytes: its sizeLimit or what
// the pod may use at all, whichever is less; 0 when neither is given.
func memoryLimit(pod *corev1.Pod, src *corev1.EmptyDirVolumeSource) int64 {
	limit := podMemory(pod)
	if src.SizeLimit != nil {
		if own := src.SizeLimit.Value(); own > 0 && (limit == 0 || own < limit) {
			limit = own
		}
	}
	return limit
}

// podMemory is the pod's memory limit, 0 when a container has none: then the
// pod as a whole has none either.
func podMemory(pod *corev1.Pod) int64 {
	whole := pod.Spec.Resources != nil && !pod.Spec.Resources.Limits.Memory().IsZero()
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if !whole && list[i].Resources.Limits.Memory().IsZero() {
				return 0
			}
		}
	}
	limits := resourcehelper.PodLimits(pod, resourcehelper.PodResourcesOptions{})
	return limits.Memory().Value()
}
