package containerd_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"pinnace/containerd"
	"pinnace/testenv/runtime"
)

func has(t *testing.T, r *runtime.Runtime, image string) bool {
	t.Helper()
	resp, err := r.Images.ImageStatus(t.Context(), &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: image}})
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetImage() != nil
}

func remove(t *testing.T, r *runtime.Runtime, image string) {
	t.Helper()
	if _, err := r.Images.RemoveImage(t.Context(), &runtimeapi.RemoveImageRequest{Image: &runtimeapi.ImageSpec{Image: image}}); err != nil {
		t.Fatal(err)
	}
}

// copyArchive puts one of the test images into dir under a name.
func copyArchive(t *testing.T, dir, name, as string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(runtime.Archives(t), name))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, as)
	if err := os.WriteFile(path, raw, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoadOnce(t *testing.T) {
	r := runtime.Start(t)
	dir, record := t.TempDir(), filepath.Join(r.Dir, "once.json")
	file := copyArchive(t, dir, "busybox.tar", "busybox.tar")
	load := func() []string {
		t.Helper()
		names, err := containerd.Load(t.Context(), r.Endpoint, dir, record)
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	if got := load(); !slices.Equal(got, []string{runtime.Busybox}) {
		t.Errorf("loaded %q", got)
	}
	first, err := os.Stat(record)
	if err != nil {
		t.Fatal(err)
	}

	// Unreadable content under the same size and time shows whether it is read.
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, make([]byte, info.Size()), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(file, time.Time{}, info.ModTime()); err != nil {
		t.Fatal(err)
	}
	if got := load(); !slices.Equal(got, []string{runtime.Busybox}) {
		t.Errorf("unchanged: loaded %q", got)
	}
	if again, err := os.Stat(record); err != nil || !os.SameFile(first, again) {
		t.Errorf("the record was written although nothing changed (%v)", err)
	}

	remove(t, r, runtime.Busybox)
	if _, err := containerd.Load(t.Context(), r.Endpoint, dir, record); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("the image is gone, the file unreadable: %v", err)
	}
	if err := os.WriteFile(file, whole, 0o644); err != nil {
		t.Fatal(err)
	}
	load()
	if !has(t, r, runtime.Busybox) {
		t.Error("the removed image was not loaded again")
	}
}

// Bad files leave nothing and do not keep the good one out.
func TestLoadBadFiles(t *testing.T) {
	r := runtime.Start(t)
	dir := t.TempDir()
	remove(t, r, runtime.Busybox)
	remove(t, r, runtime.Demo)
	copyArchive(t, dir, "demo.tar", "z-good.tar")
	cut := copyArchive(t, dir, "busybox.tar", "cut.tar")
	if err := os.Truncate(cut, 700_000); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "garbage.tar.gz"), []byte("\x1f\x8bgarbage"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "notes.txt"), []byte("not an image"), 0o644); err != nil {
		t.Fatal(err)
	}
	names, err := containerd.Load(t.Context(), r.Endpoint, dir, filepath.Join(r.Dir, "bad.json"))
	if !slices.Equal(names, []string{runtime.Demo}) || !has(t, r, runtime.Demo) {
		t.Errorf("loaded %q", names)
	}
	if err == nil || !strings.Contains(err.Error(), "cut.tar") || !strings.Contains(err.Error(), "garbage.tar.gz") || strings.Contains(err.Error(), "notes") {
		t.Errorf("error: %v", err)
	}
	if has(t, r, runtime.Busybox) {
		t.Error("the cut file left its image")
	}
}

// An OCI layout with a spoilt layer fails while it is written: the store's
// digest check is the judge. The whole one keeps its digest, and its content
// outlives a round of the garbage collector.
func TestLoadLayout(t *testing.T) {
	r := runtime.Start(t)
	remove(t, r, runtime.Busybox)
	remove(t, r, runtime.Demo) // has the same layer
	collect(t, r)
	img, err := tarball.ImageFromPath(filepath.Join(runtime.Archives(t), "busybox.tar"), nil)
	if err != nil {
		t.Fatal(err)
	}
	tree := t.TempDir()
	l, err := layout.Write(tree, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.AppendImage(img, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "ships/layout:1"})); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "layout.tgz")
	pack := func() {
		t.Helper()
		run(t, "tar", "-C", tree, "-czf", file, ".")
	}
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	d, err := layers[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	blob := filepath.Join(tree, "blobs", "sha256", d.Hex)
	whole, err := os.ReadFile(blob)
	if err != nil {
		t.Fatal(err)
	}
	spoilt := slices.Clone(whole)
	spoilt[len(spoilt)/2] ^= 1
	if err := os.WriteFile(blob, spoilt, 0o644); err != nil {
		t.Fatal(err)
	}
	pack()
	record := filepath.Join(r.Dir, "layout.json")
	if _, err := containerd.Load(t.Context(), r.Endpoint, dir, record); err == nil || !strings.Contains(err.Error(), d.Hex) {
		t.Errorf("spoilt layer: %v", err)
	}
	const name = "docker.io/ships/layout:1"
	if has(t, r, name) {
		t.Error("the spoilt layout left its image")
	}

	if err := os.WriteFile(blob, whole, 0o644); err != nil {
		t.Fatal(err)
	}
	pack()
	names, err := containerd.Load(t.Context(), r.Endpoint, dir, record)
	if err != nil || !slices.Equal(names, []string{name}) {
		t.Fatalf("loaded %q, %v", names, err)
	}
	collect(t, r)
	pod := r.RunPod(t, "layout", "ships/layout:1", "sleep", "1000")
	if r.PID(t, pod.Container) == 0 {
		t.Error("a container of the layout does not run")
	}
}
