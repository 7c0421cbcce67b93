// Package rule owns the packet filter rules of the pod network: the egress
// masquerade and the leave to be forwarded, in chains that carry this
// instance's name. A pure function writes them as text; the host's own
// iptables tools apply it. It never edits a chain of anybody else beyond the
// one jump in each built-in chain, and it knows no service.
package rule

import (
	"net/netip"
	"slices"
	"strings"
)

// Config says whose pods the rules are for.
type Config struct {
	Instance string
	Pods     []netip.Prefix // one per family at most
	Cluster  []netip.Prefix // further destinations that see a pod's own address
}

func (c Config) pods(v4 bool) (netip.Prefix, bool) {
	for _, p := range c.Pods {
		if p.Addr().Is4() == v4 {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

// ruleset is what one family's packet filter holds of ours. It is text that
// a person can paste into iptables-restore --noflush, its lines in the form
// in which iptables -S prints them.
type ruleset struct {
	v4     bool
	chains []chain
	jumps  []jump
}

// chain is one chain of ours with its whole content.
type chain struct {
	table, name string
	rules       []string
}

// jump leads from a built-in chain into one of ours.
type jump struct{ table, from, to, comment string }

// spec is the jump's rule as arguments.
func (j jump) spec() []string {
	return []string{"-m", "comment", "--comment", j.comment, "-j", j.to}
}

func chainName(instance, part string) string { return "PIN-" + instance + "-" + part }

// masks is what the iptables of this host can do.
type masks struct{ randomFully bool }

// compile turns the configuration into one family's rules. A family
// without pod prefix has none: its zero ruleset means that nothing of ours
// may be there.
//
//	POSTROUTING -> POST -> from a pod? -> EGRESS -> to a pod, a neighbour node's
//	                                      pod, a group or this node: as it is
//	                                      anywhere else: masquerade
//	FORWARD     -> FWD  -> from or to a pod: accept
func compile(cfg Config, v4 bool, m masks) ruleset {
	rs := ruleset{v4: v4}
	pods, ok := cfg.pods(v4)
	if !ok {
		return rs
	}
	post, egress, fwd := chainName(cfg.Instance, "POST"), chainName(cfg.Instance, "EGRESS"), chainName(cfg.Instance, "FWD")
	groups, masquerade := "ff00::/8", " -j MASQUERADE"
	if v4 {
		groups = "224.0.0.0/4"
	}
	if m.randomFully {
		masquerade += " --random-fully"
	}
	var stay []string
	for _, p := range unmasqueraded(cfg, pods) {
		stay = append(stay, "-A "+egress+" -d "+p.String()+" -j RETURN")
	}
	rs.chains = []chain{
		{"nat", egress, append(stay,
			"-A "+egress+" -d "+groups+" -j RETURN",
			"-A "+egress+" -m addrtype --dst-type LOCAL -j RETURN",
			"-A "+egress+masquerade,
		)},
		{"nat", post, []string{"-A " + post + " -s " + pods.String() + " -g " + egress}},
		{"filter", fwd, []string{
			"-A " + fwd + " -s " + pods.String() + " -j ACCEPT",
			"-A " + fwd + " -d " + pods.String() + " -j ACCEPT",
		}},
	}
	comment := "pinnace " + cfg.Instance
	rs.jumps = []jump{
		{"nat", "POSTROUTING", post, comment},
		{"filter", "FORWARD", fwd, comment},
	}
	return rs
}

// unmasqueraded lists the destinations that see a pod's own address, widest
// first, none inside another.
func unmasqueraded(cfg Config, pods netip.Prefix) []netip.Prefix {
	all := []netip.Prefix{pods}
	for _, p := range cfg.Cluster {
		if p.Addr().Is4() == pods.Addr().Is4() {
			all = append(all, p.Masked())
		}
	}
	slices.SortFunc(all, func(a, b netip.Prefix) int {
		if a.Bits() != b.Bits() {
			return a.Bits() - b.Bits()
		}
		return a.Addr().Compare(b.Addr())
	})
	var out []netip.Prefix
	for _, p := range all {
		if !slices.ContainsFunc(out, func(q netip.Prefix) bool { return q.Overlaps(p) }) {
			out = append(out, p)
		}
	}
	return out
}

// render writes the chains as one transaction: naming a chain creates or
// empties it. The jumps are not part of it, since --noflush would add them
// again each time.
func (rs ruleset) render() string {
	var b strings.Builder
	for _, table := range []string{"nat", "filter"} {
		var head, body strings.Builder
		for _, c := range rs.chains {
			if c.table != table {
				continue
			}
			head.WriteString(":" + c.name + " - [0:0]\n")
			for _, r := range c.rules {
				body.WriteString(r + "\n")
			}
		}
		if head.Len() > 0 {
			b.WriteString("*" + table + "\n" + head.String() + body.String() + "COMMIT\n")
		}
	}
	return b.String()
}
