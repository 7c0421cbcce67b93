package agentproc

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// KillRuntime ends the node's own containerd with SIGKILL; its shims go on.
func (n *Node) KillRuntime(tb testing.TB) {
	tb.Helper()
	killed := false
	for _, p := range processes(tb, "--config "+filepath.Join(n.Root, "containerd", "config.toml")) {
		killed = true
		if err := syscall.Kill(p.pid, syscall.SIGKILL); err != nil {
			tb.Fatal(err)
		}
	}
	if !killed {
		tb.Fatal("no containerd of this node runs")
	}
}

// Reboot takes from the node what a reboot of its host does: processes,
// mounts, links, rules, addresses, cgroups, RUN and the boot id. ROOT stays.
func (n *Node) Reboot(tb testing.TB) {
	tb.Helper()
	n.Kill(tb)
	n.KillRuntime(tb)
	n.killPods(tb)
	all := mounts(tb)
	slices.Reverse(all) // later ones lie on top of earlier ones
	for _, m := range all {
		if strings.HasPrefix(m, n.Dir+"/") || netnsDir(m) && !n.before.mounts[m] {
			if err := unix.Unmount(m, unix.MNT_DETACH); err != nil {
				tb.Fatalf("unmount %s: %v", m, err)
			}
		}
	}
	if err := os.RemoveAll(n.Run); err != nil {
		tb.Fatal(err)
	}
	if out, err := exec.Command("nft", "flush", "ruleset").CombinedOutput(); err != nil {
		tb.Fatalf("nft: %v: %s", err, out)
	}
	n.forgetAddresses(tb)
	Eventually(tb, "links and cgroups are gone", func() error {
		groups := cgroups(tb, n.Instance)
		slices.Reverse(groups)
		for _, dir := range groups {
			if err := os.Remove(filepath.Join("/sys/fs/cgroup", dir)); err != nil && !os.IsNotExist(err) {
				return err
			}
		}
		return nil
	})
	n.newBoot(tb)
}

// killPods kills the shims, then what runs in the pods' cgroups.
func (n *Node) killPods(tb testing.TB) {
	tb.Helper()
	for _, p := range n.shims(tb) {
		_ = syscall.Kill(p.pid, syscall.SIGKILL) // gone is good
	}
	for _, dir := range cgroups(tb, n.Instance) {
		text, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", dir, "cgroup.procs"))
		if err != nil {
			continue
		}
		for _, pid := range strings.Fields(string(text)) {
			if pid, err := strconv.Atoi(pid); err == nil && pid > 1 {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	}
}

// forgetAddresses leaves lo with what every lo has.
func (n *Node) forgetAddresses(tb testing.TB) {
	tb.Helper()
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		tb.Fatal(err)
	}
	addrs, err := netlink.AddrList(lo, netlink.FAMILY_ALL)
	if err != nil {
		tb.Fatal(err)
	}
	for _, a := range addrs {
		if a.IP.IsLoopback() {
			continue
		}
		if err := netlink.AddrDel(lo, &a); err != nil {
			tb.Fatal(err)
		}
	}
}

// newBoot shows another boot id to everything in this mount namespace.
func (n *Node) newBoot(tb testing.TB) {
	tb.Helper()
	const file = "/proc/sys/kernel/random/boot_id"
	id, err := os.ReadFile("/proc/sys/kernel/random/uuid")
	if err != nil {
		tb.Fatal(err)
	}
	other := filepath.Join(n.Dir, "boot_id")
	if err := os.WriteFile(other, id, 0o444); err != nil {
		tb.Fatal(err)
	}
	if err := unix.Mount(other, file, "", unix.MS_BIND, ""); err != nil {
		tb.Fatalf("show another boot id: %v", err)
	}
	tb.Cleanup(func() {
		if err := unix.Unmount(file, unix.MNT_DETACH); err != nil {
			tb.Errorf("show the true boot id: %v", err)
		}
	})
}
