package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	corev1 "k8s.io/api/core/v1"
)

// hostPath checks that the path is what its type says, and makes it where
// the type says so too. Links are followed, as the mount will. Without a type
// nothing is looked at.
func hostPath(src *corev1.HostPathVolumeSource) error {
	if src.Type == nil || *src.Type == corev1.HostPathUnset {
		return nil
	}
	typ := *src.Type
	st, err := os.Stat(src.Path)
	if errors.Is(err, fs.ErrNotExist) {
		switch typ {
		case corev1.HostPathDirectoryOrCreate:
			return os.MkdirAll(src.Path, 0o755)
		case corev1.HostPathFileOrCreate:
			return touch(src.Path)
		}
	}
	want, ok := fits(typ)
	if !ok {
		return fmt.Errorf("hostPath %s: %q is not a type", src.Path, typ)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("hostPath %s is not a %s: it does not exist", src.Path, want)
	}
	if err != nil {
		return fmt.Errorf("hostPath %s is not a %s: %w", src.Path, want, err)
	}
	if found := kind(st.Mode()); found != want {
		return fmt.Errorf("hostPath %s is not a %s: it is a %s", src.Path, want, found)
	}
	return nil
}

// touch makes an empty file, not its parents: Kubernetes leaves these to
// whoever owns them.
func touch(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o644)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("create hostPath %s: its parent directory does not exist", path)
	}
	if err != nil {
		return fmt.Errorf("create hostPath: %w", err)
	}
	return f.Close()
}

// fits names what a type asks for, in the words of kind.
func fits(typ corev1.HostPathType) (string, bool) {
	switch typ {
	case corev1.HostPathDirectory, corev1.HostPathDirectoryOrCreate:
		return "directory", true
	case corev1.HostPathFile, corev1.HostPathFileOrCreate:
		return "file", true
	case corev1.HostPathSocket:
		return "socket", true
	case corev1.HostPathCharDev:
		return "character device", true
	case corev1.HostPathBlockDev:
		return "block device", true
	}
	return "", false
}

// kind names what lies at a path.
func kind(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "directory"
	case m.IsRegular():
		return "file"
	case m&fs.ModeSocket != 0:
		return "socket"
	case m&fs.ModeCharDevice != 0:
		return "character device"
	case m&fs.ModeDevice != 0:
		return "block device"
	case m&fs.ModeNamedPipe != 0:
		return "named pipe"
	}
	return "thing of mode " + m.Type().String()
}
