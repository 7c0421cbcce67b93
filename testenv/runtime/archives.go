package runtime

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"syscall"
	"testing"
)

// Archives is a folder with the image files pause.tar, demo.tar and busybox.tar.
// They are packed once and again after their sources changed; PINNACE_TEST_IMAGES
// names a folder that has them already.
func Archives(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv("PINNACE_TEST_IMAGES"); dir != "" {
		return dir
	}
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "pinnace").Output()
	if err != nil {
		t.Fatalf("find the module's folder: %v", err)
	}
	root := strings.TrimSpace(string(out))
	dir := filepath.Join(root, ".cache", "images")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close() // other packages' tests wait here meanwhile
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	want, stamp := sources(t, filepath.Join(root, "images")), filepath.Join(dir, "sources")
	if have, err := os.ReadFile(stamp); err == nil && string(have) == want {
		return dir
	}
	pack := exec.Command("go", "run", "./images/pack", "-busybox", "-out", dir)
	pack.Dir = root
	if out, err := pack.CombinedOutput(); err != nil {
		absent(t, "pack images: "+string(out))
	}
	if err := os.WriteFile(stamp, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// sources is one digest of all that the images are made of here.
func sources(t testing.TB, dir string) string {
	t.Helper()
	h := sha256.New()
	io.WriteString(h, goruntime.Version())
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(path, "_test.go") {
			return err
		}
		raw, err := os.ReadFile(path)
		io.WriteString(h, path)
		h.Write(raw)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}
