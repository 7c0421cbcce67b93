package containerd

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	containersv1 "github.com/containerd/containerd/api/services/containers/v1"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
)

// How often orphans are looked for, and how long one must have been seen: a
// call may be on its way, or its undoing.
const (
	orphanFirst = 5 * time.Second
	orphanEvery = 10 * time.Minute
	listLimit   = 256 << 20 // bytes
)

// Sweep ends orphans until ctx ends: shims of which containerd knows no
// container. One is left behind now and then when a client dies over the call
// that starts a sandbox. It looks some seconds after the start, since the last
// agent may have died so, and then seldom.
func (d *Daemon) Sweep(ctx context.Context) error {
	wait, before := orphanFirst, map[process]string{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		found, err := d.cfg.orphans(ctx)
		if err != nil && ctx.Err() == nil {
			d.cfg.Logger.Warn("looked for orphaned shims in vain", "error", err)
		}
		for p, id := range found {
			if before[p] == id {
				d.cfg.Logger.Info("ended an orphaned shim", "pid", p.PID, "id", id, "error", d.cfg.endOrphan(ctx, p, id))
				delete(found, p)
			}
		}
		before, wait = found, orphanEvery
		if len(found) > 0 {
			wait = orphanFirst
		}
	}
}

// orphans are our shims by the id that containerd does not know. The shims
// are listed first: a container is known before its shim is started.
func (c Config) orphans(ctx context.Context) (map[process]string, error) {
	pids, err := processes()
	if err != nil {
		return nil, err
	}
	found := map[process]string{}
	for _, pid := range pids {
		if !c.ownsShim(pid) {
			continue
		}
		args := cmdline(pid)
		if p, err := lookProcess(pid); err == nil && option(args, "-namespace") == namespace && option(args, "-id") != "" {
			found[p] = option(args, "-id")
		}
	}
	if len(found) == 0 {
		return nil, nil
	}
	known, err := c.containers(ctx)
	if err != nil {
		return nil, err
	}
	for p, id := range found {
		if known[id] {
			delete(found, p)
		}
	}
	return found, nil
}

// option is the word after name in a command line, "" when there is none.
func option(args []string, name string) string {
	if i := slices.Index(args, name); i > 0 && i+1 < len(args) {
		return args[i+1]
	}
	return ""
}

// containers are the ids that containerd knows.
func (c Config) containers(ctx context.Context) (map[string]bool, error) {
	conn, err := connect("unix://" + c.socket())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(inNamespace(ctx), readyLimit)
	defer cancel()
	list, err := containersv1.NewContainersClient(conn).List(ctx, &containersv1.ListContainersRequest{},
		grpc.MaxCallRecvMsgSize(listLimit)) // the answer holds every specification
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	known := map[string]bool{}
	for _, container := range list.GetContainers() {
		known[container.GetID()] = true
	}
	return known, nil
}

// endOrphan kills what an orphan has started, then itself, and removes its
// socket, whose name containerd derives from its own address and the id.
func (c Config) endOrphan(ctx context.Context, shim process, id string) error {
	pids, err := processes()
	errs := []error{err}
	for _, pid := range pids {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		st, err := parseStat(string(raw))
		if err == nil && st.parent == shim.PID {
			errs = append(errs, process{PID: pid, Start: st.start}.signal(unix.SIGKILL))
		}
	}
	errs = append(errs, shim.end(ctx, time.Second))
	name := sha256.Sum256([]byte(filepath.Join(c.socket(), namespace, id)))
	errs = append(errs, absent(os.Remove(socketHome+hex.EncodeToString(name[:]))))
	return errors.Join(errs...)
}
