package volume

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func podWith(volumes ...corev1.Volume) *corev1.Pod {
	return &corev1.Pod{Spec: corev1.PodSpec{Volumes: volumes, Containers: []corev1.Container{{Name: "c"}}}}
}

func empty(name string, medium corev1.StorageMedium, size string) corev1.Volume {
	src := &corev1.EmptyDirVolumeSource{Medium: medium}
	if size != "" {
		q := resource.MustParse(size)
		src.SizeLimit = &q
	}
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{EmptyDir: src}}
}

func onHost(name, path string, typ corev1.HostPathType) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
		HostPath: &corev1.HostPathVolumeSource{Path: path, Type: &typ}}}
}

func prepare(t *testing.T, dir string, pod *corev1.Pod) map[string]string {
	t.Helper()
	set, err := Prepare(context.Background(), dir, pod)
	if err != nil {
		t.Fatal(err)
	}
	return set.Host
}

func stat(t *testing.T, path string) unix.Stat_t {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatalf("stat %s: %v", path, err)
	}
	return st
}

func TestEmptyDir(t *testing.T) {
	dir := sharedDir(t)
	group := int64(4711)
	for _, medium := range []corev1.StorageMedium{corev1.StorageMediumDefault, corev1.StorageMediumMemory} {
		for _, fsGroup := range []*int64{nil, &group} {
			pod := podWith(empty("data", medium, "1Mi"))
			wantMode, wantGid := uint32(0o777), uint32(0)
			if fsGroup != nil {
				pod.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: fsGroup}
				wantMode, wantGid = 0o2777, uint32(group)
			}
			podDir := filepath.Join(dir, "pod")
			at := prepare(t, podDir, pod)["data"]
			if want := filepath.Join(podDir, "volumes", "data"); at != want {
				t.Fatalf("volume at %s, want %s", at, want)
			}
			if st := stat(t, at); st.Mode&0o7777 != wantMode || st.Gid != wantGid {
				t.Errorf("medium %q: mode %o gid %d, want %o and %d", medium, st.Mode&0o7777, st.Gid, wantMode, wantGid)
			}
			// What the pod made of it stays, through any number of calls.
			write(t, filepath.Join(at, "file"), "kept")
			if err := os.Chmod(at, 0o700); err != nil {
				t.Fatal(err)
			}
			before := len(mountsBelow(t, podDir))
			prepare(t, podDir, pod)
			if st := stat(t, at); st.Mode&0o777 != 0o700 || !exists(filepath.Join(at, "file")) {
				t.Errorf("medium %q: the second call changed the volume", medium)
			}
			if after := len(mountsBelow(t, podDir)); after != before {
				t.Errorf("medium %q: %d mounts after the second call, %d before", medium, after, before)
			}
			if err := Teardown(context.Background(), podDir); err != nil || exists(podDir) {
				t.Fatalf("Teardown: %v, folder exists: %t", err, exists(podDir))
			}
		}
	}
}

func TestEmptyDirAfterCrash(t *testing.T) {
	dir := sharedDir(t)
	// Died between mkdir and chmod.
	if err := os.MkdirAll(filepath.Join(dir, "volumes", ".data"), 0o700); err != nil {
		t.Fatal(err)
	}
	at := prepare(t, dir, podWith(empty("data", "", "")))["data"]
	if st := stat(t, at); st.Mode&0o7777 != 0o777 {
		t.Errorf("mode %o, want 777", st.Mode&0o7777)
	}
	if exists(filepath.Join(dir, "volumes", ".data")) {
		t.Error("the draft is still there")
	}
}

func TestMemorySize(t *testing.T) {
	limited := func(init, main string) *corev1.Pod {
		pod := podWith()
		set := func(c *corev1.Container, q string) {
			if q != "" {
				c.Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(q)}
			}
		}
		set(&pod.Spec.Containers[0], main)
		if init != "" {
			pod.Spec.InitContainers = []corev1.Container{{Name: "i"}}
			set(&pod.Spec.InitContainers[0], init)
		}
		return pod
	}
	for _, c := range []struct {
		name string
		pod  *corev1.Pod
		size string
		want int64
	}{
		{"nothing given", limited("", ""), "", 0},
		{"own limit alone", limited("", ""), "8Mi", 8 << 20},
		{"pod's alone", limited("", "64Mi"), "", 64 << 20},
		{"own is less", limited("", "64Mi"), "8Mi", 8 << 20},
		{"pod's is less", limited("", "4Mi"), "8Mi", 4 << 20},
		{"the larger of init and main", limited("128Mi", "64Mi"), "", 128 << 20},
		{"a container without limit frees the pod", func() *corev1.Pod {
			p := limited("", "4Mi")
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "d"})
			return p
		}(), "8Mi", 8 << 20},
		{"zero is no limit", limited("", ""), "0", 0},
	} {
		if got := memoryLimit(c.pod, empty("v", "Memory", c.size).EmptyDir); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}

	dir := sharedDir(t)
	at := prepare(t, dir, podWith(empty("v", corev1.StorageMediumMemory, "1Mi")))["v"]
	var st unix.Statfs_t
	if err := unix.Statfs(at, &st); err != nil {
		t.Fatal(err)
	}
	if got := int64(st.Blocks) * st.Bsize; got != 1<<20 {
		t.Errorf("tmpfs of %d bytes, want 1 MiB", got)
	}
}

func TestDiskFull(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "nr_inodes=4"); err != nil { // its root, and three more
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	write(t, filepath.Join(dir, "filler"), "")
	pod := podWith(empty("first", "", ""), empty("cache", "", ""))
	_, err := Prepare(context.Background(), dir, pod)
	wantError(t, err, `volume "cache"`, "no space left on device")

	if err := os.Remove(filepath.Join(dir, "filler")); err != nil {
		t.Fatal(err)
	}
	if host := prepare(t, dir, pod); len(host) != 2 || !exists(host["cache"]) {
		t.Errorf("when space is back: %v", host)
	}
}

func TestHostPath(t *testing.T) {
	dir := t.TempDir()
	file, sub, gone := filepath.Join(dir, "file"), filepath.Join(dir, "sub"), filepath.Join(dir, "gone")
	write(t, file, "")
	if err := os.Mkdir(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	sock := l.Addr().String()

	for _, c := range []struct {
		path string
		typ  corev1.HostPathType
		want []string // words of the error, none for success
	}{
		{gone, corev1.HostPathUnset, nil},
		{sub, corev1.HostPathDirectory, nil},
		{file, corev1.HostPathFile, nil},
		{link, corev1.HostPathFile, nil},
		{sock, corev1.HostPathSocket, nil},
		{"/dev/null", corev1.HostPathCharDev, nil},
		{sub, corev1.HostPathDirectoryOrCreate, nil},
		{file, corev1.HostPathFileOrCreate, nil},
		{filepath.Join(dir, "new/deep"), corev1.HostPathDirectoryOrCreate, nil},
		{filepath.Join(dir, "newfile"), corev1.HostPathFileOrCreate, nil},
		{gone, corev1.HostPathDirectory, []string{`volume "v"`, gone, "not a directory", "does not exist"}},
		{gone, corev1.HostPathFile, []string{gone, "not a file", "does not exist"}},
		{file, corev1.HostPathDirectory, []string{file, "not a directory", "is a file"}},
		{file, corev1.HostPathDirectoryOrCreate, []string{"not a directory", "is a file"}},
		{sub, corev1.HostPathFileOrCreate, []string{"not a file", "is a directory"}},
		{file, corev1.HostPathSocket, []string{"not a socket", "is a file"}},
		{"/dev/null", corev1.HostPathBlockDev, []string{"not a block device", "is a character device"}},
		{sock, corev1.HostPathCharDev, []string{"not a character device", "is a socket"}},
		{filepath.Join(gone, "f"), corev1.HostPathFileOrCreate, []string{"parent directory does not exist"}},
		{file, "Nonsense", []string{"Nonsense"}},
	} {
		set, err := Prepare(context.Background(), dir, podWith(onHost("v", c.path, c.typ)))
		if c.want != nil {
			wantError(t, err, c.want...)
			continue
		}
		if err != nil || set.Host["v"] != c.path {
			t.Errorf("%s as %q: %v, %v", c.path, c.typ, set, err)
		}
	}
	for path, dir := range map[string]bool{filepath.Join(dir, "new/deep"): true, filepath.Join(dir, "newfile"): false} {
		if st, err := os.Stat(path); err != nil || st.IsDir() != dir {
			t.Errorf("%s was not created: %v", path, err)
		}
	}
	if exists(gone) {
		t.Error("a path of no type was created")
	}
}

func TestUnknownKinds(t *testing.T) {
	_, err := Prepare(context.Background(), t.TempDir(), podWith(empty("huge", "HugePages", "")))
	wantError(t, err, `volume "huge"`, "HugePages", "not supported")
	_, err = Prepare(context.Background(), t.TempDir(), podWith(corev1.Volume{Name: "n"}))
	wantError(t, err, `volume "n"`, "not supported")
}
