package etc

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/utils/ptr"
)

// The kernel's nodename holds 64 bytes; of a plain host name Kubernetes uses
// one less.
const (
	maxNodename = 64
	maxHostname = 63
)

// Hostname returns the pod's host name, as its processes see it, and its
// fully qualified name, "" for a pod without a subdomain. A name that is too
// long is cut; a fully qualified one, asked for as host name, is an error.
func Hostname(pod *corev1.Pod, clusterDomain string) (host, fqdn string, err error) {
	host, err = short(pod)
	if err != nil {
		return "", "", fmt.Errorf("name host of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	if pod.Spec.HostnameOverride != nil || pod.Spec.Subdomain == "" {
		return host, "", nil
	}
	fqdn = strings.Join([]string{host, pod.Spec.Subdomain, pod.Namespace, "svc", clusterDomain}, ".")
	if !ptr.Deref(pod.Spec.SetHostnameAsFQDN, false) {
		return host, fqdn, nil
	}
	if len(fqdn) > maxNodename {
		return "", "", fmt.Errorf("name host of pod %s/%s: setHostnameAsFQDN: %s has %d characters; the kernel holds %d",
			pod.Namespace, pod.Name, fqdn, len(fqdn), maxNodename)
	}
	return fqdn, fqdn, nil
}

// short is the pod's name without a domain.
func short(pod *corev1.Pod) (string, error) {
	name := pod.Name
	if pod.Spec.Hostname != "" {
		name = pod.Spec.Hostname
	}
	name = ptr.Deref(pod.Spec.HostnameOverride, name)
	if len(name) > maxHostname {
		name = strings.TrimRight(name[:maxHostname], "-.")
	}
	// It ends up in a file of lines and words.
	if msgs := validation.IsDNS1123Subdomain(name); len(msgs) > 0 {
		return "", fmt.Errorf("%q is not a host name: %s", name, strings.Join(msgs, "; "))
	}
	return name, nil
}
