package etc_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"pinnace/agent/etc"
)

func TestDNS(t *testing.T) {
	node := etc.Resolv{Servers: []string{"192.0.2.53"}, Searches: []string{"example.com"}, Options: []string{"ndots:1", "rotate"}}
	cluster := etc.ClusterDNS{Servers: []netip.Addr{netip.MustParseAddr("10.96.0.10")}, Domain: "cluster.local"}
	clusters := etc.Resolv{
		Servers:  []string{"10.96.0.10"},
		Searches: []string{"shop.svc.cluster.local", "svc.cluster.local", "cluster.local", "example.com"},
		Options:  []string{"ndots:5"},
	}
	own := &corev1.PodDNSConfig{
		Nameservers: []string{"192.0.2.1", "192.0.2.53"},
		Searches:    []string{"example.com", "more.example"},
		Options:     []corev1.PodDNSConfigOption{{Name: "ndots", Value: ptr.To("2")}, {Name: "edns0"}},
	}
	tests := []struct {
		name    string
		spec    corev1.PodSpec
		cluster etc.ClusterDNS
		want    etc.Resolv
		warning string
	}{
		{name: "Default", spec: corev1.PodSpec{DNSPolicy: corev1.DNSDefault}, cluster: cluster, want: node},
		{name: "ClusterFirst", spec: corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirst}, cluster: cluster, want: clusters},
		{name: "ClusterFirst without cluster DNS", spec: corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirst}, want: node,
			warning: "dnsPolicy ClusterFirst: this node has no cluster DNS; the pod uses the node's (dnsPolicy Default)"},
		{name: "ClusterFirst without domain", spec: corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirst},
			cluster: etc.ClusterDNS{Servers: cluster.Servers},
			want:    etc.Resolv{Servers: clusters.Servers, Searches: node.Searches, Options: clusters.Options}},
		{name: "ClusterFirst on the node's network is Default",
			spec: corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirst, HostNetwork: true}, cluster: cluster, want: node},
		{name: "ClusterFirst on the node's network wants no cluster DNS",
			spec: corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirst, HostNetwork: true}, want: node},
		{name: "ClusterFirstWithHostNet", cluster: cluster, want: clusters,
			spec: corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirstWithHostNet, HostNetwork: true}},
		{name: "ClusterFirstWithHostNet without cluster DNS", want: node,
			spec:    corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirstWithHostNet, HostNetwork: true},
			warning: "dnsPolicy ClusterFirstWithHostNet: this node has no cluster DNS"},
		{name: "None", spec: corev1.PodSpec{DNSPolicy: corev1.DNSNone, DNSConfig: own}, cluster: cluster,
			want: etc.Resolv{Servers: own.Nameservers, Searches: own.Searches, Options: []string{"ndots:2", "edns0"}}},
		{name: "merged into Default", spec: corev1.PodSpec{DNSPolicy: corev1.DNSDefault, DNSConfig: own}, cluster: cluster,
			want: etc.Resolv{
				Servers:  []string{"192.0.2.53", "192.0.2.1"},
				Searches: []string{"example.com", "more.example"},
				Options:  []string{"ndots:2", "rotate", "edns0"},
			}},
		{name: "merged into ClusterFirst", spec: corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirst, DNSConfig: own}, cluster: cluster,
			want: etc.Resolv{
				Servers:  []string{"10.96.0.10", "192.0.2.1", "192.0.2.53"},
				Searches: append(slices.Clone(clusters.Searches), "more.example"),
				Options:  []string{"ndots:2", "edns0"},
			}},
		{name: "loopback", spec: corev1.PodSpec{DNSPolicy: corev1.DNSNone, DNSConfig: &corev1.PodDNSConfig{Nameservers: []string{"127.0.0.53"}}},
			want: etc.Resolv{Servers: []string{"127.0.0.53"}}, warning: "nameserver 127.0.0.53 is a loopback address"},
		{name: "too many servers", spec: corev1.PodSpec{DNSPolicy: corev1.DNSDefault, DNSConfig: &corev1.PodDNSConfig{
			Nameservers: []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"}}},
			want:    etc.Resolv{Servers: []string{"192.0.2.53", "192.0.2.1", "192.0.2.2"}, Searches: node.Searches, Options: node.Options},
			warning: "only the first 3 of 4 nameservers are used: 192.0.2.53 192.0.2.1 192.0.2.2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := fmt.Sprint(node)
			conf, warning := etc.DNS(pod("web", tt.spec), node, tt.cluster)
			got := etc.Resolv{Servers: conf.Servers, Searches: conf.Searches, Options: conf.Options}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if (tt.warning == "") != (warning == "") || !strings.Contains(warning, tt.warning) {
				t.Errorf("warning %q; want %q", warning, tt.warning)
			}
			if fmt.Sprint(node) != before {
				t.Errorf("the node's configuration was changed: %v", node)
			}
		})
	}
}

func TestDNSLimits(t *testing.T) {
	domains := func(n, length int) (all []string) {
		for i := range n {
			all = append(all, strings.Repeat("x", length-2)+fmt.Sprintf("%02d", i))
		}
		return all
	}
	tests := []struct {
		name     string
		searches []string
		want     int
		warns    bool
	}{
		{"as many as there may be", domains(32, 10), 32, false},
		{"one more", domains(33, 10), 32, true},
		{"as long as it may be", domains(8, 253), 8, false},
		{"too long in all", domains(12, 200), 10, true},
		{"one that crashes glibc", append(domains(2, 10), strings.Repeat("y", 254)), 2, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := pod("web", corev1.PodSpec{DNSPolicy: corev1.DNSNone, DNSConfig: &corev1.PodDNSConfig{Searches: tt.searches}})
			conf, warning := etc.DNS(p, etc.Resolv{}, etc.ClusterDNS{})
			if !slices.Equal(conf.Searches, tt.searches[:tt.want]) || tt.warns != strings.Contains(warning, "search domains fit") {
				t.Errorf("%d of %d are used, warning %q; want the first %d, a warning: %t",
					len(conf.Searches), len(tt.searches), warning, tt.want, tt.warns)
			}
		})
	}
}
