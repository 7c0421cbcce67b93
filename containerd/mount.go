package containerd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// unmountBelow unmounts all that is mounted below dir, the last mounted first,
// and never dir itself. What stays busy for a second is detached.
func unmountBelow(ctx context.Context, dir string) error {
	real, err := filepath.EvalSymlinks(dir) // as the kernel lists it
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	flags := unix.UMOUNT_NOFOLLOW
	sweep := func() error {
		raw, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			return err
		}
		points := mountsBelow(string(raw), real)
		for i := len(points) - 1; i >= 0; i-- {
			if umount := unix.Unmount(points[i], flags); umount != nil && !errors.Is(umount, unix.EINVAL) { // EINVAL: gone meanwhile
				err = errors.Join(err, fmt.Errorf("unmount %s: %w", points[i], umount))
			}
		}
		return err
	}
	if err := retry(ctx, time.Second, sweep); err == nil || ctx.Err() != nil {
		return err
	}
	flags |= unix.MNT_DETACH
	return sweep()
}

// mountsBelow is the mount points below dir in the kernel's order.
func mountsBelow(mountinfo, dir string) []string {
	var points []string
	for line := range strings.Lines(mountinfo) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		if point := unescape(fields[4]); strings.HasPrefix(point, strings.TrimSuffix(dir, "/")+"/") {
			points = append(points, point)
		}
	}
	return points
}

// unescape undoes the kernel's \040 and the like.
func unescape(s string) string {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && octal(s[i+1:i+4]) {
			out.WriteByte((s[i+1]-'0')<<6 | (s[i+2]-'0')<<3 | (s[i+3] - '0'))
			i += 3
			continue
		}
		out.WriteByte(s[i])
	}
	return out.String()
}

func octal(s string) bool {
	return s[0] >= '0' && s[0] <= '3' && s[1] >= '0' && s[1] <= '7' && s[2] >= '0' && s[2] <= '7'
}
