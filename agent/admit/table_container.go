package admit

import (
	"reflect"
	"strings"
)

const (
	probes   = "spec.containers[].{livenessProbe,readinessProbe,startupProbe}"
	hooks    = "spec.containers[].lifecycle.{postStart,preStop}"
	security = "spec.containers[].securityContext"
)

// containers judges what stands in a container; an init container is judged
// the same.
func containers() []group {
	all := []group{
		{paths: "spec.containers[].{name,image,imagePullPolicy,workingDir} spec.containers[].{command,args}[]", verdict: Honoured},
		{paths: "spec.containers[].{terminationMessagePath,terminationMessagePolicy}", verdict: Honoured},
		{paths: "spec.containers[].ports[].{name,containerPort,protocol}", verdict: Honoured},
		{paths: "spec.containers[].ports[].hostPort", verdict: Refused, says: "host ports come with the service proxy; use hostNetwork, or the pod's own address"},
		{paths: "spec.containers[].ports[].hostPort", verdict: Honoured, when: "with hostNetwork",
			holds: func(a at) bool { return a.pod.Spec.HostNetwork }},
		{paths: "spec.containers[].ports[].hostIP", verdict: Refused, says: "host ports come with the service proxy; leave it out"},
		{paths: "spec.containers[].env[].{name,value}", verdict: Honoured},
		{paths: "spec.containers[].env[].valueFrom.fieldRef.{apiVersion,fieldPath}", verdict: Honoured},
		{paths: "spec.containers[].env[].valueFrom.resourceFieldRef.{containerName,resource,divisor}", verdict: Honoured},
		{paths: "spec.containers[].envFrom spec.containers[].env[].valueFrom.{configMapKeyRef,secretKeyRef}", verdict: Refused,
			says: "ConfigMaps and Secrets come with the API; write the values into env"},
		{paths: "spec.containers[].env[].valueFrom.fileKeyRef", verdict: Refused, says: "environment files are not honoured yet; write the values into env"},
		{paths: "spec.containers[].volumeMounts[].{name,readOnly,mountPath,subPath,subPathExpr,mountPropagation}", verdict: Honoured},
		{paths: "spec.containers[].volumeMounts[].recursiveReadOnly", verdict: Refused, says: "is not honoured yet; use Disabled or IfPossible"},
		{paths: "spec.containers[].volumeMounts[].recursiveReadOnly", verdict: Honoured, when: "Disabled, IfPossible",
			holds: func(a at) bool { return a.text() == "Disabled" || a.text() == "IfPossible" }},
		{paths: "spec.containers[].volumeMounts[].bindMountOptions", verdict: Refused, says: "mount options are not honoured yet; leave it out"},
		{paths: "spec.containers[].volumeDevices", verdict: Refused, says: "block devices need persistent volumes; mount the device with a hostPath volume of type BlockDevice"},
		{paths: "spec.containers[].{stdin,stdinOnce}", verdict: Warned, says: "nothing can attach to a container yet: its input stays empty"},
		{paths: "spec.containers[].tty", verdict: Honoured},
		{paths: "spec.containers[].restartPolicy", verdict: Refused, says: "a restart policy per container is not honoured yet; set the pod's"},
		{paths: "spec.initContainers[].restartPolicy", verdict: Refused, says: "sidecars (init containers that go on running) are not honoured yet; make it an ordinary container"},
		{paths: "spec.containers[].restartPolicyRules", verdict: Refused, says: "restart rules are not honoured yet; leave it out"},
		{paths: "spec.containers[].lifecycle.stopSignal", verdict: Refused, says: "is not honoured yet; set STOPSIGNAL in the image"},
		{paths: "spec.containers[].resizePolicy", verdict: Warned, says: "has no effect: a changed file replaces the pod"},
	}
	all = append(all, resources()...)
	all = append(all, probing()...)
	return append(all, securing()...)
}

func resources() []group {
	const path = "spec.containers[].resources.{limits,requests}{}"
	return []group{
		{paths: path, verdict: Refused, says: "there are no device plugins here; mount a device with a hostPath volume"},
		{paths: path, verdict: Honoured, when: "cpu, memory, hugepages-*", holds: func(a at) bool {
			return a.key == "cpu" || a.key == "memory" || strings.HasPrefix(a.key, "hugepages-")
		}},
		{paths: path, verdict: Warned, says: "is not enforced yet: nothing measures what the container writes",
			when: "ephemeral-storage", holds: func(a at) bool { return a.key == "ephemeral-storage" }},
		{paths: "spec.containers[].resources.claims", verdict: Refused, says: "dynamic resource allocation is not honoured; use a hostPath volume for a device"},
	}
}

func probing() []group {
	http := "{exec.command[],httpGet.path,httpGet.port,httpGet.host,httpGet.scheme,httpGet.httpHeaders[].name,httpGet.httpHeaders[].value,tcpSocket.port,tcpSocket.host}"
	return []group{
		{paths: probes + "." + http + " " + hooks + "." + http, verdict: Honoured},
		{paths: hooks + ".sleep.seconds", verdict: Honoured},
		{paths: probes + ".grpc.{port,service}", verdict: Honoured},
		{paths: probes + ".{initialDelaySeconds,timeoutSeconds,periodSeconds,successThreshold,failureThreshold,terminationGracePeriodSeconds}", verdict: Honoured},
		{paths: probes + ".httpGet.protocol " + hooks + ".httpGet.protocol", verdict: Refused, says: "only HTTP1 is spoken yet; leave it out"},
		{paths: probes + ".httpGet.protocol " + hooks + ".httpGet.protocol", verdict: Honoured, when: "HTTP1",
			holds: func(a at) bool { return a.text() == "HTTP1" }},
		{paths: probes + ".grpc.mode", verdict: Refused, says: "gRPC probes go without TLS yet; leave it out"},
		{paths: probes + ".grpc.mode", verdict: Honoured, when: "Plaintext",
			holds: func(a at) bool { return a.text() == "Plaintext" }},
	}
}

func securing() []group {
	return []group{
		{paths: security + ".{privileged,runAsUser,runAsGroup,runAsNonRoot,readOnlyRootFilesystem,allowPrivilegeEscalation,procMount}", verdict: Honoured},
		{paths: security + ".capabilities.{add,drop}[] " + security + ".seccompProfile.{type,localhostProfile}", verdict: Honoured},
		{paths: security + ".appArmorProfile", verdict: Refused, says: "AppArmor profiles are not honoured yet; leave it out for the runtime's default profile"},
		{paths: security + ".seLinuxOptions", verdict: Refused, says: "SELinux labels are not honoured yet; leave it out"},
		{paths: security + ".windowsOptions", verdict: Refused, says: "this is a Linux node"},
	}
}

// volumes judges a pod's volumes: two kinds are mounted, the others are
// refused by name.
func volumes() []group {
	const v = "spec.volumes[]."
	return []group{
		{paths: v + "name " + v + "hostPath.{path,type} " + v + "emptyDir.{medium,sizeLimit}", verdict: Honoured},
		{paths: v + "emptyDir.medium", verdict: Refused, says: "emptyDir on huge pages is not honoured yet; use Memory or leave it out",
			when: "other than Memory", holds: func(a at) bool { return a.text() != "Memory" }},
		{paths: v + "emptyDir.sizeLimit", verdict: Warned, says: "is not enforced yet on disk; medium Memory keeps it",
			when: "on disk", holds: func(a at) bool { return reflect.Indirect(a.parent).FieldByName("Medium").String() == "" }},
		{paths: v + "emptyDir.mode", verdict: Refused, says: "is not honoured yet; change the mode in an init container"},
		{paths: v + "{configMap,secret,projected,downwardAPI}", verdict: Refused, says: withAPI + "; put the files on the host and use hostPath"},
		{paths: v + "{persistentVolumeClaim,ephemeral}", verdict: Refused, says: "persistent volumes are not there yet; use hostPath for data that stays, emptyDir for data that may go"},
		{paths: v + "csi", verdict: Refused, says: "there are no CSI drivers here; mount it on the host and use hostPath"},
		{paths: v + "image", verdict: Refused, says: "image volumes are not honoured yet; copy the files in an init container"},
		{paths: v + "{nfs,iscsi,fc,cephfs,rbd,glusterfs,quobyte,flocker,storageos,scaleIO,portworxVolume}", verdict: Refused,
			says: "network storage is not mounted by this node; mount it on the host and use hostPath"},
		{paths: v + "{awsElasticBlockStore,gcePersistentDisk,azureDisk,azureFile,cinder,vsphereVolume,photonPersistentDisk}", verdict: Refused,
			says: "cloud disks are not attached by this node; mount it on the host and use hostPath"},
		{paths: v + "{gitRepo,flexVolume}", verdict: Refused, says: "Kubernetes itself has given it up; use an init container or hostPath"},
	}
}
