package agentproc

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"pinnace/cri"
)

// Inventory is all that is on the machine for a node's pods, one line per
// thing, by pod name. Ids are replaced by what they stand for, so that two
// inventories can be compared. What belongs to no pod stands under "".
type Inventory map[string][]string

// Container is a container as the runtime lists it, with its pod's name.
type Container struct {
	Pod string
	cri.Container
}

// names says what an id in a path or a name stands for.
type names struct {
	of        map[string]owner // by id, UID, or netns name
	addresses map[string]string
}

type owner struct{ pod, word string }

// Inventory looks at everything. Things come and go while it looks: compare
// it when the node has settled.
func (n *Node) Inventory(tb testing.TB) Inventory {
	tb.Helper()
	inv := Inventory{}
	ids := &names{of: map[string]owner{}, addresses: map[string]string{}}
	n.runtimeThings(tb, inv, ids)
	if r, err := n.Status(); err == nil {
		for _, p := range r.Pods {
			ids.of[p.UID] = owner{p.Name, "UID"}
		}
	}
	inv.kernelThings(tb, n, ids)
	inv.files(tb, n, ids)
	for _, lines := range inv {
		slices.Sort(lines)
	}
	return inv
}

// add puts a thing under the pod whose id its text holds.
func (inv Inventory) add(ids *names, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	pod := ""
	for id, o := range ids.of {
		if strings.Contains(text, id) {
			pod, text = o.pod, strings.ReplaceAll(text, id, o.word)
			text = strings.Replace(text, "default_"+pod+"_", "default_POD_", 1)
		}
	}
	inv[pod] = append(inv[pod], text)
}

// Containers lists every container of the node's pods.
func (n *Node) Containers(tb testing.TB) []Container {
	tb.Helper()
	sandboxes, err := n.Client(tb).Sandboxes(tb.Context(), nil)
	if err != nil {
		tb.Fatal(err)
	}
	pods := map[string]string{}
	for _, s := range sandboxes {
		pods[s.ID] = s.Name
	}
	list, err := n.Client(tb).Containers(tb.Context(), nil)
	if err != nil {
		tb.Fatal(err)
	}
	var all []Container
	for _, c := range list {
		all = append(all, Container{pods[c.SandboxID], c})
	}
	return all
}

// runtimeThings are the sandboxes, the containers and their addresses.
func (n *Node) runtimeThings(tb testing.TB, inv Inventory, ids *names) {
	tb.Helper()
	sandboxes, err := n.Client(tb).Sandboxes(tb.Context(), nil)
	if err != nil {
		tb.Fatal(err)
	}
	for _, s := range sandboxes {
		ids.of[s.ID] = owner{s.Name, "SANDBOX"}
		ids.of[s.UID] = owner{s.Name, "UID"}
		state := "not ready"
		if s.Ready {
			state = "ready"
		}
		inv.add(ids, "sandbox %s %s", s.ID, state)
		resp, err := n.Raw(tb).PodSandboxStatus(tb.Context(), &runtimeapi.PodSandboxStatusRequest{PodSandboxId: s.ID, Verbose: true})
		if err != nil {
			continue // it has gone meanwhile
		}
		if path := netnsOf(resp.GetInfo()["info"]); path != "" {
			ids.of[filepath.Base(path)] = owner{s.Name, "NETNS"}
		}
		ip := resp.GetStatus().GetNetwork()
		for i, a := range append([]*runtimeapi.PodIP{{Ip: ip.GetIp()}}, ip.GetAdditionalIps()...) {
			if a.GetIp() == "" {
				continue
			}
			if other, taken := ids.addresses[a.GetIp()]; taken {
				tb.Errorf("pods %s and %s both have %s", other, s.Name, a.GetIp())
			}
			ids.addresses[a.GetIp()] = s.Name
			inv.add(ids, "address %d of %s", i, s.ID)
		}
	}
	for _, c := range n.Containers(tb) {
		ids.of[c.ID] = owner{c.Pod, fmt.Sprintf("%s#%d", c.Name, c.Attempt)}
		inv.add(ids, "container %s %s", c.ID, n.state(tb, c))
	}
}

// state is a container's in a word; one that ended without having run never
// ran, because its start did not work or was cut short.
func (n *Node) state(tb testing.TB, c Container) string {
	tb.Helper()
	switch c.State {
	case cri.ContainerCreated:
		return "created"
	case cri.ContainerRunning:
		return "running"
	case cri.ContainerUnknown:
		return "unknown"
	}
	if full, err := n.Client(tb).Container(tb.Context(), c.ID); err == nil && (full.StartedAt.IsZero() || full.Reason == "StartError") {
		return "never ran"
	}
	return "exited"
}

// netnsOf reads the path of a sandbox's network namespace out of its verbose
// status.
func netnsOf(info string) string {
	var in struct {
		RuntimeSpec struct {
			Linux struct {
				Namespaces []struct{ Type, Path string } `json:"namespaces"`
			} `json:"linux"`
		} `json:"runtimeSpec"`
	}
	if json.Unmarshal([]byte(info), &in) != nil {
		return ""
	}
	for _, ns := range in.RuntimeSpec.Linux.Namespaces {
		if ns.Type == "network" {
			return ns.Path
		}
	}
	return ""
}

// Diff says how an inventory differs from what was expected; "" when it does not.
func (inv Inventory) Diff(want Inventory) string {
	var out []string
	pods := map[string]bool{}
	for p := range inv {
		pods[p] = true
	}
	for p := range want {
		pods[p] = true
	}
	for _, p := range slices.Sorted(maps.Keys(pods)) {
		for _, line := range minus(inv[p], want[p]) {
			out = append(out, fmt.Sprintf("too much of %q: %s", p, line))
		}
		for _, line := range minus(want[p], inv[p]) {
			out = append(out, fmt.Sprintf("missing of %q: %s", p, line))
		}
	}
	return strings.Join(out, "\n")
}

// minus is a without b, each line as often as it stands there.
func minus(a, b []string) []string {
	left := map[string]int{}
	for _, s := range b {
		left[s]++
	}
	var out []string
	for _, s := range a {
		if left[s]--; left[s] < 0 {
			out = append(out, s)
		}
	}
	return out
}
