// Package volume makes a pod's volumes on the host, turns a container's
// volume mounts into the runtime's, and takes it all away again. Everything
// lies below the pod's folder:
//
//	volumes/<volume>                  what emptyDir volumes hold
//	subpaths/<container>/<mount no.>  bind mounts of the parts that a container asked for
//
// It never removes what lies behind a mount, never follows a link that a pod
// may have put down, and keeps nothing in memory: every call looks at the disk.
package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

// Set is a pod's volumes, prepared.
type Set struct {
	Dir  string            // the pod's folder
	Host map[string]string // volume name to host path
}

// Prepare makes the pod's volumes below dir. Idempotent; after an error the next call
// goes on where this one stopped. What an emptyDir holds survives both.
func Prepare(ctx context.Context, dir string, pod *corev1.Pod) (Set, error) {
	host := make(map[string]string, len(pod.Spec.Volumes))
	for i := range pod.Spec.Volumes {
		if err := ctx.Err(); err != nil {
			return Set{}, err
		}
		v := &pod.Spec.Volumes[i]
		var err error
		switch {
		case v.EmptyDir != nil:
			host[v.Name] = filepath.Join(dir, "volumes", v.Name)
			err = emptyDir(host[v.Name], pod, v.EmptyDir)
		case v.HostPath != nil:
			host[v.Name] = v.HostPath.Path
			err = hostPath(v.HostPath)
		default:
			err = errors.New("its kind is not supported on this node")
		}
		if err != nil {
			return Set{}, fmt.Errorf("prepare volume %q: %w", v.Name, err)
		}
	}
	return Set{Dir: dir, Host: host}, nil
}

func emptyDir(at string, pod *corev1.Pod, src *corev1.EmptyDirVolumeSource) error {
	switch src.Medium {
	case corev1.StorageMediumDefault:
		return plainDir(at, ownership(pod))
	case corev1.StorageMediumMemory:
		return memoryDir(at, ownership(pod), memoryLimit(pod, src))
	}
	return fmt.Errorf("medium %q is not supported on this node", src.Medium)
}

// owner is who may use a new volume: everybody, and as owning group the
// pod's fsGroup, which everything made inside inherits.
type owner struct {
	gid  int // -1 for none
	mode uint32
}

func ownership(pod *corev1.Pod) owner {
	if sc := pod.Spec.SecurityContext; sc != nil && sc.FSGroup != nil {
		return owner{int(*sc.FSGroup), 0o777 | unix.S_ISGID}
	}
	return owner{-1, 0o777}
}

// plainDir makes the directory aside and renames it into place when it is
// complete: one that exists was made whole and is left as the pod keeps it.
func plainDir(at string, own owner) error {
	if _, err := os.Lstat(at); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	draft := filepath.Join(filepath.Dir(at), "."+filepath.Base(at)) // no volume's name starts with a dot
	if err := os.MkdirAll(draft, 0o750); err != nil {
		return err
	}
	if err := os.Chown(draft, -1, own.gid); err != nil {
		return err
	}
	if err := unix.Chmod(draft, own.mode); err != nil { // after chown, which clears setgid
		return &fs.PathError{Op: "chmod", Path: draft, Err: err}
	}
	return os.Rename(draft, at)
}

// memoryDir mounts a tmpfs of at most size bytes, half of the node's memory
// when size is 0. Its owner and mode come with the mount, in one step.
func memoryDir(at string, own owner, size int64) error {
	if err := os.MkdirAll(at, 0o750); err != nil {
		return err
	}
	mounted, err := isTmpfs(at)
	if mounted || err != nil {
		return err
	}
	opts := fmt.Sprintf("mode=%o", own.mode)
	if own.gid >= 0 {
		opts += fmt.Sprintf(",gid=%d", own.gid)
	}
	if size > 0 {
		opts += fmt.Sprintf(",size=%d", size)
	}
	// Memory must stay in memory where the kernel can promise it (6.4).
	err = unix.Mount("tmpfs", at, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, opts+",noswap")
	if errors.Is(err, unix.EINVAL) {
		err = unix.Mount("tmpfs", at, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, opts)
	}
	if err != nil {
		return &fs.PathError{Op: "mount tmpfs", Path: at, Err: err}
	}
	return nil
}

// isTmpfs reports whether at is the root of a tmpfs of its own.
func isTmpfs(at string) (bool, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(at, &st); err != nil {
		return false, &fs.PathError{Op: "statfs", Path: at, Err: err}
	}
	var self, parent unix.Stat_t
	if err := errors.Join(unix.Lstat(at, &self), unix.Lstat(filepath.Dir(at), &parent)); err != nil {
		return false, fmt.Errorf("stat %s: %w", at, err)
	}
	return st.Type == unix.TMPFS_MAGIC && self.Dev != parent.Dev, nil
}
