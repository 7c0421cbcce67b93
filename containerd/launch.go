package containerd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const logLimit = 10 << 20 // the daemon's log is set aside beyond this, at start

// passedOn is what the daemon gets of our environment: not the agent's
// notify socket, not its listening sockets.
var passedOn = []string{
	"HOME", "TMPDIR", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR",
	"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
}

// launch starts the daemon in a session of its own, outside the agent's
// cgroup, and records it. Crash order: when the agent dies before the record is
// written, find recognises the process by its command line.
func (d *Daemon) launch(configDigest string) (process, error) {
	log, err := openLog(d.cfg.logFile())
	if err != nil {
		return process{}, err
	}
	defer log.Close()
	args := d.command(booted())
	cmd := exec.Command(args[0], args[1:]...) // no context: it outlives us
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	cmd.Env = []string{"PATH=" + strings.Join(searchPath(d.binary.Path), ":")}
	for _, name := range passedOn {
		if v, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	if err := cmd.Start(); err != nil {
		return process{}, fmt.Errorf("start containerd: %w", err)
	}
	pid := cmd.Process.Pid
	if err := cmd.Process.Release(); err != nil { // wait reaps it, by pidfd
		return process{}, fmt.Errorf("start containerd: %w", err)
	}
	p, err := lookProcess(pid)
	if err != nil {
		process{PID: pid}.reap()
		return process{}, fmt.Errorf("start containerd: %w", d.died())
	}
	if !booted() {
		if err := leaveCgroup(pid, d.cfg.cgroup()); err != nil {
			d.cfg.Logger.Warn("containerd stayed in the agent's cgroup", "error", err)
		}
	}
	boot, err := bootID()
	if err != nil {
		return p, fmt.Errorf("read boot id: %w", err)
	}
	return p, record{p, boot, d.binary, d.version, configDigest}.write(d.cfg.recordFile())
}

// command is the daemon's command line. Under systemd it gets a scope, so
// that stopping the agent's unit does not stop it; systemd-run becomes the
// daemon, the pid stays. The scope of a daemon that died lives on with the shims
// in it, so every start takes a new name.
func (d *Daemon) command(systemd bool) []string {
	args := []string{d.binary.Path, "--config", d.cfg.configFile()}
	if !systemd {
		return args
	}
	unit := d.cfg.unit() + "-" + strconv.FormatInt(time.Now().UnixMilli(), 36)
	return append([]string{"systemd-run", "--scope", "--collect", "--quiet", "--unit", unit,
		"-p", "Delegate=yes", "-p", "TasksMax=infinity", "--"}, args...)
}

func (c Config) unit() string   { return "pinnace-containerd-" + c.Instance }
func (c Config) cgroup() string { return "pinnace-" + c.Instance + "-containerd" }

// booted reports whether systemd is PID 1, as sd_booted(3) does.
func booted() bool {
	info, err := os.Lstat("/run/systemd/system")
	return err == nil && info.IsDir()
}

// openLog opens the daemon's log for appending; a big one becomes .1 first.
func openLog(path string) (*os.File, error) {
	if info, err := os.Stat(path); err == nil && info.Size() > logLimit {
		if err := os.Rename(path, path+".1"); err != nil {
			return nil, fmt.Errorf("rotate containerd's log: %w", err)
		}
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open containerd's log: %w", err)
	}
	return f, nil
}

// died is the error of a daemon that ended by itself, with its last words.
func (d *Daemon) died() error {
	if words := lastLines(d.cfg.logFile(), 3); words != "" {
		return fmt.Errorf("containerd died, its last words in %s: %s", d.cfg.logFile(), words)
	}
	return fmt.Errorf("containerd died without a word in %s", d.cfg.logFile())
}

// lastLines is the end of a log in one line, at most 2 KiB.
func lastLines(path string, n int) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > 2048 {
		if _, err := f.Seek(-2048, io.SeekEnd); err != nil {
			return ""
		}
	}
	raw, err := io.ReadAll(io.LimitReader(f, 2048))
	if err != nil {
		return ""
	}
	lines := bytes.Split(bytes.TrimSpace(raw), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-n):], []byte(" | ")))
}

// leaveCgroup moves the process out of every cgroup that the agent is in, into
// one of its own, so that no limit or end of the agent's cgroup reaches it. Where
// the agent is at the root there is nothing to leave.
func leaveCgroup(pid int, name string) error {
	raw, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return err
	}
	var errs []error
	for line := range strings.Lines(string(raw)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 || f[2] == "/" {
			continue
		}
		dir := hierarchy(f[1])
		if !slices.Contains(strings.Split(f[1], ","), "cpuset") { // a new cpuset has no CPU in it: its root must do
			dir = filepath.Join(dir, name)
		}
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0))
	}
	return errors.Join(errs...)
}

// hierarchy is where a line of /proc/self/cgroup is mounted by convention.
func hierarchy(controllers string) string {
	const top = "/sys/fs/cgroup"
	switch name, named := strings.CutPrefix(controllers, "name="); {
	case named:
		return filepath.Join(top, name)
	case controllers != "":
		return filepath.Join(top, controllers)
	case isDir(filepath.Join(top, "unified")):
		return filepath.Join(top, "unified")
	default:
		return top
	}
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// removeCgroups removes the cgroup of that name from every hierarchy. It is
// empty shortly after its last process was killed, hence the bounded retries.
func removeCgroups(ctx context.Context, name string) error {
	var errs []error
	for _, pattern := range []string{"/sys/fs/cgroup/" + name, "/sys/fs/cgroup/*/" + name} {
		dirs, err := filepath.Glob(pattern)
		errs = append(errs, err)
		for _, dir := range dirs {
			errs = append(errs, retry(ctx, 5*time.Second, func() error {
				if err := os.Remove(dir); !errors.Is(err, os.ErrNotExist) {
					return err
				}
				return nil
			}))
		}
	}
	return errors.Join(errs...)
}

// retry calls f until it succeeds, for at most as long as limit, and returns
// its last error.
func retry(ctx context.Context, limit time.Duration, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for delay := 5 * time.Millisecond; ; delay = min(2*delay, 200*time.Millisecond) {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(delay):
		}
	}
}
