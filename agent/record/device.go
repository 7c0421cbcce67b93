package record

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Settle decides whether a manifest directory that lies on device and holds
// files may prune: it may on the device that it was on before, and on another
// one when every file that owns a pod is there, which is then remembered. A mount
// that went missing leaves an empty directory on another device; its pods stay.
// reason is the sentence for the operator when the answer is no.
func (s *Store) Settle(device string, files []string) (prune bool, reason string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	path := filepath.Join(s.dir, deviceFile)
	before, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, "", fmt.Errorf("read device of manifests: %w", err)
	}
	if err == nil && strings.TrimSpace(string(before)) == device {
		return true, "", nil
	}
	if err == nil {
		if missing := s.missing(files); len(missing) > 0 {
			return false, fmt.Sprintf("the manifest directory is on another file system than before and lacks %s: their pods go on; mount the old one, put the files back, or remove %s to accept it as it is",
				strings.Join(missing, ", "), path), nil
		}
	}
	if err := s.replace(path, []byte(device+"\n")); err != nil {
		return false, "", fmt.Errorf("record device of manifests: %w", err)
	}
	return true, "", nil
}

// missing are the files that own a pod and are not among files. The lock is held.
func (s *Store) missing(files []string) []string {
	var all []string
	for _, e := range s.entries {
		wanted := !e.going() || e.Next != nil
		if f := e.file(); wanted && f != "" && !slices.Contains(files, f) {
			all = append(all, f)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}
