package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cyphar/filepath-securejoin/pathrs-lite"
	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// bind mounts what sub names inside the volume onto at. The pod may rename
// and relink what it likes meanwhile: the path is resolved once, with the
// volume as its root, and the mount is made from that handle.
func bind(volume, sub, at string, prop runtimeapi.MountPropagation) error {
	root, err := os.OpenFile(volume, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer root.Close()
	part, err := pathrs.OpenatInRoot(root, sub)
	if errors.Is(err, fs.ErrNotExist) {
		part, err = create(root, sub)
	}
	if err != nil {
		return strip(err)
	}
	defer part.Close()
	want, err := part.Stat()
	if err != nil {
		return err
	}
	if have, err := os.Stat(at); err == nil && os.SameFile(want, have) {
		return propagate(at, prop) // bound by an earlier call, which may have ended right there
	}
	if err := clearTarget(at, want.IsDir()); err != nil {
		return err
	}
	// Not recursive: what others mounted further down is not ours to hold.
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", part.Fd()), at, "", unix.MS_BIND, ""); err != nil {
		return &fs.PathError{Op: "bind", Path: at, Err: err}
	}
	return propagate(at, prop)
}

// propagate cuts the ties that the container did not ask for, so that mounts
// made later on the host do not appear here, to be unmounted by Teardown.
func propagate(at string, prop runtimeapi.MountPropagation) error {
	var flag uintptr
	switch prop {
	case runtimeapi.MountPropagation_PROPAGATION_PRIVATE:
		flag = unix.MS_PRIVATE
	case runtimeapi.MountPropagation_PROPAGATION_HOST_TO_CONTAINER:
		flag = unix.MS_SLAVE
	default:
		return nil
	}
	if err := unix.Mount("", at, "", flag, ""); err != nil {
		return &fs.PathError{Op: "set propagation of", Path: at, Err: err}
	}
	return nil
}

// create makes the sub-path's directories with the volume's own mode and
// owner, so that who may use the volume may use them.
func create(root *os.File, sub string) (*os.File, error) {
	var own unix.Stat_t
	if err := unix.Fstat(int(root.Fd()), &own); err != nil {
		return nil, err
	}
	walked := "."
	for part := range strings.SplitSeq(filepath.Clean(sub), "/") {
		walked = filepath.Join(walked, part)
		if have, err := pathrs.OpenatInRoot(root, walked); err == nil {
			have.Close()
			continue
		}
		made, err := pathrs.MkdirAllHandle(root, walked, 0o750)
		if err != nil {
			return nil, err
		}
		err = errors.Join(
			unix.Fchown(int(made.Fd()), int(own.Uid), int(own.Gid)),
			unix.Fchmod(int(made.Fd()), own.Mode&0o7777))
		made.Close()
		if err != nil {
			return nil, fmt.Errorf("set owner of %s: %w", walked, err)
		}
	}
	return pathrs.OpenatInRoot(root, sub)
}

// clearTarget makes at an empty directory or file to mount onto, taking away
// what an earlier attempt left there.
func clearTarget(at string, dir bool) error {
	for {
		if err := private(at); err != nil {
			return err
		}
		err := unix.Unmount(at, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			break // nothing is mounted there
		}
		if err != nil {
			return &fs.PathError{Op: "unmount", Path: at, Err: err}
		}
	}
	if err := os.MkdirAll(filepath.Dir(at), 0o750); err != nil {
		return err
	}
	// Remove, never RemoveAll: a place to mount onto is empty.
	if err := os.Remove(at); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if dir {
		return os.Mkdir(at, 0o750)
	}
	f, err := os.OpenFile(at, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	return f.Close()
}

// strip reduces an error to its errno: the path inside says where links on
// the host lead, which a pod's author need not know.
func strip(err error) error {
	var no unix.Errno
	if errors.As(err, &no) {
		return no
	}
	return err
}
