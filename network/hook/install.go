// Package hook puts the CNI hook where a runtime finds it: the binary, its
// name as loopback plugin, and the configuration that leads the runtime's calls
// to the agent's socket. It touches files only, and never what others put
// beside them.
package hook

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	hookName = "pinnace-cni"
	// cniVersion is the one that every containerd since 1.6 can convert.
	cniVersion = "1.0.0"
	// confName sorts before every other: the runtime takes the first.
	confName = "00-pinnace.conflist"
	// loopbackName is a plugin that containerd calls for every pod; the hook
	// answers under that name too.
	loopbackName = "loopback"
)

// Conflist is the CNI configuration list that sends the runtime's calls to
// the hook, and the hook to socket.
func Conflist(socket string) []byte {
	type plugin struct {
		Type         string          `json:"type"`
		Socket       string          `json:"socket"`
		Capabilities map[string]bool `json:"capabilities"`
	}
	raw, err := json.MarshalIndent(struct {
		Version string   `json:"cniVersion"`
		Name    string   `json:"name"`
		Plugins []plugin `json:"plugins"`
	}{cniVersion, "pinnace", []plugin{{hookName, socket, map[string]bool{
		"portMappings": true, "io.kubernetes.cri.pod-annotations": true,
	}}}}, "", "  ")
	if err != nil {
		return nil // strings and booleans always marshal
	}
	return append(raw, '\n')
}

// Install puts the hook into binDir and its configuration into confDir, each
// only when it differs. The configuration is renamed inside confDir, since a
// runtime may miss a file that arrives from elsewhere, and the folder itself
// is never replaced, since that ends the runtime's watch. A loopback plugin
// that is there already stays.
func Install(hookBinary, binDir, confDir, socket string) error {
	for _, dir := range []string{binDir, confDir} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("install hook: %w", err)
		}
	}
	hook, err := os.ReadFile(hookBinary)
	if err != nil {
		return fmt.Errorf("install hook: %w", err)
	}
	if err := ensureFile(filepath.Join(binDir, hookName), hook, 0o755); err != nil {
		return fmt.Errorf("install hook: %w", err)
	}
	// A link instead of a copy: it follows an upgrade, and says whose it is.
	loopback := filepath.Join(binDir, loopbackName)
	if err := os.Symlink(hookName, loopback); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("install loopback: %w", err)
	}
	if err := ensureFile(filepath.Join(confDir, confName), Conflist(socket), 0o644); err != nil {
		return fmt.Errorf("install CNI configuration: %w", err)
	}
	return nil
}

// Uninstall removes what Install put there, the configuration first, so that
// no runtime reads one whose plugin is gone. The absent is removed already.
func Uninstall(binDir, confDir string) error {
	errs := []error{remove(filepath.Join(confDir, confName))}
	loopback := filepath.Join(binDir, loopbackName)
	if target, err := os.Readlink(loopback); err == nil && target == hookName {
		errs = append(errs, remove(loopback))
	}
	errs = append(errs, remove(filepath.Join(binDir, hookName)))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("uninstall hook: %w", err)
	}
	return nil
}

// ensureFile writes data to path unless it is there with that mode.
func ensureFile(path string, data []byte, mode fs.FileMode) error {
	info, err := os.Stat(path)
	if err == nil && info.Mode().Perm() == mode && info.Size() == int64(len(data)) {
		if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
			return nil
		}
	}
	return replaceFile(path, data, mode)
}

// replaceFile puts data at path in one step. The temporary file starts with a
// dot and does not end like a CNI configuration, so that no runtime reads it.
func replaceFile(path string, data []byte, mode fs.FileMode) error {
	tmp := filepath.Join(filepath.Dir(path), ".new-"+filepath.Base(path)+"~")
	err := os.WriteFile(tmp, data, mode)
	if err == nil {
		err = os.Chmod(tmp, mode) // whatever the umask
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return errors.Join(err, remove(tmp))
	}
	return nil
}

// remove deletes a file; the absent is deleted already.
func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
