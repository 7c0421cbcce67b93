package cri_test

import (
	"encoding/json"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"pinnace/cri"
)

// FuzzConversions feeds pods that nothing has validated: what comes out must
// stay inside the bounds that the kernel has, and nothing may panic.
func FuzzConversions(f *testing.F) {
	for _, g := range goldens(f) {
		seed, err := json.Marshal(g.pod)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(seed, int64(10<<30), true)
	}
	f.Add([]byte(`{"spec":{"containers":[{"resources":{"requests":{"cpu":"9E","memory":"9E"},"limits":{"cpu":"9E"}}}]}}`), int64(1), false)
	f.Add([]byte(`{"spec":{"resources":{"requests":{"memory":"1"}},"containers":[{"securityContext":{}}]}}`), int64(0), true)
	f.Fuzz(func(t *testing.T, text []byte, capacity int64, unified bool) {
		var pod corev1.Pod
		if json.Unmarshal(text, &pod) != nil {
			return
		}
		g := golden{pod: &pod}
		before, err := json.Marshal(&pod)
		if err != nil {
			return
		}
		s := g.sandbox()
		if s.Labels[cri.LabelPodUID] != string(pod.UID) || pod.Spec.HostNetwork && s.Hostname != "" {
			t.Errorf("sandbox of %s is %v", text, s)
		}
		for _, c := range g.containers() {
			_ = cri.VerifyRunAsNonRoot(&pod, c, cri.Image{})
			cfg, err := cri.ContainerConfig(&pod, c, cri.ContainerOptions{
				Node: cri.NodeFacts{MemoryCapacity: capacity, PageSizes: []string{"2MB"}, Unified: unified, SwapAccounting: true},
			})
			if err != nil {
				continue
			}
			r := cfg.Linux.Resources
			if r.CpuShares < 2 || r.CpuShares > 262144 || r.CpuQuota != 0 && r.CpuQuota < 1000 {
				t.Errorf("%s: cpu shares %d, quota %d", text, r.CpuShares, r.CpuQuota)
			}
			if r.OomScoreAdj < -997 || r.OomScoreAdj > 1000 {
				t.Errorf("%s: OOM score %d", text, r.OomScoreAdj)
			}
			if len(r.HugepageLimits) != 1 {
				t.Errorf("%s: huge page limits %v", text, r.HugepageLimits)
			}
		}
		if after, err := json.Marshal(&pod); err != nil || string(after) != string(before) {
			t.Errorf("the pod was changed:\n%s\n%s", before, after)
		}
	})
}
