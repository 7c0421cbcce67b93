package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// maxDepth bounds the files that are open at once: what lies deeper is moved
// up first. A pod may have nested directories without end.
const maxDepth = 64

// remove deletes dir and all below it. Links are deleted, not followed; a
// mount point, also one of the same file system, is an error before anything
// behind it is touched.
func remove(dir string) error {
	root, err := open(unix.AT_FDCWD, dir, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer root.Close()
	r := remover{root: root}
	for moved := -1; moved != r.moved; {
		moved = r.moved
		if err := r.empty(root, dir, 0); err != nil {
			return err
		}
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

type remover struct {
	root  *os.File
	moved int // directories moved up so far
}

// empty deletes what d holds; path is for errors.
func (r *remover) empty(d *os.File, path string, depth int) error {
	list, err := d.ReadDir(-1)
	if err != nil {
		return err
	}
	if _, err := d.Seek(0, 0); err != nil { // the next round reads again
		return err
	}
	for _, e := range list {
		at := filepath.Join(path, e.Name())
		err := unix.Unlinkat(int(d.Fd()), e.Name(), 0)
		if errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EPERM) && e.IsDir() {
			err = r.directory(d, e.Name(), at, depth)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			if no, bare := err.(unix.Errno); bare {
				err = &fs.PathError{Op: "remove", Path: at, Err: no}
			}
			return err
		}
	}
	return nil
}

func (r *remover) directory(d *os.File, name, at string, depth int) error {
	if depth >= maxDepth {
		return r.lift(d, name)
	}
	sub, err := open(int(d.Fd()), name, unix.RESOLVE_NO_XDEV)
	if errors.Is(err, unix.EXDEV) {
		return fmt.Errorf("remove %s: something is still mounted there", at)
	}
	if err != nil {
		return err
	}
	defer sub.Close()
	if err := r.empty(sub, at, depth+1); err != nil {
		return err
	}
	return unix.Unlinkat(int(d.Fd()), name, unix.AT_REMOVEDIR)
}

// lift moves a directory to the top, to be emptied in the next round.
func (r *remover) lift(d *os.File, name string) error {
	for {
		r.moved++
		err := unix.Renameat2(int(d.Fd()), name, int(r.root.Fd()), ".deep-"+strconv.Itoa(r.moved), unix.RENAME_NOREPLACE)
		if !errors.Is(err, unix.EEXIST) {
			return err
		}
	}
}

// open opens the directory itself, never what a link points to.
func open(at int, name string, resolve uint64) (*os.File, error) {
	fd, err := unix.Openat2(at, name, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: resolve,
	})
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}
