package containerd

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// version is containerd's release; patch levels decide nothing here.
type version struct{ Major, Minor int }

func (v version) String() string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

func (v version) atLeast(major, minor int) bool {
	return v.Major > major || v.Major == major && v.Minor >= minor
}

// binary is a program file as it was when looked at: an upgrade in place
// changes it.
type binary struct {
	Path  string `json:"path"`
	Size  int64  `json:"size"`
	MTime int64  `json:"mtime"` // nanoseconds
	Inode uint64 `json:"inode"`
}

func statBinary(path string) (binary, error) {
	info, err := os.Stat(path)
	if err != nil {
		return binary{}, err
	}
	b := binary{Path: path, Size: info.Size(), MTime: info.ModTime().UnixNano()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		b.Inode = st.Ino
	}
	return b, nil
}

// searchPath is where the daemon and what it starts are looked up: beside
// the daemon first, so that a shim of the same release wins, then PATH, then
// the folders that a service's PATH may lack.
func searchPath(daemon string) []string {
	dirs := []string{filepath.Dir(daemon)}
	dirs = append(dirs, filepath.SplitList(os.Getenv("PATH"))...)
	dirs = append(dirs, "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
	var clean []string
	for _, dir := range dirs {
		if filepath.IsAbs(dir) && !slices.Contains(clean, dir) {
			clean = append(clean, dir)
		}
	}
	return clean
}

// lookIn is exec.LookPath over the given folders.
func lookIn(dirs []string, name string) (string, error) {
	for _, dir := range dirs {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("find %s: not in %s", name, strings.Join(dirs, ":"))
}

// findDaemon returns the daemon's path ("" looks it up) and checks that the
// shim and runc are there, all that is missing in one error.
func findDaemon(name string) (string, error) {
	path := name
	var errs []error
	if path == "" {
		found, err := lookIn(searchPath("/"), "containerd")
		errs, path = append(errs, err), found
	} else if _, err := os.Stat(path); err != nil {
		errs = append(errs, fmt.Errorf("find containerd: %w", err))
	}
	for _, helper := range []string{"containerd-shim-runc-v2", "runc"} {
		_, err := lookIn(searchPath(path), helper)
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return "", fmt.Errorf("%w\n(Debian: apt install containerd runc; or name a running runtime's socket)", err)
	}
	return filepath.Abs(path)
}

// askVersion runs the program; that costs tens of milliseconds.
func askVersion(path string) (version, error) {
	out, err := exec.Command(path, "--version").Output()
	if err != nil {
		return version{}, fmt.Errorf("ask %s for its version: %w", path, err)
	}
	v, err := parseVersion(string(out))
	if err != nil {
		return version{}, fmt.Errorf("ask %s for its version: %w", path, err)
	}
	if !v.atLeast(1, 6) {
		return version{}, fmt.Errorf("containerd %s at %s is too old: 1.6 or newer is needed", v, path)
	}
	return v, nil
}

var versionPattern = regexp.MustCompile(`^containerd \S+ v?(\d{1,4})\.(\d{1,4})\D`)

// parseVersion reads what `containerd --version` prints, for example
// "containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+b1".
func parseVersion(out string) (version, error) {
	m := versionPattern.FindStringSubmatch(out)
	if m == nil {
		return version{}, fmt.Errorf("no version in %q", out)
	}
	var v version
	v.Major, _ = strconv.Atoi(m[1]) // four digits always fit
	v.Minor, _ = strconv.Atoi(m[2])
	return v, nil
}
