package agentproc

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
)

// baseline is what was there before a node.
type baseline struct{ mounts, links map[string]bool }

func look(tb testing.TB) baseline {
	tb.Helper()
	b := baseline{map[string]bool{}, map[string]bool{}}
	for _, m := range mounts(tb) {
		b.mounts[m] = true
	}
	links, err := netlink.LinkList()
	if err != nil {
		tb.Fatal(err)
	}
	for _, l := range links {
		b.links[l.Attrs().Name] = true
	}
	return b
}

// Ignore says that a link, made after New, is the test's.
func (n *Node) Ignore(link string) { n.before.links[link] = true }

// verify asserts that nothing of the node is left. A veth goes some time
// after its namespace, a cgroup after its last process.
func (b baseline) verify(tb testing.TB, n *Node) {
	tb.Helper()
	Eventually(tb, "nothing of the node is left", func() error {
		if left := b.left(tb, n); len(left) > 0 {
			return fmt.Errorf("left behind: %s", strings.Join(left, "; "))
		}
		return nil
	})
}

func (b baseline) left(tb testing.TB, n *Node) []string {
	var left []string
	for _, p := range processes(tb, n.Dir+"/") {
		if !strings.HasPrefix(p.command, "/bin/sh -c \nread") { // the guard
			left = append(left, fmt.Sprintf("process %d %s", p.pid, p.command))
		}
	}
	for _, m := range mounts(tb) {
		if !b.mounts[m] && (strings.HasPrefix(m, n.Dir+"/") || netnsDir(m)) {
			left = append(left, "mount "+m)
		}
	}
	links, err := netlink.LinkList()
	if err != nil {
		tb.Fatal(err)
	}
	for _, l := range links {
		if !b.links[l.Attrs().Name] {
			left = append(left, "link "+l.Attrs().Name+" "+l.Attrs().Alias)
		}
	}
	groups, err := filepath.Glob("/sys/fs/cgroup/*/pinnace-" + n.Instance + "*")
	if err != nil {
		tb.Fatal(err)
	}
	for _, dir := range append(groups, cgroups(tb, n.Instance)...) {
		left = append(left, "cgroup "+dir)
	}
	for _, list := range [][]string{{"iptables-save"}, {"ip6tables-save"}, {"nft", "list", "ruleset"}} {
		out, err := exec.Command(list[0], list[1:]...).Output()
		if err != nil || strings.Contains(string(out), n.Instance) {
			left = append(left, fmt.Sprintf("rules: %v %s", err, out))
		}
	}
	for _, dir := range []string{n.Root, n.Run} {
		found, _ := filepath.Glob(dir + "/*")
		for _, path := range found {
			if path != filepath.Join(n.Root, "images") && path != filepath.Join(n.Root, "registry.json") {
				left = append(left, "file "+path)
			}
		}
	}
	return left
}

// Settle waits until the inventory is the expected one, and ends the test
// with the difference when it never is.
func (n *Node) Settle(tb testing.TB, want Inventory) {
	tb.Helper()
	Eventually(tb, "the inventory is the expected one", func() error {
		if diff := n.Inventory(tb).Diff(want); diff != "" {
			return fmt.Errorf("\n%s", diff)
		}
		return nil
	})
}

// Exists reports whether a path is there.
func Exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
