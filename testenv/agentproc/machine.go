package agentproc

import (
	"encoding/json"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
)

// netnsDirs are where runtimes bind network namespaces.
func netnsDir(path string) bool {
	return strings.HasPrefix(path, "/run/netns/") || strings.HasPrefix(path, "/var/run/netns/")
}

// kernelThings are mounts, links, routes, cgroups and shims.
func (inv Inventory) kernelThings(tb testing.TB, n *Node, ids *names) {
	tb.Helper()
	for _, m := range mounts(tb) {
		switch {
		case strings.HasPrefix(m, n.Dir+"/"):
			inv.add(ids, "mount %s", strings.TrimPrefix(m, n.Dir))
		case netnsDir(m) && !n.before.mounts[m]:
			inv.add(ids, "mount %s", m)
		}
	}
	links, err := netlink.LinkList()
	if err != nil {
		tb.Fatal(err)
	}
	for _, l := range links {
		a := l.Attrs()
		if n.before.links[a.Name] {
			continue
		}
		id, ours := strings.CutPrefix(a.Alias, "pinnace "+n.Instance+" ")
		if !ours {
			id = a.Name + " without alias"
		}
		inv.add(ids, "link to %s", id)
		routes, err := netlink.RouteList(l, netlink.FAMILY_ALL)
		if err != nil {
			continue // it has gone meanwhile
		}
		for _, r := range routes {
			if r.Dst == nil || r.Dst.IP.IsLinkLocalUnicast() || r.Dst.IP.IsMulticast() {
				continue
			}
			if ids.addresses[r.Dst.IP.String()] == "" {
				inv[""] = append(inv[""], "route to "+r.Dst.String())
				continue
			}
			inv.add(ids, "route of %d bytes to %s", len(r.Dst.IP), id)
		}
	}
	for _, dir := range cgroups(tb, n.Instance) {
		inv.add(ids, "cgroup %s", dir)
	}
	for id := range n.shims(tb) {
		if ids.of[id].word == "SANDBOX" { // see Orphans
			inv.add(ids, "shim %s", id)
		}
	}
}

// shims are the shims of the node's runtime by sandbox.
func (n *Node) shims(tb testing.TB) map[string]process {
	tb.Helper()
	all := map[string]process{}
	for _, p := range processes(tb, strings.TrimPrefix(n.Endpoint, "unix://")) {
		f := strings.Fields(p.command)
		if i := slices.Index(f, "-id"); strings.Contains(f[0], "containerd-shim") && i > 0 && slices.Contains(f, "-address") {
			all[f[i+1]] = p
		}
	}
	return all
}

// Orphans are shims without a sandbox: containerd may leave one behind when
// its client dies over a call. The agent ends them some seconds later, so that
// an inventory leaves them out and a test asks for them at its end. On a loaded
// machine it may start a second shim, for a container of a sandbox: no orphan.
func (n *Node) Orphans(tb testing.TB) []string {
	tb.Helper()
	sandboxes, err := n.Client(tb).Sandboxes(tb.Context(), nil)
	if err != nil {
		tb.Fatal(err)
	}
	all := n.shims(tb)
	for _, s := range sandboxes {
		delete(all, s.ID)
	}
	for _, c := range n.Containers(tb) {
		delete(all, c.ID)
	}
	return slices.Collect(maps.Keys(all))
}

// cgroups are the paths of a node's cgroups, below each hierarchy.
func cgroups(tb testing.TB, instance string) []string {
	tb.Helper()
	var all []string
	for _, pattern := range []string{"/sys/fs/cgroup/pinnace-", "/sys/fs/cgroup/*/pinnace-"} {
		tops, err := filepath.Glob(pattern + instance + "*")
		if err != nil {
			tb.Fatal(err)
		}
		for _, top := range tops {
			if target, err := filepath.EvalSymlinks(filepath.Dir(top)); err != nil || target != filepath.Dir(top) {
				continue // cpu is a link to cpu,cpuacct
			}
			_ = filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
				if err == nil && d.IsDir() && path != top {
					all = append(all, strings.TrimPrefix(path, "/sys/fs/cgroup/"))
				}
				return nil // what vanishes meanwhile is not there
			})
		}
	}
	return all
}

// mounts are the mount points of this process's namespace.
func mounts(tb testing.TB) []string {
	tb.Helper()
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		tb.Fatal(err)
	}
	var all []string
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 4 {
			all = append(all, f[4])
		}
	}
	return all
}

type process struct {
	pid     int
	command string
}

// processes are those whose command line holds a text; this one never counts.
func processes(tb testing.TB, text string) []process {
	tb.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		tb.Fatal(err)
	}
	var all []process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		raw, err := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		if command := strings.ReplaceAll(string(raw), "\x00", " "); err == nil && strings.Contains(command, text) {
			all = append(all, process{pid, command})
		}
	}
	return all
}

// files are those of the pods below ROOT and RUN, the runtime's folders for
// them and the leases that are held.
func (inv Inventory) files(tb testing.TB, n *Node, ids *names) {
	tb.Helper()
	for _, dir := range []string{filepath.Join(n.Root, "pods"), filepath.Join(n.Root, "logs"), filepath.Join(n.Run, "pods")} {
		_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && path != dir && !strings.Contains(path, "/volumes/") {
				inv.add(ids, "file %s", strings.TrimPrefix(path, n.Dir))
			}
			return nil
		})
	}
	for _, pattern := range []string{"/root/containerd/root/io.containerd.grpc.v1.cri/*/*", "/run/containerd/state/io.containerd.runtime.v2.task/k8s.io/*"} {
		found, err := filepath.Glob(n.Dir + pattern)
		if err != nil {
			tb.Fatal(err)
		}
		for _, path := range found {
			inv.add(ids, "file %s", strings.TrimPrefix(path, n.Dir))
		}
	}
	records, _ := filepath.Glob(filepath.Join(n.Root, "records", "default_*"))
	for _, path := range records {
		pod := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), "default_"), ".json")
		inv[pod] = append(inv[pod], "record")
	}
	leases, _ := os.ReadDir(filepath.Join(n.Run, "leases"))
	for _, l := range leases {
		var held struct {
			Addresses []string `json:"addresses"`
			Released  int64    `json:"released"`
		}
		text, err := os.ReadFile(filepath.Join(n.Run, "leases", l.Name()))
		if err != nil || json.Unmarshal(text, &held) != nil || held.Released != 0 {
			continue
		}
		inv.add(ids, "lease of %d addresses for %s", len(held.Addresses), l.Name())
	}
}
