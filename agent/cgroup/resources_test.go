package cgroup

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// list reads "cpu=1,memory=2Mi".
func list(pairs ...string) corev1.ResourceList {
	out := corev1.ResourceList{}
	for i := 0; i+1 < len(pairs); i += 2 {
		out[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return out
}

func with(requests, limits corev1.ResourceList) corev1.Container {
	return corev1.Container{Resources: corev1.ResourceRequirements{Requests: requests, Limits: limits}}
}

func TestResources(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	sidecar := with(list("cpu", "250m"), list("cpu", "1", "memory", "10Mi"))
	sidecar.RestartPolicy = &always
	for _, c := range []struct {
		name       string
		init, main []corev1.Container
		overhead   corev1.ResourceList
		want       Limits
	}{
		{"best effort", nil, []corev1.Container{with(nil, nil)}, nil, Limits{Shares: 2}},
		{"requests add up", nil,
			[]corev1.Container{with(list("cpu", "500m", "memory", "1Gi"), nil), with(list("cpu", "250m"), nil)}, nil,
			Limits{Shares: 768}},
		{"all limited", nil,
			[]corev1.Container{with(list("cpu", "1"), list("cpu", "1", "memory", "64Mi")), with(nil, list("cpu", "500m", "memory", "32Mi"))}, nil,
			Limits{Shares: 1024, Quota: 150_000, Period: 100_000, Memory: 96 << 20}},
		{"one without memory limit", nil,
			[]corev1.Container{with(nil, list("cpu", "100m", "memory", "64Mi")), with(nil, list("cpu", "100m"))}, nil,
			Limits{Shares: 2, Quota: 20_000, Period: 100_000}},
		{"the larger of init and sum",
			[]corev1.Container{with(list("cpu", "2"), list("memory", "256Mi"))},
			[]corev1.Container{with(list("cpu", "500m"), list("memory", "64Mi")), with(list("cpu", "500m"), list("memory", "64Mi"))}, nil,
			Limits{Shares: 2048, Memory: 256 << 20}},
		{"init without limit frees the pod",
			[]corev1.Container{with(nil, nil)}, []corev1.Container{with(nil, list("memory", "64Mi"))}, nil,
			Limits{Shares: 2}},
		{"sidecars run beside", []corev1.Container{sidecar},
			[]corev1.Container{with(list("cpu", "250m"), list("cpu", "1", "memory", "10Mi"))}, nil,
			Limits{Shares: 512, Quota: 200_000, Period: 100_000, Memory: 20 << 20}},
		{"overhead counts", nil, []corev1.Container{with(list("cpu", "250m"), nil)}, list("cpu", "250m"), Limits{Shares: 512}},
		{"quota has a floor", nil, []corev1.Container{with(nil, list("cpu", "1m"))}, nil, Limits{Shares: 2, Quota: 1000, Period: 100_000}},
		{"shares have a ceiling", nil, []corev1.Container{with(list("cpu", "1000"), nil)}, nil, Limits{Shares: 262144}},
		{"huge pages", nil,
			[]corev1.Container{with(list("hugepages-2Mi", "4Mi"), nil), with(list("hugepages-2Mi", "2Mi", "hugepages-1Gi", "1Gi"), nil)}, nil,
			Limits{Shares: 2, HugePages: map[string]int64{"2MB": 6 << 20, "1GB": 1 << 30}}},
	} {
		pod := &corev1.Pod{Spec: corev1.PodSpec{InitContainers: c.init, Containers: c.main, Overhead: c.overhead}}
		if d := cmp.Diff(c.want, Resources(pod)); d != "" {
			t.Errorf("%s: %s", c.name, d)
		}
	}
}

func TestPodLevelResources(t *testing.T) {
	pod := &corev1.Pod{Spec: corev1.PodSpec{
		Resources:  &corev1.ResourceRequirements{Requests: list("cpu", "1"), Limits: list("cpu", "2", "memory", "1Gi")},
		Containers: []corev1.Container{with(nil, nil)},
	}}
	want := Limits{Shares: 1024, Quota: 200_000, Period: 100_000, Memory: 1 << 30}
	if d := cmp.Diff(want, Resources(pod)); d != "" {
		t.Error(d)
	}
}

func TestNames(t *testing.T) {
	const uid = "6a1f0c1e-1111-2222-3333-444455556666"
	for _, c := range []struct {
		root    string
		systemd bool
		parent  string
	}{
		{"/pinnace", false, "/pinnace/pod6a1f0c1e-1111-2222-3333-444455556666"},
		{"/lab/first", false, "/lab/first/pod6a1f0c1e-1111-2222-3333-444455556666"},
		{"/pinnace", true, "pinnace-pod6a1f0c1e_1111_2222_3333_444455556666.slice"},
		{"/my-node", true, "my_node-pod6a1f0c1e_1111_2222_3333_444455556666.slice"},
		{"/lab/first", true, "lab-first-pod6a1f0c1e_1111_2222_3333_444455556666.slice"},
	} {
		tree := &Tree{cfg: Config{Root: c.root, Systemd: c.systemd}}
		got := tree.Parent(uid)
		if got != c.parent {
			t.Errorf("%s systemd=%t: parent %s, want %s", c.root, c.systemd, got, c.parent)
		}
		base := got[max(0, len(got)-len("pod"+uid)):]
		if c.systemd {
			base = got
		}
		if back, ok := tree.uidOf(base); !ok || back != uid {
			t.Errorf("%s systemd=%t: uid of %s is %q, %t", c.root, c.systemd, base, back, ok)
		}
		for _, other := range []string{"system.slice", "pod", "other-pod1.slice", "cgroup.procs"} {
			if uid, ok := tree.uidOf(other); ok {
				t.Errorf("%s taken for pod %q", other, uid)
			}
		}
	}
}
