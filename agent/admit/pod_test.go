package admit

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"
)

// plain is a pod that nobody objects to; the cases add to its spec, or to
// its container.
const plain = `
metadata: {name: web}
spec:
  containers:
  - name: app
    image: localhost/pinnace/demo:1
`

func parse(t *testing.T, text string) *corev1.Pod {
	t.Helper()
	pod := &corev1.Pod{}
	if err := yaml.UnmarshalStrict([]byte(text), pod); err != nil {
		t.Fatalf("%v in:\n%s", err, text)
	}
	return pod
}

func lines(errs field.ErrorList) []string {
	var all []string
	for _, e := range errs {
		all = append(all, e.Field+": "+e.Detail)
	}
	return all
}

func TestPlainPodIsClean(t *testing.T) {
	pod := parse(t, plain)
	for _, stage := range []string{"as written", "with defaults", "with defaults twice"} {
		if errs := Pod(pod, "one"); len(errs) > 0 {
			t.Errorf("%s: refused: %v", stage, errs)
		}
		if w := Warnings(pod); len(w) > 0 {
			t.Errorf("%s: warned: %v", stage, w)
		}
		Default(pod)
	}
	if errs := Validate(pod); len(errs) > 0 {
		t.Errorf("not valid: %v", errs)
	}
	if pod.Namespace != "default" || pod.Spec.ServiceAccountName != "default" || pod.Spec.DNSPolicy != corev1.DNSClusterFirst ||
		*pod.Spec.TerminationGracePeriodSeconds != 30 || !*pod.Spec.EnableServiceLinks || pod.Spec.Containers[0].ImagePullPolicy != corev1.PullIfNotPresent {
		t.Errorf("defaults missing: %+v", pod)
	}
}

// TestVerdicts has a case for every rule that needs judgement. Lines that
// begin with "refused" and "warned" are all that is said.
func TestVerdicts(t *testing.T) {
	for _, c := range []struct {
		name, spec, container string
		refused, warned       []string // beginnings
	}{
		{name: "other node", spec: "nodeName: two", refused: []string{"spec.nodeName: names node two, this one is one"}},
		{name: "this node", spec: "nodeName: one"},
		{name: "selector", spec: "nodeSelector: {disk: ssd}", warned: []string{"spec.nodeSelector: has no effect"}},
		{name: "toleration", spec: "tolerations: [{operator: Exists}]"},
		{name: "affinity", spec: "affinity: {podAntiAffinity: {}}\n  schedulerName: mine", warned: []string{"spec.affinity: ", "spec.schedulerName: "}},
		{name: "user namespace", spec: "hostUsers: false", refused: []string{"spec.hostUsers: user namespaces"}},
		{name: "no user namespace", spec: "hostUsers: true"},
		{name: "windows", spec: "os: {name: windows}", refused: []string{"spec.os.name: this is a Linux node"}},
		{name: "system class", spec: "priorityClassName: system-node-critical"},
		{name: "own class", spec: "priorityClassName: mine", refused: []string{"spec.priorityClassName: PriorityClasses come with the API"}},
		{name: "priority against class", spec: "priority: 3\n  priorityClassName: system-node-critical", refused: []string{"spec.priority: differs"}},
		{name: "priority alone", spec: "priority: 3"},
		{name: "token", spec: "serviceAccountName: robot\n  automountServiceAccountToken: true",
			warned: []string{"spec.serviceAccountName: ", "spec.automountServiceAccountToken: "}},
		{name: "no token", spec: "automountServiceAccountToken: false"},
		{name: "sysctls", spec: "securityContext: {sysctls: [{name: net.core.somaxconn, value: '1'}, {name: vm.swappiness, value: '1'}]}",
			refused: []string{"spec.securityContext.sysctls[1].name: the setting is the whole host's"}},
		{name: "groups", spec: "securityContext: {supplementalGroupsPolicy: Strict}", refused: []string{"spec.securityContext.supplementalGroupsPolicy: policy Strict"}},
		{name: "groups merged", spec: "securityContext: {supplementalGroupsPolicy: Merge, fsGroup: 5}"},
		{name: "pull secret", spec: "imagePullSecrets: [{name: x}]", refused: []string{"spec.imagePullSecrets: Secrets come with the API; put the registry's credentials into ROOT/registry.json"}},
		{name: "sidecar", spec: "initContainers: [{name: s, image: x, restartPolicy: Always}]", refused: []string{"spec.initContainers[0].restartPolicy: sidecars"}},
		{name: "init container's field", spec: "initContainers: [{name: s, image: x, envFrom: [{prefix: A}]}]", refused: []string{"spec.initContainers[0].envFrom: ConfigMaps and Secrets"}},
		{name: "disk emptyDir", spec: "volumes: [{name: v, emptyDir: {sizeLimit: 1Mi}}]", warned: []string{"spec.volumes[0].emptyDir.sizeLimit: is not enforced yet on disk"}},
		{name: "memory emptyDir", spec: "volumes: [{name: v, emptyDir: {sizeLimit: 1Mi, medium: Memory}}]"},
		{name: "huge emptyDir", spec: "volumes: [{name: v, emptyDir: {medium: HugePages}}]", refused: []string{"spec.volumes[0].emptyDir.medium: emptyDir on huge pages"}},
		{name: "config map", spec: "volumes: [{name: v, configMap: {name: x}}]", refused: []string{"spec.volumes[0].configMap: comes with the API"}},
		{name: "nfs", spec: "volumes: [{name: v, nfs: {server: a, path: /}}]", refused: []string{"spec.volumes[0].nfs: network storage"}},

		{name: "host port", container: "ports: [{containerPort: 80, hostPort: 80}]", refused: []string{"spec.containers[0].ports[0].hostPort: host ports come with"}},
		{name: "host port on host network", spec: "hostNetwork: true", container: "ports: [{containerPort: 80, hostPort: 80}]"},
		{name: "resources", container: "resources: {limits: {cpu: 1, memory: 1Gi, ephemeral-storage: 1Gi, vendor/gpu: 1}}",
			refused: []string{"spec.containers[0].resources.limits[vendor/gpu]: there are no device plugins"},
			warned:  []string{"spec.containers[0].resources.limits[ephemeral-storage]: is not enforced"}},
		{name: "secret in env", container: "env: [{name: A, valueFrom: {secretKeyRef: {name: a, key: b}}}]",
			refused: []string{"spec.containers[0].env[0].valueFrom.secretKeyRef: ConfigMaps and Secrets"}},
		{name: "stdin", container: "stdin: true\n    tty: true", warned: []string{"spec.containers[0].stdin: nothing can attach"}},
		{name: "recursive", container: "volumeMounts: [{name: a, mountPath: /a, recursiveReadOnly: IfPossible}, {name: a, mountPath: /b, recursiveReadOnly: Enabled}]",
			refused: []string{"spec.containers[0].volumeMounts[1].recursiveReadOnly: "}},
		{name: "probe with TLS", container: "livenessProbe: {grpc: {port: 1, mode: TLS}}", refused: []string{"spec.containers[0].livenessProbe.grpc.mode: "}},
		{name: "hook over HTTP2", container: "lifecycle: {preStop: {httpGet: {port: 1, protocol: HTTP2}}}", refused: []string{"spec.containers[0].lifecycle.preStop.httpGet.protocol: "}},
		{name: "stop signal", container: "lifecycle: {stopSignal: SIGUSR1}", refused: []string{"spec.containers[0].lifecycle.stopSignal: "}},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := strings.Replace(plain, "spec:\n", "spec:\n  "+c.spec+"\n", 1) + "    " + c.container + "\n"
			pod := parse(t, text)
			match(t, "refused", lines(Pod(pod, "one")), c.refused)
			match(t, "warned", Warnings(pod), c.warned)
		})
	}
}

func match(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.EqualFunc(got, want, strings.HasPrefix) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func TestMetadata(t *testing.T) {
	pod := parse(t, `
metadata:
  name: web
  uid: x
  resourceVersion: "4"
  finalizers: [a/b]
  annotations:
    seccomp.security.alpha.kubernetes.io/pod: runtime/default
    container.apparmor.security.beta.kubernetes.io/app: runtime/default
    note: free
spec: {containers: [{name: app, image: x}]}
status: {phase: Running}
`)
	match(t, "refused", lines(Pod(pod, "")), []string{
		"metadata.annotations[seccomp.security.alpha.kubernetes.io/pod]: seccomp annotations", "metadata.finalizers: nothing here"})
	match(t, "warned", Warnings(pod), []string{"metadata.uid: is set by the node", "metadata.resourceVersion: is set", "status: is set"})
}

func TestCheck(t *testing.T) {
	check := Check("one")
	pod := parse(t, plain)
	pod.UID, pod.Status.Phase = "theirs", corev1.PodRunning
	warnings, problems := check(pod)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	match(t, "warnings", warnings, []string{"metadata.uid: ", "status: "})
	if pod.UID != "" || pod.Status.Phase != "" || pod.Spec.NodeName != "one" || pod.Spec.RestartPolicy != corev1.RestartPolicyAlways {
		t.Errorf("not cleaned and completed: %+v", pod)
	}

	pod = parse(t, strings.Replace(plain, "name: app", "name: App", 1))
	pod.Spec.EphemeralContainers = []corev1.EphemeralContainer{{}}
	_, problems = check(pod)
	match(t, "problems", lines(problems), []string{"spec.ephemeralContainers: are added", "spec.containers[0].name: a lowercase"})
}

func TestSystemPriority(t *testing.T) {
	pod := parse(t, plain)
	pod.Spec.PriorityClassName = "system-node-critical"
	Default(pod)
	if got := pod.Spec.Priority; got == nil || *got != 2000001000 {
		t.Errorf("priority %v, want 2000001000", got)
	}
}
