package etc_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"pinnace/agent/etc"
)

func pod(name string, spec corev1.PodSpec) *corev1.Pod {
	p := &corev1.Pod{Spec: spec}
	p.Name, p.Namespace = name, "shop"
	return p
}

func TestHostname(t *testing.T) {
	long := strings.Repeat("a", 70)
	tests := []struct {
		name       string
		pod        *corev1.Pod
		host, fqdn string
		err        string
	}{
		{name: "the pod's name", pod: pod("web", corev1.PodSpec{}), host: "web"},
		{name: "hostname", pod: pod("web", corev1.PodSpec{Hostname: "front"}), host: "front"},
		{name: "subdomain", pod: pod("web", corev1.PodSpec{Subdomain: "sites"}), host: "web", fqdn: "web.sites.shop.svc.cluster.local"},
		{name: "both", pod: pod("web", corev1.PodSpec{Hostname: "front", Subdomain: "sites"}),
			host: "front", fqdn: "front.sites.shop.svc.cluster.local"},
		{name: "fqdn as host name", pod: pod("web", corev1.PodSpec{Subdomain: "sites", SetHostnameAsFQDN: ptr.To(true)}),
			host: "web.sites.shop.svc.cluster.local", fqdn: "web.sites.shop.svc.cluster.local"},
		{name: "fqdn without subdomain", pod: pod("web", corev1.PodSpec{SetHostnameAsFQDN: ptr.To(true)}), host: "web"},
		{name: "fqdn too long", pod: pod(long[:40], corev1.PodSpec{Subdomain: "sites", SetHostnameAsFQDN: ptr.To(true)}),
			err: "has 69 characters; the kernel holds 64"},
		{name: "override", pod: pod("web", corev1.PodSpec{HostnameOverride: ptr.To("a.example.com"), Subdomain: "sites"}), host: "a.example.com"},
		{name: "cut", pod: pod(long, corev1.PodSpec{}), host: long[:63]},
		{name: "not cut behind a dash", pod: pod(long[:61]+"--b", corev1.PodSpec{}), host: long[:61]},
		{name: "not a name", pod: pod("web", corev1.PodSpec{Hostname: "a\nb"}), err: "is not a host name"},
		{name: "nothing left of it", pod: pod(strings.Repeat("-", 70), corev1.PodSpec{}), err: "is not a host name"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			host, fqdn, err := etc.Hostname(tt.pod, "cluster.local")
			if host != tt.host || fqdn != tt.fqdn || (err == nil) != (tt.err == "") {
				t.Errorf("got %q, %q, %v; want %q, %q, %q", host, fqdn, err, tt.host, tt.fqdn, tt.err)
			}
			if err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("got %v; want %q", err, tt.err)
			}
		})
	}
}

const managed = `# Pinnace keeps this file; edits are lost.
127.0.0.1	localhost
::1	localhost ip6-localhost ip6-loopback
fe00::0	ip6-localnet
ff00::0	ip6-mcastprefix
ff02::1	ip6-allnodes
ff02::2	ip6-allrouters
`

func TestHosts(t *testing.T) {
	ips := []netip.Addr{netip.MustParseAddr("10.85.0.7"), netip.MustParseAddr("fd00:85::7")}
	aliases := []corev1.HostAlias{{IP: "192.0.2.9", Hostnames: []string{"a", "b"}}, {IP: "192.0.2.8", Hostnames: []string{"c"}}}
	tests := []struct {
		name string
		spec corev1.PodSpec
		node string
		want string
	}{
		{name: "plain", want: managed + "10.85.0.7\tweb\nfd00:85::7\tweb\n"},
		{name: "subdomain", spec: corev1.PodSpec{Subdomain: "sites"}, want: managed +
			"10.85.0.7\tweb.sites.shop.svc.local\tweb\nfd00:85::7\tweb.sites.shop.svc.local\tweb\n"},
		{name: "fqdn as host name", spec: corev1.PodSpec{Subdomain: "sites", SetHostnameAsFQDN: ptr.To(true)}, want: managed +
			"10.85.0.7\tweb.sites.shop.svc.local\tweb\nfd00:85::7\tweb.sites.shop.svc.local\tweb\n"},
		{name: "aliases", spec: corev1.PodSpec{HostAliases: aliases}, want: managed +
			"10.85.0.7\tweb\nfd00:85::7\tweb\n\n# From the pod's hostAliases.\n192.0.2.9\ta\tb\n192.0.2.8\tc\n"},
		{name: "the node's", spec: corev1.PodSpec{HostNetwork: true, HostAliases: aliases}, node: "127.0.0.1 localhost node", want: `# Pinnace keeps this file; edits are lost.
# Above the host aliases it is a copy of the node's.
127.0.0.1 localhost node

# From the pod's hostAliases.
192.0.2.9	a	b
192.0.2.8	c
`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := pod("web", tt.spec)
			got, err := etc.Hosts(p, ips, "local", []byte(tt.node))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, string(got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
