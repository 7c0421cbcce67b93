package volume

import (
	"os"
	"path/filepath"
	"testing"
)

func TestFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "folder")
	put := func(text string, mode os.FileMode) os.FileInfo {
		t.Helper()
		path, err := File(dir, "etc-hosts", []byte(text), mode)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != text {
			t.Fatalf("file holds %q, %v; want %q", got, err, text)
		}
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if st.Mode().Perm() != mode {
			t.Fatalf("mode %v, want %v", st.Mode(), mode)
		}
		return st
	}
	first := put("a longer first text", 0o666) // more than a usual umask leaves
	old := first.ModTime().Add(-1e9)
	if err := os.Chtimes(filepath.Join(dir, "etc-hosts"), old, old); err != nil {
		t.Fatal(err)
	}
	if again := put("a longer first text", 0o666); !again.ModTime().Equal(old) {
		t.Error("the same text was written again")
	}
	for _, text := range []string{"shorter", "longer than all the texts before it", ""} {
		if next := put(text, 0o644); !os.SameFile(first, next) {
			t.Error("the file is another one: who has it mounted sees the old one")
		}
	}
	if list, _ := os.ReadDir(dir); len(list) != 1 {
		t.Errorf("folder holds %v", list)
	}
}

func TestFileErrors(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "plain"), "")
	_, err := File(filepath.Join(dir, "plain"), "x", nil, 0o644)
	wantError(t, err, "write file", "plain", "not a directory")
}
