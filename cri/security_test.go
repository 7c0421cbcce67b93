package cri_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"pinnace/cri"
)

func TestVerifyRunAsNonRoot(t *testing.T) {
	yes := &corev1.SecurityContext{RunAsNonRoot: ptr.To(true)}
	tests := []struct {
		name string
		pod  *corev1.PodSecurityContext
		c    *corev1.SecurityContext
		img  cri.Image
		want string
	}{
		{name: "not asked for"},
		{name: "image says nothing", c: yes, want: "container has runAsNonRoot and image will run as root"},
		{name: "image is root", c: yes, img: cri.Image{UID: ptr.To[int64](0)}, want: "image will run as root"},
		{name: "image is not", c: yes, img: cri.Image{UID: ptr.To[int64](5)}},
		{name: "image has a name", c: yes, img: cri.Image{Username: "www"}, want: "non-numeric user (www), cannot verify"},
		{name: "user set", c: &corev1.SecurityContext{RunAsNonRoot: ptr.To(true), RunAsUser: ptr.To[int64](5)}},
		{name: "user set to root", c: &corev1.SecurityContext{RunAsNonRoot: ptr.To(true), RunAsUser: ptr.To[int64](0)},
			want: "container's runAsUser breaks non-root policy"},
		{name: "asked for by the pod", pod: &corev1.PodSecurityContext{RunAsNonRoot: ptr.To(true)}, want: "image will run as root"},
		{name: "waived by the container", pod: &corev1.PodSecurityContext{RunAsNonRoot: ptr.To(true)},
			c: &corev1.SecurityContext{RunAsNonRoot: ptr.To(false)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			pod := &corev1.Pod{Spec: corev1.PodSpec{SecurityContext: tt.pod}}
			err := cri.VerifyRunAsNonRoot(pod, &corev1.Container{SecurityContext: tt.c}, tt.img)
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v; want %q", err, tt.want)
			}
		})
	}
}

func TestContainerConfigRefuses(t *testing.T) {
	local := func(name string) *corev1.SecurityContext {
		return &corev1.SecurityContext{SeccompProfile: &corev1.SeccompProfile{
			Type: corev1.SeccompProfileTypeLocalhost, LocalhostProfile: &name}}
	}
	armor := &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeRuntimeDefault}
	tests := map[string]*corev1.SecurityContext{
		`localhostProfile "../../etc/passwd" is not a path below /seccomp`: local("../../etc/passwd"),
		`localhostProfile "" is not a path below`:                          local(""),
		"AppArmor is not enabled on this node":                             {AppArmorProfile: armor},
		`unknown seccompProfile type "Odd"`:                                {SeccompProfile: &corev1.SeccompProfile{Type: "Odd"}},
	}
	for want, sc := range tests {
		pod := &corev1.Pod{}
		pod.Namespace, pod.Name = "shop", "web"
		_, err := cri.ContainerConfig(pod, &corev1.Container{Name: "c", SecurityContext: sc},
			cri.ContainerOptions{Node: cri.NodeFacts{SeccompRoot: "/seccomp"}})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "configure container shop/web/c: ") {
			t.Errorf("got %v; want %q", err, want)
		}
	}
}
