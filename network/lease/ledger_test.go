package lease

import (
	"bytes"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

func TestLedger(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "leases")
	g := NewLedger(dir, "boot-1")
	if got, err := g.Load(slog.New(slog.DiscardHandler)); err != nil || got != nil {
		t.Fatalf("an absent folder holds %v, %v", got, err)
	}
	want := []Lease{
		{"a", []netip.Addr{netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("fd00::2")}, 1, 0, "/run/netns/a"},
		{"b", []netip.Addr{netip.MustParseAddr("10.0.0.3")}, 2, 3, ""},
	}
	for _, l := range want {
		if err := g.Save(l); err != nil {
			t.Fatal(err)
		}
	}
	if err := NewLedger(dir, "boot-0").Save(Lease{Sandbox: "old", Addresses: want[0].Addresses, Since: 1}); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		".new-c": `{"boot":"boot-1","addresses":["10.0.0.9"],"since":1}`,
		"torn":   `{"boot":"boot-1","addre`,
		"empty":  "",
		"none":   `{"boot":"boot-1","addresses":[],"since":1}`,
		"blank":  `{"boot":"boot-1","addresses":[""],"since":1}`,
		"minus":  `{"boot":"boot-1","addresses":["10.0.0.9"],"since":-1}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var log bytes.Buffer
	got, err := g.Load(slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("loaded %v, %v, want %v", got, err, want)
	}
	if n := bytes.Count(log.Bytes(), []byte("dropped lease")); n != 7 {
		t.Errorf("told of %d dropped files, want 7:\n%s", n, &log)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 2 {
		t.Errorf("left %v, %v, want the two leases", left, err)
	}
	for range 2 {
		if err := g.Drop("a"); err != nil {
			t.Error(err)
		}
	}
	if got, err := g.Load(slog.New(slog.DiscardHandler)); err != nil || len(got) != 1 || got[0].Sandbox != "b" {
		t.Errorf("after the drop: %v, %v", got, err)
	}
}

// TestSaveFailure leaves the old file whole when the new one cannot be
// written.
func TestSaveFailure(t *testing.T) {
	dir := t.TempDir()
	g := NewLedger(dir, "boot")
	l := Lease{Sandbox: "a", Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.2")}, Since: 1}
	if err := g.Save(l); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, ".new-a"), 0o700); err != nil {
		t.Fatal(err)
	}
	changed := l
	changed.Released = 9
	if err := g.Save(changed); err == nil {
		t.Error("saved through a folder")
	}
	if got, err := g.Load(slog.New(slog.DiscardHandler)); err != nil || !reflect.DeepEqual(got, []Lease{l}) {
		t.Errorf("loaded %v, %v, want %v", got, err, l)
	}
}

func FuzzLedger(f *testing.F) {
	f.Add([]byte(`{"boot":"b","addresses":["10.0.0.2","fd00::2"],"since":1,"released":2,"netns":"/x"}`))
	f.Add([]byte(`{"boot":"b","addresses":["10.0.0.300"]}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		l, err := NewLedger("", "b").parse("s", raw)
		if err != nil {
			return
		}
		// Whatever was read can stand in a table and be given back.
		table := NewTable(prefixes("10.0.0.0/29", "fd00::/64"), []Lease{l})
		for _, a := range l.Addresses {
			if _, held := table.Holder(a); held != l.Held() {
				t.Errorf("%s held: %v, want %v", a, held, l.Held())
			}
		}
		table.Release("s", hour)
		if got, _, err := table.Take("t", "", hour); err != nil || len(got.Addresses) != 2 {
			t.Errorf("after lease %v: %v, %v", l, got, err)
		}
	})
}
