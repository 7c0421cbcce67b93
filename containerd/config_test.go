package containerd

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the goldens anew")

func TestRender(t *testing.T) {
	plain := Config{
		Root: "/var/lib/pinnace/containerd", Run: "/run/pinnace/containerd",
		CNIBin: "/var/lib/pinnace/cni/bin", CNIConf: "/var/lib/pinnace/cni/net.d",
		SandboxImage: "localhost/pinnace/pause:1",
	}
	odd := plain
	odd.Root, odd.SystemdCgroup, odd.RestrictOOM = `/srv/a "b" \c`, true, true
	for name, s := range map[string]settings{
		"1.6":           {plain, version{1, 6}, "overlayfs"},
		"1.7-odd":       {odd, version{1, 7}, "native"},
		"2.0-odd":       {odd, version{2, 0}, "native"},
		"2.4":           {plain, version{2, 4}, "overlayfs"},
		"3.0-like-next": {plain, version{3, 0}, "overlayfs"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := render(s)
			if err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", "config-"+name+".toml")
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWriteChanged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.toml")
	if err := writeChanged(path, []byte("a")); err != nil {
		t.Fatal(err)
	}
	first, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := writeChanged(path, []byte("a")); err != nil {
		t.Fatal(err)
	}
	if again, err := os.Stat(path); err != nil || !os.SameFile(first, again) {
		t.Errorf("the same text was written again (%v)", err)
	}
	if err := writeChanged(path, []byte("b")); err != nil {
		t.Fatal(err)
	}
	if raw, err := os.ReadFile(path); err != nil || string(raw) != "b" {
		t.Errorf("got %q, %v", raw, err)
	}
}
