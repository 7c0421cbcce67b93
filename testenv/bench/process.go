package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of CPU times in /proc: USER_HZ is 100 wherever Go runs.
const tick = 10 * time.Millisecond

// cpu is the time that a process has used itself, without its children.
func cpu(pid int) (time.Duration, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name may hold anything; what follows its last bracket is the state.
	f := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	if len(f) < 13 {
		return 0, fmt.Errorf("read CPU time of process %d: %d fields", pid, len(f))
	}
	user, err := strconv.ParseInt(f[11], 10, 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * tick, err
}

// field reads a number out of a /proc file of "name: number" lines.
func field(pid int, file, name string) (int64, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(raw)) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strconv.ParseInt(strings.Fields(value)[0], 10, 64)
		}
	}
	return 0, fmt.Errorf("read %s of process %d: no %s", file, pid, name)
}

// daemon is the pid of the private containerd.
func (n *host) daemon() (int, error) {
	config := filepath.Join(n.root(), "containerd", "config.toml")
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return 0, err
	}
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err == nil && bytes.Contains(raw, []byte("\x00"+config+"\x00")) {
			return strconv.Atoi(filepath.Base(filepath.Dir(f)))
		}
	}
	return 0, fmt.Errorf("find containerd with %s: not running", config)
}

// usage is CPU time used by the agent and by containerd.
type usage struct{ agent, daemon time.Duration }

func (u usage) since(v usage) usage { return usage{u.agent - v.agent, u.daemon - v.daemon} }

func (n *host) usage() (u usage, err error) {
	if u.agent, err = cpu(n.agent.Process.Pid); err != nil {
		return u, err
	}
	pid, err := n.daemon()
	if err != nil {
		return u, err
	}
	u.daemon, err = cpu(pid)
	return u, err
}

// calm waits for a quiet machine: other people's work makes every figure worse.
type calm struct {
	limit       time.Duration
	waits, vain int
}

// wait returns when less than an eighth of the machine was busy for a second,
// or when the limit is over.
func (c *calm) wait(ctx context.Context) error {
	c.waits++
	over := time.After(c.limit + time.Second)
	second := time.NewTicker(time.Second)
	defer second.Stop()
	idle, all, err := machineTime()
	for err == nil {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-over:
			c.vain++
			return nil
		case <-second.C:
		}
		i, a, e := machineTime()
		if e == nil && a > all && float64(i-idle)/float64(a-all) > 7.0/8 {
			return nil
		}
		idle, all, err = i, a, e
	}
	return err
}

// machineTime is the idle time of all cores and all their time, in ticks.
func machineTime() (idle, all int64, err error) {
	raw, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, err
	}
	line, _, _ := strings.Cut(string(raw), "\n")
	for i, word := range strings.Fields(line)[1:] {
		v, err := strconv.ParseInt(word, 10, 64)
		if err != nil {
			return 0, 0, err
		}
		if i == 3 || i == 4 { // idle, iowait
			idle += v
		}
		all += v
	}
	return idle, all, nil
}
