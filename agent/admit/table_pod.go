package admit

import (
	"strings"
)

const (
	withAPI    = "comes with the API"
	setByNode  = "is set by the node; what the manifest says is dropped"
	lonely     = "a file in this node's directory runs on this node at once"
	profileFix = "set securityContext.seccompProfile instead"
)

// metadata judges what says who a pod is.
func metadata() []group {
	annotation := func(prefix string) func(at) bool {
		return func(a at) bool { return strings.HasPrefix(a.key, prefix) }
	}
	return []group{
		{paths: "metadata.{name,namespace} metadata.labels{} metadata.annotations{}", verdict: Honoured},
		{paths: "metadata.annotations{}", verdict: Refused, says: "seccomp annotations have had no effect since Kubernetes 1.27; " + profileFix,
			when: "seccomp.security.alpha.kubernetes.io/pod", holds: annotation("seccomp.security.alpha.kubernetes.io/")},
		{paths: "metadata.annotations{}", verdict: Refused, says: "seccomp annotations have had no effect since Kubernetes 1.27; " + profileFix,
			when: "container.seccomp.security.alpha.kubernetes.io/*", holds: annotation("container.seccomp.security.alpha.kubernetes.io/")},
		{paths: "metadata.annotations{}", verdict: Refused, says: "AppArmor profiles are not honoured yet; leave the annotation out for the runtime's default profile",
			when: "container.apparmor.security.beta.kubernetes.io/* other than runtime/default", holds: func(a at) bool {
				return strings.HasPrefix(a.key, "container.apparmor.security.beta.kubernetes.io/") && a.text() != "runtime/default"
			}},
		{paths: "metadata.annotations{}", verdict: Refused, says: "mirror pods belong to a kubelet; remove the annotation",
			when: "kubernetes.io/config.mirror", holds: func(a at) bool { return a.key == "kubernetes.io/config.mirror" }},
		{paths: "metadata.generateName", verdict: Refused, says: "names are made up by an API server; give the pod a metadata.name"},
		{paths: "metadata.finalizers metadata.ownerReferences", verdict: Refused, says: "nothing here would act on it; " + withAPI},
		{paths: "metadata.{uid,resourceVersion,generation,creationTimestamp,deletionTimestamp,deletionGracePeriodSeconds,selfLink} metadata.managedFields",
			verdict: Warned, says: setByNode},
		{paths: "status", verdict: Warned, says: setByNode},
	}
}

// podLevel judges a pod's own settings.
func podLevel() []group {
	return []group{
		{paths: "spec.{restartPolicy,terminationGracePeriodSeconds,activeDeadlineSeconds}", verdict: Honoured},
		{paths: "spec.{dnsPolicy,hostname,subdomain,setHostnameAsFQDN} spec.dnsConfig.{nameservers,searches}[] spec.dnsConfig.options[].{name,value}", verdict: Honoured},
		{paths: "spec.hostAliases[].ip spec.hostAliases[].hostnames[]", verdict: Honoured},
		{paths: "spec.hostnameOverride", verdict: Refused, says: "is not honoured yet; use hostname and setHostnameAsFQDN"},
		{paths: "spec.{hostNetwork,hostPID,hostIPC,shareProcessNamespace}", verdict: Honoured},
		{paths: "spec.hostUsers", verdict: Honoured},
		{paths: "spec.hostUsers", verdict: Refused, says: "user namespaces are not honoured yet; leave it out",
			when: "false", holds: func(a at) bool { return !a.value.Bool() }},
		{paths: "spec.securityContext.{runAsUser,runAsGroup,runAsNonRoot,fsGroup} spec.securityContext.supplementalGroups[]", verdict: Honoured},
		{paths: "spec.securityContext.fsGroupChangePolicy", verdict: Harmless, says: "no volume kind that this node has looks at it"},
		{paths: "spec.securityContext.supplementalGroupsPolicy", verdict: Honoured},
		{paths: "spec.securityContext.supplementalGroupsPolicy", verdict: Refused, says: "policy Strict is not honoured yet; only Merge is, the default",
			when: "Strict", holds: func(a at) bool { return a.text() != "Merge" }},
		{paths: "spec.securityContext.sysctls[].{name,value}", verdict: Honoured},
		{paths: "spec.securityContext.sysctls[].name", verdict: Refused, says: "the setting is the whole host's, not a pod's; set it with sysctl on the host",
			when: "outside a pod's namespaces", holds: func(a at) bool { return !namespaced(a.text()) }},
		{paths: "spec.securityContext.seccompProfile.{type,localhostProfile}", verdict: Honoured},
		{paths: "spec.securityContext.appArmorProfile", verdict: Refused, says: "AppArmor profiles are not honoured yet; leave it out for the runtime's default profile"},
		{paths: "spec.securityContext.{seLinuxOptions,seLinuxChangePolicy}", verdict: Refused, says: "SELinux labels are not honoured yet; leave it out"},
		{paths: "spec.securityContext.windowsOptions", verdict: Refused, says: "this is a Linux node"},
		{paths: "spec.os.name", verdict: Honoured},
		{paths: "spec.os.name", verdict: Refused, says: "this is a Linux node",
			when: "other than linux", holds: func(a at) bool { return a.text() != "linux" }},
		{paths: "spec.enableServiceLinks", verdict: Harmless, says: "there are no services yet that could be linked"},
		{paths: "spec.{serviceAccountName,serviceAccount}", verdict: Warned, says: "there are no service accounts yet: no token is mounted; they come with the API"},
		{paths: "spec.{serviceAccountName,serviceAccount}", verdict: Harmless, says: "no token is mounted",
			when: "default", holds: func(a at) bool { return a.text() == "default" }},
		{paths: "spec.automountServiceAccountToken", verdict: Harmless, says: "no token is mounted"},
		{paths: "spec.automountServiceAccountToken", verdict: Warned, says: "there are no service accounts yet: no token is mounted; they come with the API",
			when: "true", holds: func(a at) bool { return a.value.Bool() }},
		{paths: "spec.imagePullSecrets", verdict: Refused, says: "Secrets come with the API; put the registry's credentials into ROOT/registry.json"},
		{paths: "spec.runtimeClassName", verdict: Refused, says: "runtime classes are not honoured yet; leave it out for the runtime's default handler"},
		{paths: "spec.overhead", verdict: Refused, says: "overhead belongs to runtime classes, which are not honoured yet; leave it out"},
		{paths: "spec.readinessGates", verdict: Refused, says: "nothing could ever set the condition without an API; use a readinessProbe"},
		{paths: "spec.ephemeralContainers", verdict: Refused, says: "are added to a running pod through the API; make it an ordinary container"},
		{paths: "spec.resourceClaims", verdict: Refused, says: "dynamic resource allocation is not honoured; use a hostPath volume for a device"},
		{paths: "spec.resources", verdict: Refused, says: "resources of a whole pod are not honoured yet; set them per container"},
	}
}

// placement judges what a scheduler would read. A lone node has none: its
// operator placed the pod by placing the file.
func placement() []group {
	return []group{
		{paths: "spec.nodeName", verdict: Honoured},
		{paths: "spec.nodeName", verdict: Refused, says: "names node {value}, this one is {node}; leave it out",
			when: "another node's", holds: func(a at) bool { return a.node != a.text() }},
		{paths: "spec.nodeSelector spec.affinity spec.topologySpreadConstraints", verdict: Warned, says: "has no effect: " + lonely},
		{paths: "spec.tolerations", verdict: Harmless, says: "a node without an API has no taints"},
		{paths: "spec.schedulerName", verdict: Warned, says: "has no effect: " + lonely},
		{paths: "spec.schedulerName", verdict: Harmless, says: "there is no scheduler on a lone node",
			when: "default-scheduler", holds: func(a at) bool { return a.text() == "default-scheduler" }},
		{paths: "spec.priority", verdict: Honoured},
		{paths: "spec.priority", verdict: Refused, says: "differs from the value of the priorityClassName; leave one of them out",
			when: "not the class's", holds: otherPriority},
		{paths: "spec.priorityClassName", verdict: Refused, says: "PriorityClasses come with the API; set spec.priority, or system-node-critical or system-cluster-critical"},
		{paths: "spec.priorityClassName", verdict: Honoured, when: "system-node-critical, system-cluster-critical", holds: func(a at) bool {
			_, ok := systemPriority(a.text())
			return ok
		}},
		{paths: "spec.preemptionPolicy", verdict: Harmless, says: "nothing is preempted on a lone node"},
		{paths: "spec.schedulingGates", verdict: Refused, says: "nothing would ever open the gate without an API; leave it out"},
		{paths: "spec.schedulingGroup", verdict: Refused, says: "pod groups need a scheduler; leave it out"},
		{paths: "spec.evictionResponders", verdict: Refused, says: "nothing here asks them before an eviction; leave it out"},
	}
}

func otherPriority(a at) bool {
	want, ok := systemPriority(a.pod.Spec.PriorityClassName)
	return ok && a.value.Int() != int64(want)
}

// namespaced reports whether a sysctl belongs to a pod's own namespaces.
// Source: the kernel's ipc and net namespaces, as runc checks them.
func namespaced(name string) bool {
	name = strings.ReplaceAll(name, "/", ".")
	switch name {
	case "kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced",
		"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni":
		return true
	}
	return strings.HasPrefix(name, "net.") || strings.HasPrefix(name, "fs.mqueue.")
}
