package network

import (
	"crypto/sha1"
	"encoding/hex"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"time"

	"pinnace/network/lease"
)

// What marks a thing in the kernel as ours, each with its reason.
const (
	// routeProtocol stands on every route of ours. It is in nobody's
	// rt_protos file: 80 is Felix's, 84 OVN's, 99 OpenR's.
	routeProtocol = 112
	// aliasWord opens the alias of every link of ours; the instance and the
	// sandbox id follow.
	aliasWord = "pinnace"
	// linkNameSize is IFNAMSIZ without its final zero.
	linkNameSize = 15
)

const (
	// settle is how long the link of a sandbox that the runtime does not list
	// is left alone: a runtime lists a sandbox only after its network is up
	// and its first process runs.
	settle = time.Minute
	// minMTU is IPv6's smallest link MTU, wanted on dual-stack pods.
	minMTU = 1280
	// plainMTU is used when no default route names a link to follow.
	plainMTU = 1500
)

// instancePattern leaves at least seven hash digits in a link's name.
var instancePattern = regexp.MustCompile(`^[a-z][a-z0-9]{0,7}$`)

// gateway is the next hop that pods see. It is never configured anywhere:
// a permanent neighbour entry in the pod points it at hostMAC.
func gateway(v4 bool) netip.Addr {
	if v4 {
		return netip.AddrFrom4([4]byte{169, 254, 1, 1})
	}
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 15: 1})
}

// hostMAC is the address of every veth's host side. One fixed address lets
// the pod's neighbour entry be permanent and survive a new link.
func hostMAC() net.HardwareAddr {
	return net.HardwareAddr{0x02, 0xaa, 0x70, 0x69, 0x6e, 0x01}
}

// podMAC is derived from the sandbox, so that the host's neighbour entry can
// be permanent too.
func podMAC(sandbox string) net.HardwareAddr {
	sum := sha1.Sum([]byte(sandbox))
	mac := net.HardwareAddr(sum[10:16])
	mac[0] = mac[0]&^1 | 2 // unicast, locally administered
	return mac
}

// linkName is the host side's name: the instance, then a hash of the sandbox.
func linkName(instance, sandbox string) string {
	sum := sha1.Sum([]byte(sandbox))
	return (instance + hex.EncodeToString(sum[:8]))[:linkNameSize]
}

// linkAlias proves who made a link and for which sandbox.
func linkAlias(instance, sandbox string) string {
	return aliasWord + " " + instance + " " + sandbox
}

// sandboxOf reads an alias back; false when the link is not this instance's.
func sandboxOf(instance, alias string) (string, bool) {
	id, ok := strings.CutPrefix(alias, aliasWord+" "+instance+" ")
	return id, ok && lease.ValidID(id)
}

// addrLabel marks the node's IPv4 address on lo; the kernel has no label for
// IPv6.
func addrLabel(instance string) string { return "lo:" + instance }

// nodeAddr is the node's own address in a pod prefix: the first.
func nodeAddr(p netip.Prefix) netip.Addr { return p.Masked().Addr().Next() }

// hostPrefix is the address alone, as a prefix.
func hostPrefix(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// ipNet converts at netlink's edge.
func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// prefixOf converts back; the invalid prefix for nil.
func prefixOf(n *net.IPNet) netip.Prefix {
	if n == nil {
		return netip.Prefix{}
	}
	a, ok := netip.AddrFromSlice(n.IP)
	if !ok {
		return netip.Prefix{}
	}
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), ones)
}
