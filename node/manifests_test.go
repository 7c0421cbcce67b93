package node

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pinnace/agent/manifest"
	"pinnace/agent/record"
)

// follower is a house with a manifest directory and a record, and no agent.
type follower struct {
	*house
	t   *testing.T
	dir string
}

func follow(t *testing.T) *follower {
	dir := filepath.Join(t.TempDir(), "manifests")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	store, err := record.Open(filepath.Join(t.TempDir(), "records"), time.Now, log)
	if err != nil {
		t.Fatal(err)
	}
	h := &house{cfg: &Config{NodeName: "n", Manifests: dir}, log: log, store: store}
	h.dir = manifest.Open(dir, checker("n"), log)
	return &follower{h, t, dir}
}

func (f *follower) write(name, text string) {
	f.t.Helper()
	if err := os.WriteFile(filepath.Join(f.dir, name), []byte(text), 0o644); err != nil {
		f.t.Fatal(err)
	}
}

// look applies the directory as it is and returns the pods that are wanted,
// by name, with their first container's image.
func (f *follower) look() map[string]string {
	f.t.Helper()
	if err := f.record(manifest.Resolve(f.dirNow(), f.store.Owner)); err != nil {
		f.t.Fatal(err)
	}
	pods := map[string]string{}
	for _, p := range f.store.List() {
		if p.DeletionTimestamp == nil {
			pods[p.Name] = p.Spec.Containers[0].Image
		}
	}
	return pods
}

func (f *follower) dirNow() manifest.Snapshot {
	// A directory of its own each time: nothing is cached between two looks.
	return manifest.Open(f.dir, checker("n"), f.log).Read()
}

func podText(name, image string) string {
	return "apiVersion: v1\nkind: Pod\nmetadata: {name: " + name + "}\nspec:\n  containers:\n  - {name: c, image: \"" + image + "\"}\n"
}

func TestManifestsKeepTheLastGoodState(t *testing.T) {
	f := follow(t)
	f.write("a.yaml", podText("a", "one")+"---\n"+podText("b", "one"))
	if got := f.look(); len(got) != 2 || got["a"] != "one" {
		t.Fatalf("at first: %v", got)
	}
	uid := f.store.List()[0].UID
	f.write("a.yaml", podText("a", "two")+"---\n"+strings.Replace(podText("b", "two"), "image", "imagee", 1))
	if got := f.look(); len(got) != 2 || got["a"] != "one" || f.store.List()[0].UID != uid {
		t.Errorf("after a broken edit: %v", got)
	}
	r := f.report()
	if len(r.Manifests) != 1 || r.Manifests[0].Accepted || r.Manifests[0].Problems[0].Line != 13 {
		t.Errorf("verdict: %+v", r.Manifests)
	}
	f.write("a.yaml", podText("a", "one"))
	if got := f.look(); len(got) != 1 || got["a"] != "one" {
		t.Errorf("after the document went: %v", got)
	}
	f.write("b.yaml", podText("a", "three"))
	if got := f.look(); got["a"] != "one" {
		t.Errorf("a second file took the pod over: %v", got)
	}
	if r := f.report(); r.Manifests[1].Accepted || !strings.Contains(r.Manifests[1].Problems[0].Reason, "a.yaml") {
		t.Errorf("verdict on the duplicate: %+v", r.Manifests[1])
	}
}

func TestMissingDirectoryEndsNothing(t *testing.T) {
	f := follow(t)
	f.write("a.yaml", podText("a", "one"))
	f.look()
	if err := os.Rename(f.dir, f.dir+".away"); err != nil {
		t.Fatal(err)
	}
	if got := f.look(); len(got) != 1 {
		t.Errorf("with the directory gone: %v", got)
	}
	if r := f.report(); !strings.Contains(r.Note, "no such file") {
		t.Errorf("note: %q", r.Note)
	}
	if err := os.Rename(f.dir+".away", f.dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(f.dir, "a.yaml")); err != nil {
		t.Fatal(err)
	}
	if got := f.look(); len(got) != 0 {
		t.Errorf("with the file gone: %v", got)
	}
}

func TestFullDiskDelaysAnEdit(t *testing.T) {
	f := follow(t)
	blocked := filepath.Join(t.TempDir(), "records")
	store, err := record.Open(blocked, time.Now, f.log)
	if err != nil {
		t.Fatal(err)
	}
	f.store = store
	if err := os.RemoveAll(blocked); err != nil { // no folder to write to
		t.Fatal(err)
	}
	f.write("a.yaml", podText("a", "one"))
	if err := f.record(manifest.Resolve(f.dirNow(), f.store.Owner)); err == nil {
		t.Fatal("recorded without a folder")
	}
	if pods := f.store.List(); len(pods) != 0 {
		t.Errorf("wanted but not recorded: %v", pods[0].Name)
	}
	if err := os.Mkdir(blocked, 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	f.apply(ctx, f.dirNow())
	if pods := f.store.List(); len(pods) != 1 {
		t.Errorf("after the disk came back: %v", pods)
	}
}
