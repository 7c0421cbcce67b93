// Package cgroup keeps the cgroup that each pod's containers live in: its
// limits, its removal, and the list of what is there. Every pod has one
// directly below the agent's root cgroup; there is no tier for QoS classes in
// between, since a pod's own CPU weight comes from its requests and gives a
// pod without requests the least there is anyway. It works on cgroup v1 and
// v2, by files or by systemd, whichever the runtime uses. Containers' own
// cgroups are the runtime's.
package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/manager"
	"github.com/opencontainers/cgroups/systemd"
	corev1 "k8s.io/api/core/v1"
)

// Config says where the tree is rooted ("/NAME") and who owns the hierarchy.
type Config struct {
	Root    string
	Systemd bool
}

// Tree is the root cgroup and the pods' below it. It keeps no state: several
// Trees of one Config agree.
type Tree struct {
	cfg     Config
	unified bool
	// paths is the root's directory in each hierarchy that this host has,
	// by the controller's name; on v2 there is one, named "".
	paths map[string]string
}

// New looks at what the host has; it creates nothing.
func New(cfg Config) (*Tree, error) {
	cfg.Root = path.Clean("/" + cfg.Root)
	if cfg.Root == "/" {
		return nil, errors.New("open cgroup tree: the root cgroup must have a name of its own")
	}
	if cfg.Systemd && !systemd.IsRunningSystemd() {
		return nil, errors.New("open cgroup tree: the systemd driver is asked for, but systemd does not run here")
	}
	t := &Tree{cfg: cfg, unified: cgroups.IsCgroup2UnifiedMode()}
	m, err := t.manager(parts(cfg.Root), Limits{})
	if err != nil {
		return nil, fmt.Errorf("open cgroup tree %s: %w", cfg.Root, err)
	}
	t.paths = m.GetPaths()
	return t, nil
}

// Unified reports whether the host runs cgroup v2 alone.
func (t *Tree) Unified() bool { return t.unified }

// Parent is the pod's cgroup as the runtime wants it named in a sandbox's
// configuration: a path for files, a slice for systemd.
func (t *Tree) Parent(uid string) string {
	if t.cfg.Systemd {
		return slice(t.pod(uid)...)
	}
	return path.Join(t.cfg.Root, podPrefix+uid)
}

// Ensure creates the pod's cgroup in every hierarchy and sets its limits.
// Idempotent.
func (t *Tree) Ensure(pod *corev1.Pod) error {
	if err := t.ensureRoot(); err != nil {
		return fmt.Errorf("create cgroup %s: %w", t.cfg.Root, err)
	}
	if err := t.apply(t.pod(string(pod.UID)), Resources(pod)); err != nil {
		return fmt.Errorf("create cgroup of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return nil
}

// ensureRoot creates the root cgroup when absent, with the weight of all of
// the node's CPUs: less would let any one process of the host outweigh the
// pods together.
func (t *Tree) ensureRoot() error {
	for _, p := range t.paths {
		if _, err := os.Stat(p); err != nil {
			return t.apply(parts(t.cfg.Root), Limits{Shares: shares(int64(runtime.NumCPU()) * 1000)})
		}
	}
	return nil
}

func (t *Tree) apply(name []string, l Limits) error {
	m, err := t.manager(name, l)
	if err != nil {
		return err
	}
	if err := m.Apply(-1); err != nil { // creates, moves no process
		return err
	}
	c, err := m.GetCgroups()
	if err != nil {
		return err
	}
	return m.Set(c.Resources)
}

// Pods lists the UIDs of the pods that have a cgroup in any hierarchy.
func (t *Tree) Pods() ([]string, error) {
	var uids []string
	for _, p := range t.paths {
		list, err := os.ReadDir(p)
		if err != nil && !os.IsNotExist(err) {
			return nil, fmt.Errorf("list cgroups: %w", err)
		}
		for _, e := range list {
			if uid, ok := t.uidOf(e.Name()); ok && e.IsDir() && !slices.Contains(uids, uid) {
				uids = append(uids, uid)
			}
		}
	}
	slices.Sort(uids)
	return uids, nil
}

// pod is the pod's cgroup by its parts.
func (t *Tree) pod(uid string) []string {
	return append(parts(t.cfg.Root), podPrefix+uid)
}

// manager is the library's handle for the cgroup name with limits l.
func (t *Tree) manager(name []string, l Limits) (cgroups.Manager, error) {
	c := &cgroups.Cgroup{Systemd: t.cfg.Systemd, Resources: t.resources(l)}
	var known map[string]string
	if t.cfg.Systemd {
		c.Name, c.Parent = slice(name...), "-.slice"
		if len(name) > 1 {
			c.Parent = slice(name[:len(name)-1]...)
		}
	} else {
		c.Path = "/" + path.Join(name...)
		known = t.below(name)
	}
	return manager.NewWithPaths(c, known)
}

// below derives the paths of a cgroup from the root's, nil when these are
// not known yet: the library would look for each hierarchy's mount again.
func (t *Tree) below(name []string) map[string]string {
	if t.paths == nil {
		return nil
	}
	rest := path.Join(name[len(parts(t.cfg.Root)):]...)
	out := make(map[string]string, len(t.paths))
	for controller, p := range t.paths {
		out[controller] = filepath.Join(p, rest)
	}
	return out
}
