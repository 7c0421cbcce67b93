package manifest

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func manifest(name string) string {
	return "apiVersion: v1\nkind: Pod\nmetadata:\n  name: " + name + "\nspec:\n  containers:\n  - name: app\n    image: demo\n"
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// replace puts a file in place atomically.
func replace(t *testing.T, path, text string) {
	t.Helper()
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	write(t, tmp, text)
	if err := os.Rename(tmp, path); err != nil {
		t.Fatal(err)
	}
}

// seen sums a snapshot up: the pods, each with its file, and the refused files.
func seen(s Snapshot) string {
	if !s.Whole {
		return "not whole"
	}
	var all []string
	for _, f := range s.Files {
		for _, pod := range f.Pods {
			all = append(all, f.Name+"="+pod.Name)
		}
		if len(f.Problems) > 0 {
			all = append(all, f.Name+" refused")
		}
	}
	return strings.Join(all, " ")
}

// running starts Run and returns the snapshots that it hands out.
func running(t *testing.T, d *Directory) <-chan Snapshot {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ch, done := make(chan Snapshot, 1000), make(chan error, 1)
	go func() { done <- d.Run(ctx, func(s Snapshot) { ch <- s }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return ch
}

// await reads snapshots until one looks like want, and returns what came before.
func await(t *testing.T, ch <-chan Snapshot, want string) (before []string) {
	t.Helper()
	late := time.After(10 * time.Second)
	for {
		select {
		case s := <-ch:
			if seen(s) == want {
				return before
			}
			before = append(before, seen(s))
		case <-late:
			t.Fatalf("did not see %q, but %q", want, before)
		}
	}
}

func open(t *testing.T, dir string) *Directory {
	t.Helper()
	return Open(dir, nil, slog.New(slog.DiscardHandler))
}

func TestReadPicksManifests(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a.yaml", "b.yml"} {
		write(t, filepath.Join(dir, name), manifest(name[:1]))
	}
	write(t, filepath.Join(dir, "c.json"), `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"c"},"spec":{"containers":[]}}`)
	for _, name := range []string{".a.yaml.swp", "a.yaml~", "a.yaml.bak", ".hidden.yaml", "README", "#a.yaml#"} {
		write(t, filepath.Join(dir, name), "garbage: [")
	}
	if err := os.Mkdir(filepath.Join(dir, "d.yaml"), 0o755); err != nil {
		t.Fatal(err)
	}
	elsewhere := filepath.Join(t.TempDir(), "real")
	write(t, elsewhere, manifest("e"))
	for link, target := range map[string]string{"e.yaml": elsewhere, "f.yaml": "/nowhere", "g.yaml": t.TempDir()} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, dir).Read()
	if got, want := seen(s), "a.yaml=a b.yml=b c.json=c e.yaml=e f.yaml refused"; got != want {
		t.Errorf("saw %q, want %q", got, want)
	}
	if want := []string{"#a.yaml#", "README", "a.yaml.bak", "a.yaml~"}; !slices.Equal(s.Ignored, want) {
		t.Errorf("ignored %q, want %q", s.Ignored, want)
	}
	if got := s.Files[4].Problems[0].String(); got != "cannot be read: no such file or directory" {
		t.Errorf("dangling link: %q", got)
	}
	if s.Device == "" {
		t.Error("no device")
	}
}

func TestReadParsesOnlyWhatChanged(t *testing.T) {
	dir := t.TempDir()
	var parsed atomic.Int32
	d := Open(dir, func(*corev1.Pod) ([]string, field.ErrorList) { parsed.Add(1); return nil, nil }, slog.New(slog.DiscardHandler))
	old := time.Now().Add(-time.Hour)
	for i := range 20 {
		path := filepath.Join(dir, fmt.Sprintf("p%02d.yaml", i))
		write(t, path, manifest(fmt.Sprintf("p%d", i)))
	}
	// The change time cannot be set back, so wait until it is trusted.
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); {
		d.Read()
		if before := parsed.Load(); d.Read().Whole && parsed.Load() == before {
			break
		}
	}
	before := parsed.Load()
	d.Read()
	if n := parsed.Load() - before; n != 0 {
		t.Errorf("%d unchanged files parsed again", n)
	}
	path := filepath.Join(dir, "p07.yaml")
	write(t, path, manifest("x7"))
	if err := os.Chtimes(path, old, old); err != nil { // same size, older time
		t.Fatal(err)
	}
	if got := seen(d.Read()); !strings.Contains(got, "p07.yaml=x7") {
		t.Errorf("change not seen: %s", got)
	}
	if n := parsed.Load() - before; n != 1 {
		t.Errorf("%d files parsed, want the one that changed", n)
	}
}

func TestMissingDirectoryIsNotWhole(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none")
	s := open(t, dir).Read()
	want := "read directory " + dir + ": no such file or directory: the pods that run go on, none is removed"
	if s.Whole || s.Reason != want {
		t.Errorf("whole %v, reason %q, want %q", s.Whole, s.Reason, want)
	}
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, "")
	if s := open(t, file).Read(); s.Whole || !strings.Contains(s.Reason, "not a directory") {
		t.Errorf("a file: whole %v, reason %q", s.Whole, s.Reason)
	}
}

func TestRunSeesChanges(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a.yaml"), filepath.Join(dir, "b.yaml")
	write(t, a, manifest("one"))
	ch := running(t, open(t, dir))
	await(t, ch, "a.yaml=one")

	write(t, a, manifest("two"))
	await(t, ch, "a.yaml=two")
	replace(t, a, manifest("three"))
	await(t, ch, "a.yaml=three")
	write(t, a, "kind: [")
	await(t, ch, "a.yaml refused")
	write(t, b, manifest("four"))
	await(t, ch, "a.yaml refused b.yaml=four")
	replace(t, a, manifest("five"))
	await(t, ch, "a.yaml=five b.yaml=four")
	if err := os.Remove(a); err != nil {
		t.Fatal(err)
	}
	await(t, ch, "b.yaml=four")
	if err := os.Rename(b, b+".bak"); err != nil {
		t.Fatal(err)
	}
	await(t, ch, "")
}

// TestRunWaitsForTheWriter writes a file in pieces that are manifests on
// their own: only the closed file counts.
func TestRunWaitsForTheWriter(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.yaml")
	write(t, path, manifest("old"))
	ch := running(t, open(t, dir))
	await(t, ch, "a.yaml=old")
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		fmt.Fprintf(f, "---\n%s", manifest(fmt.Sprintf("p%d", i)))
		// Another file's coming makes Run look while this one is open.
		name := fmt.Sprintf("z%d.yaml", i)
		write(t, filepath.Join(dir, name), manifest(name[:2]))
		want := "a.yaml=old"
		for j := range i + 1 {
			want += fmt.Sprintf(" z%d.yaml=z%d", j, j)
		}
		if before := await(t, ch, want); len(before) > 0 {
			t.Fatalf("saw %q", before)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	await(t, ch, "a.yaml=p0 a.yaml=p1 a.yaml=p2 a.yaml=p3 a.yaml=p4 z0.yaml=z0 z1.yaml=z1 z2.yaml=z2 z3.yaml=z3 z4.yaml=z4")
}

// TestRunSeesThroughEditors replaces files as vim and git do, by way of a
// moment without the file: the pod never goes.
func TestRunSeesThroughEditors(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.yaml")
	write(t, path, manifest("v0"))
	ch := running(t, open(t, dir))
	await(t, ch, "a.yaml=v0")
	for i := 1; i <= 10; i++ {
		away := func() error { return os.Remove(path) }
		if i%2 == 0 {
			away = func() error { return os.Rename(path, path+"~") }
		}
		if err := away(); err != nil {
			t.Fatal(err)
		}
		write(t, path, manifest(fmt.Sprintf("v%d", i)))
		for _, s := range await(t, ch, fmt.Sprintf("a.yaml=v%d", i)) {
			if !strings.HasPrefix(s, "a.yaml=") {
				t.Fatalf("edit %d: saw %q on the way", i, s)
			}
		}
	}
}

func TestRunSurvivesTheDirectory(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "etc", "manifests")
	ch := running(t, open(t, dir))
	await(t, ch, "not whole")
	for i := range 3 {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("p%d", i)
		write(t, filepath.Join(dir, "a.yaml"), manifest(name))
		await(t, ch, "a.yaml="+name)
		if err := os.RemoveAll(filepath.Join(root, "etc")); err != nil {
			t.Fatal(err)
		}
		await(t, ch, "not whole")
	}
	other := filepath.Join(root, "etc", "other")
	if err := os.MkdirAll(other, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(other, "b.yaml"), manifest("moved"))
	if err := os.Rename(other, dir); err != nil {
		t.Fatal(err)
	}
	await(t, ch, "b.yaml=moved")
	write(t, filepath.Join(dir, "c.yaml"), manifest("after"))
	await(t, ch, "b.yaml=moved c.yaml=after")
}

func TestRunGathersABurst(t *testing.T) {
	dir := t.TempDir()
	ch := running(t, open(t, dir))
	await(t, ch, "")
	var want []string
	for i := range 200 {
		name := fmt.Sprintf("p%03d", i)
		write(t, filepath.Join(dir, name+".yaml"), manifest(name))
		want = append(want, name+".yaml="+name)
	}
	if n := len(await(t, ch, strings.Join(want, " "))); n > 200 {
		t.Errorf("%d snapshots for 200 files", n)
	}
}

// TestLinkedDirectory swaps a link behind which all files lie, as a ConfigMap
// volume does.
func TestLinkedDirectory(t *testing.T) {
	dir := t.TempDir()
	for _, v := range []string{"v1", "v2"} {
		if err := os.Mkdir(filepath.Join(dir, ".."+v), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, ".."+v, "a.yaml"), manifest(v))
	}
	swap := func(v string) {
		tmp := filepath.Join(dir, "..tmp")
		if err := os.Symlink(".."+v, tmp); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(tmp, filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	swap("v1")
	if err := os.Symlink("..data/a.yaml", filepath.Join(dir, "a.yaml")); err != nil {
		t.Fatal(err)
	}
	ch := running(t, open(t, dir))
	await(t, ch, "a.yaml=v1")
	swap("v2")
	await(t, ch, "a.yaml=v2")
}

func TestWithoutInotify(t *testing.T) {
	w := &watcher{why: "inotify: too many open files"}
	if got, want := w.follow(t.TempDir()), "changes are seen within 30s only: inotify: too many open files"; got != want {
		t.Errorf("note %q, want %q", got, want)
	}
}

// TestOverflowLooks feeds the kernel's word that events were lost.
func TestOverflowLooks(t *testing.T) {
	w := &watcher{inside: mark{wd: 1}}
	raw := make([]byte, unix.SizeofInotifyEvent)
	binary.NativeEndian.PutUint32(raw, ^uint32(0))
	binary.NativeEndian.PutUint32(raw[4:], unix.IN_Q_OVERFLOW)
	batch := w.decode(raw)
	if len(batch) != 1 || !open(t, t.TempDir()).heed(batch, time.Now()) {
		t.Errorf("lost events do not cause a look: %v", batch)
	}
}
