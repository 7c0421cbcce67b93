// Package network owns the pods' network on this node: it leases addresses,
// wires each sandbox to the host with a veth pair, keeps the node's pod-side
// addresses, the egress masquerade and the rules that let pod traffic be
// forwarded, and answers the CNI hook on a unix socket. It knows no
// Kubernetes type and no service; it never touches a link, address, route or
// rule that does not carry this instance's mark.
//
// It is driven by New, which reads the leases of an earlier run, Start, which
// brings the node to the desired state and opens the socket, and Run, which
// serves the hook until its context ends. Leaving takes nothing down: pods
// keep their traffic while nobody runs. docs/datapath.md draws the packets.
package network
