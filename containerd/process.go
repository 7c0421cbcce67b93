package containerd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// process names one process for good: a pid alone may be another's later.
type process struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks after boot
}

// errGone says that the process does not exist (any more).
var errGone = errors.New("process is gone")

// lookProcess is the living process with that pid.
func lookProcess(pid int) (process, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return process{}, errGone
	}
	if err != nil {
		return process{}, err
	}
	st, err := parseStat(string(raw))
	if err != nil {
		return process{}, fmt.Errorf("read stat of process %d: %w", pid, err)
	}
	if st.state == "Z" || st.state == "X" {
		return process{}, errGone
	}
	return process{PID: pid, Start: st.start}, nil
}

// stat is what we read of a /proc/PID/stat line.
type stat struct {
	state  string
	parent int
	start  uint64
}

// parseStat reads a stat line; the name in it may hold spaces and brackets,
// so fields count from its last bracket.
func parseStat(line string) (stat, error) {
	end := strings.LastIndexByte(line, ')')
	if end < 0 {
		return stat{}, fmt.Errorf("no name in %q", line)
	}
	fields := strings.Fields(line[end+1:]) // the third field of proc(5) is the first here
	if len(fields) < 20 {
		return stat{}, fmt.Errorf("too few fields in %q", line)
	}
	parent, err := strconv.Atoi(fields[1])
	if err != nil {
		return stat{}, err
	}
	start, err := strconv.ParseUint(fields[19], 10, 64)
	return stat{state: fields[0], parent: parent, start: start}, err
}

// open is a pidfd of exactly this process, or errGone.
func (p process) open() (*os.File, error) {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil, errGone
	}
	if err != nil {
		return nil, fmt.Errorf("open process %d: %w", p.PID, err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("open process %d: %w", p.PID, err)
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	if now, err := lookProcess(p.PID); err != nil || now != p {
		f.Close()
		return nil, errGone
	}
	return f, nil
}

// wait returns nil once the process is gone, or ctx's error. It costs no
// thread and no timer; a child is reaped.
func (p process) wait(ctx context.Context) error {
	f, err := p.open()
	if errors.Is(err, errGone) {
		p.reap()
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	conn, err := f.SyscallConn()
	if err != nil {
		return fmt.Errorf("watch process %d: %w", p.PID, err)
	}
	stop := context.AfterFunc(ctx, func() { f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	err = conn.Read(func(fd uintptr) bool {
		n, _ := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return n > 0
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("watch process %d: %w", p.PID, err)
	}
	p.reap()
	return nil
}

// reap ends the zombie when it is our child and does nothing otherwise.
func (p process) reap() {
	_, _ = unix.Wait4(p.PID, nil, unix.WNOHANG, nil) // ECHILD: init's to reap
}

// signal is a success when the process is gone.
func (p process) signal(sig unix.Signal) error {
	f, err := p.open()
	if errors.Is(err, errGone) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	err = unix.PidfdSendSignal(int(f.Fd()), sig, nil, 0)
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("send %s to process %d: %w", unix.SignalName(sig), p.PID, err)
	}
	return nil
}

// end asks with SIGTERM, waits for grace, and kills.
func (p process) end(ctx context.Context, grace time.Duration) error {
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		if err := p.signal(sig); err != nil {
			return err
		}
		bounded, cancel := context.WithTimeout(ctx, grace)
		err := p.wait(bounded)
		cancel()
		if err == nil || ctx.Err() != nil {
			return err
		}
	}
	return fmt.Errorf("process %d outlived SIGKILL for %s", p.PID, grace)
}
