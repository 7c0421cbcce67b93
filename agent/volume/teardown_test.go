package volume

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

func teardown(t *testing.T, dir string) {
	t.Helper()
	if err := Teardown(context.Background(), dir); err != nil {
		t.Fatal(err)
	}
	if exists(dir) || len(mountsBelow(t, dir)) > 0 {
		t.Fatalf("left: folder %t, mounts %v", exists(dir), mountsBelow(t, dir))
	}
}

func TestTeardownIsIdempotent(t *testing.T) {
	dir := filepath.Join(sharedDir(t), "pod")
	teardown(t, dir)
	prepare(t, dir, podWith(empty("m", "Memory", ""), empty("d", "", "")))
	teardown(t, dir)
	teardown(t, dir)
}

// TestTeardownSparesTheHost: what a pod saw of the host by mounts is there
// afterwards, with everything mounted in it.
func TestTeardownSparesTheHost(t *testing.T) {
	both := corev1.MountPropagationBidirectional
	down := corev1.MountPropagationHostToContainer
	for _, prop := range []*corev1.MountPropagationMode{nil, &down, &both} {
		root := sharedDir(t)
		dir, srv := filepath.Join(root, "pod"), filepath.Join(root, "srv")
		write(t, filepath.Join(srv, "sub/file"), "host's")
		pod := podWith(onHost("h", srv, ""))
		host := prepare(t, dir, pod)
		_, err := (Set{Dir: dir, Host: host}).Mounts(pod, container(corev1.VolumeMount{Name: "h", SubPath: "sub", MountPropagation: prop}), same)
		if err != nil {
			t.Fatal(err)
		}
		// The host mounts something there while the pod runs.
		disk := filepath.Join(srv, "sub/disk")
		if err := os.Mkdir(disk, 0o755); err != nil {
			t.Fatal(err)
		}
		mustMount(t, "tmpfs", disk, "tmpfs", 0)
		write(t, filepath.Join(disk, "data"), "precious")

		teardown(t, dir)
		if !slices.Contains(mountsBelow(t, root), disk) {
			t.Errorf("propagation %v: the host's mount is gone", prop)
		}
		for _, f := range []string{filepath.Join(srv, "sub/file"), filepath.Join(disk, "data")} {
			if !exists(f) {
				t.Errorf("propagation %v: %s is gone", prop, f)
			}
		}
	}
}

// TestTeardownOfPodsMounts: a privileged pod may leave mounts in its volume,
// on top of each other and with files open.
func TestTeardownOfPodsMounts(t *testing.T) {
	dir := filepath.Join(sharedDir(t), "pod")
	at := prepare(t, dir, podWith(empty("v", "", "")))["v"]
	for _, p := range []string{"a", "a/b", "a/b"} {
		if err := os.MkdirAll(filepath.Join(at, p), 0o755); err != nil {
			t.Fatal(err)
		}
		mustMount(t, "tmpfs", filepath.Join(at, p), "tmpfs", 0)
	}
	open, err := os.Create(filepath.Join(at, "a/b/busy"))
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	teardown(t, dir)
}

func TestTeardownInterrupted(t *testing.T) {
	dir := filepath.Join(sharedDir(t), "pod")
	at := prepare(t, dir, podWith(empty("v", "Memory", "")))["v"]
	open, err := os.Create(filepath.Join(at, "busy"))
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := Teardown(ctx, dir); !errors.Is(err, context.Canceled) || !errors.Is(err, unix.EBUSY) {
		t.Errorf("error %v, want that it was busy and canceled", err)
	}
	if !exists(filepath.Join(at, "busy")) {
		t.Error("removed what is still mounted")
	}
	open.Close()
	teardown(t, dir)
}

// TestRemoveStopsAtMounts: bind mounts of the same file system have the same
// device number; what lies behind them must stay all the same.
func TestRemoveStopsAtMounts(t *testing.T) {
	root := sharedDir(t)
	dir, srv := filepath.Join(root, "pod"), filepath.Join(root, "srv")
	write(t, filepath.Join(srv, "file"), "precious")
	if err := os.MkdirAll(filepath.Join(dir, "x/m"), 0o755); err != nil {
		t.Fatal(err)
	}
	mustMount(t, srv, filepath.Join(dir, "x/m"), "", unix.MS_BIND)
	wantError(t, remove(dir), filepath.Join(dir, "x/m"), "still mounted")
	if !exists(filepath.Join(srv, "file")) {
		t.Fatal("removed a file behind a mount")
	}
	if err := unix.Unmount(filepath.Join(dir, "x/m"), 0); err != nil {
		t.Fatal(err)
	}
	teardown(t, dir)
}

func TestRemoveDeepTree(t *testing.T) {
	root := sharedDir(t)
	dir := filepath.Join(root, "pod")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, ".deep-1", "taken"), "")
	fd, err := unix.Open(dir, unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	const levels = 1500 // more than fits into a path
	for range levels {
		if err := unix.Mkdirat(fd, "abcd", 0o700); err != nil {
			t.Fatal(err)
		}
		next, err := unix.Openat(fd, "abcd", unix.O_DIRECTORY, 0)
		unix.Close(fd)
		if err != nil {
			t.Fatal(err)
		}
		fd = next
	}
	unix.Close(fd)
	teardown(t, dir)
}

func TestSweep(t *testing.T) {
	root := sharedDir(t)
	pods := filepath.Join(root, "pods")
	none := func(string) bool { return false }
	if err := Sweep(context.Background(), pods, none); err != nil {
		t.Errorf("no folder yet: %v", err)
	}
	for _, uid := range []string{"one", "two", "three"} {
		prepare(t, filepath.Join(pods, uid), podWith(empty("m", "Memory", "")))
	}
	write(t, filepath.Join(pods, "not-a-pod"), "")
	if err := Sweep(context.Background(), pods, func(uid string) bool { return uid == "two" }); err != nil {
		t.Fatal(err)
	}
	var left []string
	list, _ := os.ReadDir(pods)
	for _, e := range list {
		left = append(left, e.Name())
	}
	if got := strings.Join(left, " "); got != "not-a-pod two" {
		t.Errorf("left: %s", got)
	}
	if n := len(mountsBelow(t, pods)); n != 1 {
		t.Errorf("%d mounts left, want the kept pod's", n)
	}
}
