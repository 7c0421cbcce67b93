package containerd

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"text/template"

	"golang.org/x/sys/unix"
)

// Config says where the daemon lives and what it must know of this host.
type Config struct {
	Binary          string // "" looks containerd up on PATH
	Root, Run       string // ours alone; Root survives a reboot, Run need not
	CNIBin, CNIConf string // folders of the network hook and of its configuration
	SandboxImage    string
	SystemdCgroup   bool
	RestrictOOM     bool   // see MissingSysResource
	Instance        string // names what lies outside Root and Run: scope, cgroup
	Logger          *slog.Logger
}

func (c Config) socket() string     { return filepath.Join(c.Run, "containerd.sock") }
func (c Config) state() string      { return filepath.Join(c.Run, "state") }
func (c Config) recordFile() string { return filepath.Join(c.Run, "daemon.json") }
func (c Config) configFile() string { return filepath.Join(c.Root, "config.toml") }
func (c Config) logFile() string    { return filepath.Join(c.Root, "containerd.log") }
func (c Config) certs() string      { return filepath.Join(c.Root, "certs.d") }

//go:embed config2.toml config3.toml
var configTexts embed.FS

// settings is what the configuration texts are filled with.
type settings struct {
	Config
	Version     version
	Snapshotter string
}

func (s settings) Socket() string { return s.socket() }
func (s settings) State() string  { return s.state() }
func (s settings) Certs() string  { return s.certs() }

// PullProgress reports whether the release knows a pull's progress timeout.
func (s settings) PullProgress() bool { return s.Version.atLeast(1, 7) }

// PullsByTransfer reports whether the transfer service does CRI's pulls.
func (s settings) PullsByTransfer() bool { return s.Version.atLeast(2, 1) }

// ListsBinDirs reports whether bin_dir became the list bin_dirs.
func (s settings) ListsBinDirs() bool { return s.Version.atLeast(2, 1) }

// render is the daemon's configuration: version 2 of its format for 1.x,
// version 3 for 2.x, where the plugins have other ids.
func render(s settings) ([]byte, error) {
	name := "config2.toml"
	if s.Version.Major >= 2 {
		name = "config3.toml"
	}
	t, err := template.New(name).Funcs(template.FuncMap{
		"join": func(elem ...string) string { return filepath.Join(elem...) },
	}).ParseFS(configTexts, name)
	if err != nil {
		return nil, fmt.Errorf("read configuration text: %w", err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, s); err != nil {
		return nil, fmt.Errorf("fill configuration text: %w", err)
	}
	return out.Bytes(), nil
}

func digest(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// snapshotter is overlayfs wherever it can be: it cannot lie on another
// overlayfs, which is what Root is on inside most containers.
func snapshotter(root string) string {
	var fs unix.Statfs_t
	if unix.Statfs(root, &fs) == nil && fs.Type == unix.OVERLAYFS_SUPER_MAGIC {
		return "native"
	}
	return "overlayfs"
}

// writeChanged writes data to path in one rename, and only when it differs.
func writeChanged(path string, data []byte) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		return nil
	}
	return replaceFile(path, data)
}

func replaceFile(path string, data []byte) error {
	part := path + ".part"
	if err := os.WriteFile(part, data, 0o600); err != nil {
		return err
	}
	return os.Rename(part, path)
}
