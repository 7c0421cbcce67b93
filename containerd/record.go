package containerd

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// record says who runs; it stands in Run/daemon.json from just after the
// start on.
type record struct {
	Process process `json:"process"`
	Boot    string  `json:"boot"`
	Binary  binary  `json:"binary"`
	Version version `json:"version"`
	Config  string  `json:"config"` // digest
}

// readRecord is the zero record when there is none or none that makes sense:
// then nothing is known, and find looks for the process itself.
func readRecord(path string) record {
	raw, err := os.ReadFile(path)
	if err != nil {
		return record{}
	}
	return parseRecord(raw)
}

func parseRecord(raw []byte) record {
	var r record
	if json.Unmarshal(raw, &r) != nil || r.Process.PID <= 1 {
		return record{}
	}
	return r
}

func (r record) write(path string) error {
	raw, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := replaceFile(path, append(raw, '\n')); err != nil {
		return fmt.Errorf("write daemon record: %w", err)
	}
	return nil
}

// find is the process that runs with our configuration file, or errGone. The
// record is believed when boot, start time and command line agree; without it
// (the agent died between start and record) the processes are looked through.
func (c Config) find(r record) (process, error) {
	if boot, err := bootID(); err == nil && r.Boot == boot {
		if p, err := lookProcess(r.Process.PID); err == nil && p == r.Process && c.runs(p.PID) {
			return p, nil
		}
	}
	pids, err := processes()
	if err != nil {
		return process{}, err
	}
	for _, pid := range pids {
		if !c.runs(pid) || !shares(pid, c.Root) {
			continue
		}
		if p, err := lookProcess(pid); err == nil {
			return p, nil
		}
	}
	return process{}, errGone
}

// runs reports whether the process is a containerd on our configuration's path.
func (c Config) runs(pid int) bool {
	args := cmdline(pid)
	return len(args) == 3 && args[1] == "--config" && args[2] == c.configFile()
}

// shares reports whether dir is the same folder for that process as for us: a
// process in another mount namespace may mean another by the same path.
func shares(pid int, dir string) bool {
	ours, err := os.Stat(dir)
	if err != nil {
		return false
	}
	theirs, err := os.Stat(filepath.Join(fmt.Sprintf("/proc/%d/root", pid), dir))
	return err == nil && os.SameFile(ours, theirs)
}

// cmdline is empty for what is gone or a kernel thread.
func cmdline(pid int) []string {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || len(raw) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(raw), "\x00"), "\x00")
}

func processes() ([]int, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var pids []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

func bootID() (string, error) {
	raw, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(raw)), err
}
