package containerd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// socketHome is where the shims' sockets lie whatever the daemon's state
// folder is: containerd has it compiled in.
const socketHome = "/run/containerd/s/"

// Stop ends the daemon for good: see Cleanup.
func (d *Daemon) Stop(ctx context.Context) error { return Cleanup(ctx, d.cfg) }

// Cleanup ends the daemon, then what it left: shims, processes in their
// containers, mounts below Root and Run, cgroup. It needs no containerd binary, so
// it also cleans up after containerd was uninstalled. Pods are removed over CRI
// before; the files are the caller's to remove. Idempotent.
func Cleanup(ctx context.Context, cfg Config) error {
	p, err := cfg.find(readRecord(cfg.recordFile()))
	if err == nil {
		err = p.end(ctx, endGrace)
	}
	if err != nil && !errors.Is(err, errGone) {
		return fmt.Errorf("end containerd: %w", err)
	}
	return errors.Join(
		cfg.endShims(ctx),
		cfg.removeSockets(),
		unmountBelow(ctx, cfg.Root),
		unmountBelow(ctx, cfg.Run),
		removeCgroups(ctx, cfg.cgroup()),
		absent(os.Remove(cfg.recordFile())),
	)
}

func absent(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// endShims kills what runs in the containers of our shims and then the shims.
// That order matters: without its shim an orphan could not be told from anybody's.
func (c Config) endShims(ctx context.Context) error {
	err := retry(ctx, endGrace, func() error {
		_, inside, err := c.family()
		if err != nil {
			return err
		}
		for _, p := range inside {
			err = errors.Join(err, p.signal(unix.SIGKILL))
		}
		if err == nil && len(inside) > 0 {
			err = fmt.Errorf("%d processes of containers are still there", len(inside))
		}
		return err
	})
	shims, _, listErr := c.family()
	for _, p := range shims {
		err = errors.Join(err, p.end(ctx, time.Second))
	}
	if err = errors.Join(err, listErr); err != nil {
		return fmt.Errorf("end shims: %w", err)
	}
	return nil
}

// family is our shims and the processes below them.
func (c Config) family() (shims, inside []process, err error) {
	pids, err := processes()
	if err != nil {
		return nil, nil, err
	}
	parents, ours := map[int]int{}, map[int]bool{}
	for _, pid := range pids {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		if st, err := parseStat(string(raw)); err == nil {
			parents[pid] = st.parent
		}
		ours[pid] = c.ownsShim(pid)
	}
	for _, pid := range pids {
		below := false
		for up := parents[pid]; up > 1 && !below; up = parents[up] {
			below = ours[up]
		}
		if !below && !ours[pid] {
			continue
		}
		p, err := lookProcess(pid)
		if err != nil {
			continue
		}
		if ours[pid] {
			shims = append(shims, p)
		} else {
			inside = append(inside, p)
		}
	}
	return shims, inside, nil
}

// ownsShim reports whether the process is a shim that reports to our socket.
func (c Config) ownsShim(pid int) bool {
	args := cmdline(pid)
	if len(args) == 0 || !strings.HasPrefix(filepath.Base(args[0]), "containerd-shim") {
		return false
	}
	i := slices.Index(args, "-address")
	return i > 0 && i+1 < len(args) && args[i+1] == c.socket() && shares(pid, c.Run)
}

// removeSockets removes the sockets of shims that were killed; they lie
// outside Run, so the shims' bundles are asked for their names. The folders
// around them go when nobody else uses them.
func (c Config) removeSockets() error {
	var errs []error
	for _, name := range []string{"address", "bootstrap.json"} { // 1.x and 2.x
		files, err := filepath.Glob(filepath.Join(c.state(), "io.containerd.runtime.v2.task", "*", "*", name))
		errs = append(errs, err)
		for _, file := range files {
			raw, err := os.ReadFile(file)
			if err != nil {
				continue
			}
			if path := shimSocket(raw); path != "" {
				errs = append(errs, absent(os.Remove(path)))
			}
		}
	}
	for dir := filepath.Clean(socketHome); dir != "/run"; dir = filepath.Dir(dir) {
		_ = unix.Rmdir(dir) // stays when another containerd has something in it
	}
	return errors.Join(errs...)
}

// shimSocket reads a bundle's address: a plain URL, or JSON around it.
func shimSocket(raw []byte) string {
	address := strings.TrimSpace(string(raw))
	var boot struct {
		Address string `json:"address"`
	}
	if json.Unmarshal(raw, &boot) == nil {
		address = boot.Address
	}
	path := filepath.Clean(strings.TrimPrefix(address, "unix://"))
	if !strings.HasPrefix(path, socketHome) {
		return ""
	}
	return path
}
