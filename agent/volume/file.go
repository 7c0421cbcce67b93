package volume

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// File keeps dir/name at content, making dir when absent, and returns its
// path. A new file appears whole. One that exists is rewritten in place,
// since a container may have it mounted and would go on seeing the old inode;
// a rewrite that was cut short is repaired by the next call. A file that is
// as it should be is not touched.
func File(dir, name string, content []byte, mode os.FileMode) (string, error) {
	path := filepath.Join(dir, name)
	same, err := holds(path, content)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = place(path, content, mode)
	case err == nil && !same:
		err = rewrite(path, content)
	}
	if err == nil {
		err = chmod(path, mode)
	}
	if err != nil {
		return "", fmt.Errorf("write file: %w", err)
	}
	return path, nil
}

// holds compares without reading more than content is long: a container may
// have written any amount into its file.
func holds(path string, content []byte) (bool, error) {
	st, err := os.Lstat(path)
	if err != nil || st.Size() != int64(len(content)) {
		return false, err
	}
	have, err := os.ReadFile(path)
	return bytes.Equal(have, content), err
}

// place writes aside and renames.
func place(path string, content []byte, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return err
	}
	draft := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	if err := os.WriteFile(draft, content, mode); err != nil {
		return err
	}
	return os.Rename(draft, path)
}

func rewrite(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(content, 0)
	if err == nil {
		err = f.Truncate(int64(len(content)))
	}
	return errors.Join(err, f.Close())
}

// chmod undoes the umask's part.
func chmod(path string, mode os.FileMode) error {
	st, err := os.Lstat(path)
	if err != nil || st.Mode().Perm() == mode.Perm() {
		return err
	}
	return os.Chmod(path, mode)
}
