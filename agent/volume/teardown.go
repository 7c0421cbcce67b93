package volume

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// Teardown unmounts all that is mounted below dir, deepest first, and then
// removes dir. What lies behind a mount that would not go is never removed:
// that is an error, and the next call tries again. An absent dir is success.
func Teardown(ctx context.Context, dir string) error {
	real, err := filepath.EvalSymlinks(dir) // the kernel lists mounts by their real paths
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = unmountAll(ctx, real)
	}
	if err == nil {
		err = remove(real)
	}
	if err != nil {
		return fmt.Errorf("tear down %s: %w", dir, err)
	}
	return nil
}

// Sweep tears down every folder of podsDir whose pod keep does not know. It
// goes on after an error and returns them all.
func Sweep(ctx context.Context, podsDir string, keep func(uid string) bool) error {
	list, err := os.ReadDir(podsDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, e := range list {
		if e.IsDir() && !keep(e.Name()) {
			errs = append(errs, Teardown(ctx, filepath.Join(podsDir, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// unmountRounds bounds how often the mounts are listed again: a dying
// container may still be making some.
const unmountRounds = 5

func unmountAll(ctx context.Context, dir string) error {
	for range unmountRounds {
		list, err := below(dir)
		if err != nil || len(list) == 0 {
			return err
		}
		for _, at := range list {
			if err := unmount(ctx, at); err != nil {
				return err
			}
		}
	}
	if list, err := below(dir); err != nil || len(list) > 0 {
		return errors.Join(err, fmt.Errorf("%d mounts keep coming back", len(list)))
	}
	return nil
}

// below lists the mount points below dir, a mount before what it covers.
func below(dir string) ([]string, error) {
	list, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	slices.Reverse(list) // of two at one place the later one is on top
	slices.SortStableFunc(list, func(a, b *mountinfo.Info) int {
		return cmp.Compare(strings.Count(b.Mountpoint, "/"), strings.Count(a.Mountpoint, "/"))
	})
	paths := make([]string, len(list))
	for i, m := range list {
		paths[i] = m.Mountpoint
		if err := private(m.Mountpoint); err != nil {
			return nil, err
		}
	}
	return paths, nil
}

// private cuts a mount off from its peers, if it is one: an unmount inside a
// shared mount happens to all of them, and a peer may be the host's own tree.
func private(at string) error {
	err := unix.Mount("", at, "", unix.MS_PRIVATE, "")
	if err == nil || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return &fs.PathError{Op: "make private", Path: at, Err: err}
}

// unmount tries for about a second while somebody has a file open, and then
// takes the mount out of sight at least.
func unmount(ctx context.Context, at string) error {
	wait := 10 * time.Millisecond
	for {
		err := unix.Unmount(at, unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EBUSY) && wait > time.Second/2 {
			err = unix.Unmount(at, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
		}
		switch {
		case err == nil, errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT): // or gone by itself
			return nil
		case !errors.Is(err, unix.EBUSY):
			return &fs.PathError{Op: "unmount", Path: at, Err: err}
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return &fs.PathError{Op: "unmount", Path: at, Err: errors.Join(err, ctx.Err())}
		}
		wait *= 2
	}
}
