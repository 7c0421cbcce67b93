package etc

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// What the resolver in a container can hold. Kubernetes documents the same
// limits; a single domain beyond the last crashes some versions of glibc.
const (
	maxServers     = 3
	maxSearches    = 32
	maxSearchChars = 2048
	maxDomain      = validation.DNS1123SubdomainMaxLength
)

// ClusterDNS is the service that resolves names of services; no Servers means
// that there is none.
type ClusterDNS struct {
	Servers []netip.Addr
	Domain  string
}

// DNS is the pod's resolv.conf by its dnsPolicy, with its dnsConfig merged
// in. The second value says what could not be had as asked for, "" when all
// was.
func DNS(pod *corev1.Pod, node Resolv, cluster ClusterDNS) (*runtimeapi.DNSConfig, string) {
	var warnings []string
	conf := &runtimeapi.DNSConfig{}
	inherit := func() {
		conf.Servers = slices.Clone(node.Servers)
		conf.Searches = slices.Clone(node.Searches)
		conf.Options = slices.Clone(node.Options)
	}
	switch policy := policyOf(pod); {
	case policy == corev1.DNSNone:
	case policy == corev1.DNSDefault:
		inherit()
	case len(cluster.Servers) == 0:
		inherit()
		warnings = append(warnings, fmt.Sprintf("dnsPolicy %s: this node has no cluster DNS; the pod uses the node's (dnsPolicy Default)",
			pod.Spec.DNSPolicy))
	default:
		for _, ip := range cluster.Servers {
			conf.Servers = append(conf.Servers, ip.String())
		}
		conf.Searches = clusterSearches(pod.Namespace, cluster.Domain, node.Searches)
		conf.Options = []string{"ndots:5"}
	}
	merge(conf, pod.Spec.DNSConfig)
	warnings = append(warnings, fit(conf)...)
	warnings = append(warnings, unreachable(pod, conf.Servers)...)
	return conf, strings.Join(warnings, "; ")
}

// policyOf is the policy that counts: on the node's network ClusterFirst is
// Default, and ClusterFirstWithHostNet is ClusterFirst everywhere.
func policyOf(pod *corev1.Pod) corev1.DNSPolicy {
	switch pod.Spec.DNSPolicy {
	case corev1.DNSNone, corev1.DNSDefault:
		return pod.Spec.DNSPolicy
	case corev1.DNSClusterFirstWithHostNet:
		return corev1.DNSClusterFirst
	}
	if pod.Spec.HostNetwork {
		return corev1.DNSDefault
	}
	return corev1.DNSClusterFirst
}

// clusterSearches are the namespace's names, all services', the cluster's,
// then the node's.
func clusterSearches(namespace, domain string, node []string) []string {
	if domain == "" {
		return slices.Clone(node)
	}
	return unique(append([]string{namespace + ".svc." + domain, "svc." + domain, domain}, node...))
}

// merge adds what the pod configures; its options win.
func merge(conf *runtimeapi.DNSConfig, more *corev1.PodDNSConfig) {
	if more == nil {
		return
	}
	conf.Servers = unique(append(conf.Servers, more.Nameservers...))
	conf.Searches = unique(append(conf.Searches, more.Searches...))
	for _, o := range more.Options {
		word := o.Name
		if o.Value != nil && *o.Value != "" {
			word += ":" + *o.Value
		}
		conf.Options = setOptions(conf.Options, []string{word})
	}
}

// fit leaves out what the resolver could not hold, from the end, and says so.
func fit(conf *runtimeapi.DNSConfig) (warnings []string) {
	if n := len(conf.Servers); n > maxServers {
		conf.Servers = conf.Servers[:maxServers]
		warnings = append(warnings, fmt.Sprintf("only the first %d of %d nameservers are used: %s",
			maxServers, n, strings.Join(conf.Servers, " ")))
	}
	n := len(conf.Searches)
	conf.Searches = conf.Searches[:min(n, maxSearches)]
	conf.Searches = slices.DeleteFunc(conf.Searches, func(d string) bool { return len(d) > maxDomain })
	for len(strings.Join(conf.Searches, " ")) > maxSearchChars {
		conf.Searches = conf.Searches[:len(conf.Searches)-1]
	}
	if len(conf.Searches) < n {
		warnings = append(warnings, fmt.Sprintf("only %d of %d search domains fit: %s",
			len(conf.Searches), n, strings.Join(conf.Searches, " ")))
	}
	return warnings
}

// unreachable finds servers that listen on the node's loopback alone, which a
// pod with a network of its own cannot ask. They stay, as everywhere in
// Kubernetes; the node's --resolv-conf is where to cure it.
func unreachable(pod *corev1.Pod, servers []string) (warnings []string) {
	if pod.Spec.HostNetwork {
		return nil
	}
	for _, s := range servers {
		if ip, err := netip.ParseAddr(s); err == nil && ip.IsLoopback() {
			warnings = append(warnings, fmt.Sprintf("nameserver %s is a loopback address, which the pod's network does not reach", s))
		}
	}
	return warnings
}

// unique keeps the first of equals.
func unique(words []string) []string {
	var out []string
	for _, w := range words {
		if !slices.Contains(out, w) {
			out = append(out, w)
		}
	}
	return out
}
