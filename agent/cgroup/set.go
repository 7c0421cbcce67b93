package cgroup

import (
	"os"
	"slices"
	"strings"

	"github.com/opencontainers/cgroups"
)

// resources writes limits in the library's terms, leaving out what this
// host has no controller for.
func (t *Tree) resources(l Limits) *cgroups.Resources {
	return t.resourcesWith(l, t.has)
}

func (t *Tree) resourcesWith(l Limits, has func(controller string) bool) *cgroups.Resources {
	r := &cgroups.Resources{SkipDevices: true, SkipFreezeOnSet: true}
	if has("cpu") {
		if t.unified {
			r.CpuWeight = weight(l.Shares)
		} else {
			r.CpuShares = l.Shares
		}
		r.CpuQuota, r.CpuPeriod = l.Quota, l.Period
	}
	if has("memory") {
		r.Memory = l.Memory
	}
	if has("hugetlb") {
		// A size that the pod did not ask for is not free for all.
		for _, size := range cgroups.HugePageSizes() {
			r.HugetlbLimit = append(r.HugetlbLimit, &cgroups.HugepageLimit{Pagesize: size, Limit: uint64(l.HugePages[size])})
		}
	}
	return r
}

// has reports whether the host offers the controller.
func (t *Tree) has(controller string) bool {
	if !t.unified {
		return t.paths[controller] != ""
	}
	raw, err := os.ReadFile("/sys/fs/cgroup/cgroup.controllers")
	return err == nil && slices.Contains(strings.Fields(string(raw)), controller)
}

// weight maps shares to cgroup v2's cpu.weight as Kubernetes does for pods:
// in proportion, so that twice the request stays twice the time.
func weight(shares uint64) uint64 {
	if shares < minShares {
		return 0 // not set
	}
	return 1 + (shares-minShares)*9999/(maxShares-minShares)
}
