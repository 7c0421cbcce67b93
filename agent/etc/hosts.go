package etc

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

const header = "# Pinnace keeps this file; edits are lost.\n"

// loopback is what every hosts file begins with.
const loopback = `127.0.0.1	localhost
::1	localhost ip6-localhost ip6-loopback
fe00::0	ip6-localnet
ff00::0	ip6-mcastprefix
ff02::1	ip6-allnodes
ff02::2	ip6-allrouters
`

// Hosts is the pod's /etc/hosts: loopback, the pod's own names at each of its
// addresses, its host aliases. A host-network pod has the node's file,
// nodeHosts, in place of the first two. The errors are Hostname's.
func Hosts(pod *corev1.Pod, ips []netip.Addr, clusterDomain string, nodeHosts []byte) ([]byte, error) {
	host, fqdn, err := Hostname(pod, clusterDomain)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.WriteString(header)
	if pod.Spec.HostNetwork {
		b.WriteString("# Above the host aliases it is a copy of the node's.\n")
		b.Write(nodeHosts)
		if len(nodeHosts) > 0 && !bytes.HasSuffix(nodeHosts, []byte("\n")) {
			b.WriteByte('\n')
		}
	} else {
		b.WriteString(loopback)
		names := names(pod, fqdn, host)
		for _, ip := range ips {
			fmt.Fprintf(&b, "%s\t%s\n", ip, strings.Join(names, "\t"))
		}
	}
	if len(pod.Spec.HostAliases) > 0 {
		b.WriteString("\n# From the pod's hostAliases.\n")
	}
	for _, alias := range pod.Spec.HostAliases {
		fmt.Fprintf(&b, "%s\t%s\n", alias.IP, strings.Join(alias.Hostnames, "\t"))
	}
	return b.Bytes(), nil
}

// names are the pod's own, the full one first, so that a lookup of its
// address answers with it.
func names(pod *corev1.Pod, fqdn, host string) []string {
	if fqdn == "" {
		return []string{host}
	}
	if host == fqdn { // setHostnameAsFQDN: the short one goes along all the same
		if name, err := short(pod); err == nil {
			host = name
		}
	}
	return []string{fqdn, host}
}
