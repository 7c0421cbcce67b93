package volume

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/testing/protocmp"
	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func container(mounts ...corev1.VolumeMount) *corev1.Container {
	return &corev1.Container{Name: "c", VolumeMounts: mounts}
}

func same(s string) string { return s }

func TestMountsOfWholeVolumes(t *testing.T) {
	both, up, none := corev1.MountPropagationBidirectional, corev1.MountPropagationHostToContainer, corev1.MountPropagationNone
	rro := corev1.RecursiveReadOnlyEnabled
	pod := podWith(empty("e", "", ""), onHost("h", "/srv", ""))
	host := map[string]string{"e": "/pods/e", "h": "/srv"}
	got, err := (Set{Dir: "/pods", Host: host}).Mounts(pod, container(
		corev1.VolumeMount{Name: "e", MountPath: "/e", ReadOnly: true},
		corev1.VolumeMount{Name: "h", MountPath: "h", MountPropagation: &both},
		corev1.VolumeMount{Name: "h", MountPath: "/up", MountPropagation: &up},
		corev1.VolumeMount{Name: "h", MountPath: "/rro", MountPropagation: &none, ReadOnly: true, RecursiveReadOnly: &rro},
	), same)
	if err != nil {
		t.Fatal(err)
	}
	want := []*runtimeapi.Mount{
		{HostPath: "/pods/e", ContainerPath: "/e", Readonly: true, SelinuxRelabel: true},
		{HostPath: "/srv", ContainerPath: "/h", Propagation: runtimeapi.MountPropagation_PROPAGATION_BIDIRECTIONAL},
		{HostPath: "/srv", ContainerPath: "/up", Propagation: runtimeapi.MountPropagation_PROPAGATION_HOST_TO_CONTAINER},
		{HostPath: "/srv", ContainerPath: "/rro", Readonly: true, RecursiveReadOnly: true},
	}
	if d := cmp.Diff(want, got, protocmp.Transform()); d != "" {
		t.Error(d)
	}
}

func TestMountsRefused(t *testing.T) {
	needRoot(t)
	rro := corev1.RecursiveReadOnlyEnabled
	odd := corev1.MountPropagationMode("Sideways")
	dir := t.TempDir()
	for _, c := range []struct {
		m    corev1.VolumeMount
		want string
	}{
		{corev1.VolumeMount{Name: "other"}, "no such volume"},
		{corev1.VolumeMount{Name: "v", SubPath: "/etc"}, "must be relative"},
		{corev1.VolumeMount{Name: "v", SubPath: "a/../../b"}, "must not contain '..'"},
		{corev1.VolumeMount{Name: "v", SubPathExpr: "$(NOPE)/x"}, "names a variable"},
		{corev1.VolumeMount{Name: "v", RecursiveReadOnly: &rro}, "needs readOnly"},
		{corev1.VolumeMount{Name: "v", MountPropagation: &odd}, "Sideways"},
	} {
		_, err := (Set{Dir: dir, Host: map[string]string{"v": dir}}).Mounts(podWith(), container(c.m), same)
		wantError(t, err, fmt.Sprintf("%q", c.m.Name), `container "c"`, c.want)
	}
}

func TestSubPath(t *testing.T) {
	dir := sharedDir(t)
	group := int64(4711)
	pod := podWith(empty("v", "", ""))
	pod.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: &group}
	host := prepare(t, dir, pod)
	write(t, filepath.Join(host["v"], "conf/app.ini"), "x=1")
	c := container(
		corev1.VolumeMount{Name: "v", MountPath: "/a", SubPath: "conf/app.ini"},
		corev1.VolumeMount{Name: "v", MountPath: "/b", SubPathExpr: "logs/$(POD)"},
		corev1.VolumeMount{Name: "v", MountPath: "/c"},
	)
	mounts := func() []*runtimeapi.Mount {
		t.Helper()
		got, err := (Set{Dir: dir, Host: host}).Mounts(pod, c, func(s string) string { return strings.ReplaceAll(s, "$(POD)", "web") })
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	got := mounts()
	if text, err := os.ReadFile(got[0].HostPath); err != nil || string(text) != "x=1" {
		t.Errorf("the file's mount: %q, %v", text, err)
	}
	made := stat(t, filepath.Join(host["v"], "logs/web"))
	if made.Gid != uint32(group) || made.Mode&0o7777 != 0o2777 {
		t.Errorf("created sub-path: gid %d mode %o, want those of the volume", made.Gid, made.Mode&0o7777)
	}
	if st := stat(t, got[1].HostPath); st.Ino != made.Ino {
		t.Error("the mount is not the sub-path that was made")
	}
	if got[2].HostPath != host["v"] {
		t.Errorf("without sub-path: %s", got[2].HostPath)
	}

	// A restarted container finds the same mounts, not one more of each.
	before := mountsBelow(t, dir)
	mounts()
	if d := cmp.Diff(before, mountsBelow(t, dir)); d != "" {
		t.Error(d)
	}
	// A file that was replaced by another is mounted anew.
	write(t, filepath.Join(host["v"], "conf/new"), "x=2")
	if err := os.Rename(filepath.Join(host["v"], "conf/new"), filepath.Join(host["v"], "conf/app.ini")); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(mounts()[0].HostPath); err != nil || string(text) != "x=2" {
		t.Errorf("after the file was replaced: %q, %v", text, err)
	}
	if d := cmp.Diff(before, mountsBelow(t, dir)); d != "" {
		t.Error(d)
	}
}

// TestSubPathStaysInside: links that lead out of the volume lead to its root
// instead, and creation goes no further either.
func TestSubPathStaysInside(t *testing.T) {
	dir := sharedDir(t)
	secret := filepath.Join(dir, "secret")
	write(t, filepath.Join(secret, "key"), "secret")
	pod := podWith(empty("v", "", ""))
	host := prepare(t, filepath.Join(dir, "pod"), pod)
	for name, to := range map[string]string{"abs": secret, "rel": "../../../secret", "dots": "../../../../../../../.."} {
		if err := os.Symlink(to, filepath.Join(host["v"], name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, sub := range []string{"abs", "rel", "abs/key", "rel/key", "abs/new/dir", "rel/new/dir", "dots" + secret + "/key"} {
		got, err := (Set{Dir: filepath.Join(dir, "pod"), Host: host}).Mounts(pod, container(corev1.VolumeMount{Name: "v", SubPath: sub}), same)
		if err != nil {
			continue // refused is safe
		}
		if st := stat(t, got[0].HostPath); st.Ino == stat(t, secret).Ino || st.Ino == stat(t, filepath.Join(secret, "key")).Ino {
			t.Errorf("subPath %s got out of the volume", sub)
		}
	}
	if list, _ := os.ReadDir(secret); len(list) != 1 {
		t.Errorf("the folder outside holds %v", list)
	}
	if err := Teardown(context.Background(), filepath.Join(dir, "pod")); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(secret, "key")); string(text) != "secret" {
		t.Errorf("the file outside: %q, %v", text, err)
	}
}

// TestSubPathRace swaps a directory for a link to the outside, over and
// over, while mounts are made.
func TestSubPathRace(t *testing.T) {
	dir := sharedDir(t)
	secret := filepath.Join(dir, "secret")
	write(t, filepath.Join(secret, "x/key"), "secret")
	pod := podWith(empty("v", "", ""))
	podDir := filepath.Join(dir, "pod")
	host := prepare(t, podDir, pod)
	good, evil := filepath.Join(host["v"], "good"), filepath.Join(host["v"], "evil")
	write(t, filepath.Join(good, "x/own"), "")
	if err := os.Symlink(secret, evil); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var swapper sync.WaitGroup
	swapper.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				unix.Renameat2(unix.AT_FDCWD, good, unix.AT_FDCWD, evil, unix.RENAME_EXCHANGE)
			}
		}
	})
	outside := []uint64{stat(t, secret).Ino, stat(t, filepath.Join(secret, "x")).Ino}
	succeeded := 0
	for range 300 {
		got, err := (Set{Dir: podDir, Host: host}).Mounts(pod, container(corev1.VolumeMount{Name: "v", SubPath: "good/x"}), same)
		if err != nil {
			continue
		}
		succeeded++
		if slices.Contains(outside, stat(t, got[0].HostPath).Ino) {
			t.Fatal("a mount leads out of the volume")
		}
	}
	close(done)
	swapper.Wait()
	if succeeded == 0 {
		t.Error("no mount succeeded: the race was not run")
	}
}
