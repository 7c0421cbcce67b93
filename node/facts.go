package node

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"pinnace/cri"
)

// machine reads what pods must know of the host: what the kernel can do, and
// how much there is of it.
func machine(unified bool, root string) (cri.NodeFacts, corev1.ResourceList, error) {
	memory, err := totalMemory()
	if err != nil {
		return cri.NodeFacts{}, nil, err
	}
	facts := cri.NodeFacts{
		MemoryCapacity: memory,
		PageSizes:      pageSizes("/sys/kernel/mm/hugepages"),
		Unified:        unified,
		SwapAccounting: exists("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes"),
		SeccompRoot:    filepath.Join(root, "seccomp"),
	}
	if unified {
		files, _ := filepath.Glob("/sys/fs/cgroup/*/memory.swap.max")
		facts.SwapAccounting = len(files) > 0
	}
	if on, err := os.ReadFile("/sys/module/apparmor/parameters/enabled"); err == nil {
		facts.AppArmor = strings.HasPrefix(string(on), "Y")
	}
	return facts, corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewQuantity(int64(runtime.NumCPU()), resource.DecimalSI),
		corev1.ResourceMemory: *resource.NewQuantity(memory, resource.BinarySI),
		corev1.ResourcePods:   *resource.NewQuantity(110, resource.DecimalSI),
	}, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// totalMemory is the host's memory in bytes, as /proc/meminfo has it.
func totalMemory() (int64, error) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		fields := strings.Fields(sc.Text())
		if len(fields) == 3 && fields[0] == "MemTotal:" {
			kb, err := strconv.ParseInt(fields[1], 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("read %s: no MemTotal", f.Name())
}

// pageSizes spells the kernel's huge page sizes as its cgroups do: 2MB, 1GB.
func pageSizes(dir string) []string {
	var sizes []string
	files, _ := os.ReadDir(dir)
	for _, f := range files {
		kb, err := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(f.Name(), "hugepages-"), "kB"))
		switch {
		case err != nil:
		case kb >= 1<<20:
			sizes = append(sizes, fmt.Sprintf("%dGB", kb>>20))
		case kb >= 1<<10:
			sizes = append(sizes, fmt.Sprintf("%dMB", kb>>10))
		default:
			sizes = append(sizes, fmt.Sprintf("%dKB", kb))
		}
	}
	return sizes
}

// nodeIPs are the host's addresses, one per family: that which packets to the
// outside would leave from, else the first global one. Pod prefixes do not count.
func nodeIPs(pods []netip.Prefix) []netip.Addr {
	var all []netip.Addr
	for _, outside := range []string{"192.0.2.1:9", "[2001:db8::1]:9"} {
		// Connecting a UDP socket sends nothing: it only asks the routing table.
		if c, err := net.Dial("udp", outside); err == nil {
			all = append(all, c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap())
			c.Close()
		}
	}
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			all = append(all, p.Addr().Unmap())
		}
	}
	var chosen []netip.Addr
	for _, a := range all {
		ours := slices.ContainsFunc(pods, func(p netip.Prefix) bool { return p.Contains(a) })
		same := slices.ContainsFunc(chosen, func(c netip.Addr) bool { return c.Is4() == a.Is4() })
		if a.IsGlobalUnicast() && !ours && !same {
			chosen = append(chosen, a)
		}
	}
	slices.SortStableFunc(chosen, func(a, b netip.Addr) int {
		if a.Is4() != b.Is4() && b.Is4() {
			return 1
		}
		return -1
	})
	return chosen
}
