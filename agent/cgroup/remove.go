package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"
)

// Remove kills what still runs in the pod's cgroup and removes it from every
// hierarchy, with all that is below. An absent cgroup is success. It waits a
// second or so for killed processes to vanish; after an error the next call
// goes on.
func (t *Tree) Remove(uid string) error {
	if err := t.destroy(t.pod(uid)); err != nil {
		return fmt.Errorf("remove cgroup of pod %s: %w", uid, err)
	}
	return nil
}

// Clean removes the root cgroup with all that is left below it.
func (t *Tree) Clean() error {
	uids, err := t.Pods()
	if err != nil {
		return err
	}
	var errs []error
	for _, uid := range uids {
		errs = append(errs, t.Remove(uid))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := t.destroy(parts(t.cfg.Root)); err != nil {
		return fmt.Errorf("remove cgroup %s: %w", t.cfg.Root, err)
	}
	return nil
}

func (t *Tree) destroy(name []string) error {
	m, err := t.manager(name, Limits{})
	if err != nil {
		return err
	}
	paths := m.GetPaths()
	if !slices.ContainsFunc(slices.Collect(maps.Values(paths)), exists) {
		return nil
	}
	for _, p := range paths {
		if err := kill(p); err != nil {
			return err
		}
	}
	return m.Destroy()
}

func exists(p string) bool {
	_, err := os.Lstat(p)
	return err == nil
}

// kill ends every process in the cgroup and below, as often as new ones
// appear within bounds.
func kill(dir string) error {
	if err := cgroups.WriteFile(dir, "cgroup.kill", "1"); err == nil {
		return nil // v2: the kernel does it at once, forks included
	}
	for range 10 {
		pids, err := cgroups.GetAllPids(dir)
		if errors.Is(err, fs.ErrNotExist) || err == nil && len(pids) == 0 {
			return nil
		}
		if err != nil {
			return err
		}
		for _, pid := range pids {
			if err := killMember(dir, pid); err != nil {
				return err
			}
		}
	}
	return nil // the rest are dying: removal waits for them
}

// killMember kills pid if it is still in the cgroup once it is held: the
// number may belong to somebody else by then.
func killMember(dir string, pid int) error {
	if pid <= 1 { // 0 is a process of another PID namespace, to kill(2) our own group
		return nil
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open process %d: %w", pid, err)
	}
	defer unix.Close(fd)
	members, err := cgroups.GetAllPids(dir)
	if err != nil || !slices.Contains(members, pid) {
		return err
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill process %d: %w", pid, err)
	}
	return nil
}
