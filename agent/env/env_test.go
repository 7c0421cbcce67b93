package env_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"pinnace/agent/env"
)

func facts() env.Facts {
	return env.Facts{
		NodeName: "one",
		HostIPs:  []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")},
		PodIPs:   []netip.Addr{netip.MustParseAddr("10.85.0.7"), netip.MustParseAddr("fd00:85::7")},
	}
}

const pod = `
metadata:
  name: web
  namespace: shop
  uid: 7f0c
  labels: {app: web, tier: front}
  annotations: {Note.example.com/x: 'says "hi"'}
spec:
  serviceAccountName: default
  containers:
  - name: web
    resources:
      requests: {cpu: 250m, memory: 64Mi}
      limits: {memory: 100M, hugepages-2Mi: 4Mi}
  initContainers:
  - name: setup
    resources: {limits: {cpu: 1500m}}
`

func TestMake(t *testing.T) {
	tests := []struct {
		name string
		env  string
		want []string
		err  string
	}{
		{name: "nothing"},
		{name: "order is the spec's", env: `[{name: B, value: "1"}, {name: A, value: "2"}, {name: EMPTY}]`,
			want: []string{"B=1", "A=2", "EMPTY="}},
		{name: "references go backwards only",
			env:  `[{name: A, value: "$(B)"}, {name: B, value: b}, {name: C, value: "$(A) $(B) $(NO) $$(B)"}]`,
			want: []string{"A=$(B)", "B=b", "C=$(B) b $(NO) $(B)"}},
		{name: "the later of two counts", env: `[{name: A, value: "1"}, {name: B, value: "$(A)"}, {name: A, value: "$(A)2"}]`,
			want: []string{"A=12", "B=1"}},
		{name: "fields", env: `[
			{name: NAME, valueFrom: {fieldRef: {apiVersion: v1, fieldPath: metadata.name}}},
			{name: NS, valueFrom: {fieldRef: {apiVersion: v1, fieldPath: metadata.namespace}}},
			{name: UID, valueFrom: {fieldRef: {apiVersion: v1, fieldPath: metadata.uid}}},
			{name: LABEL, valueFrom: {fieldRef: {apiVersion: v1, fieldPath: "metadata.labels['tier']"}}},
			{name: ANNOTATION, valueFrom: {fieldRef: {apiVersion: v1, fieldPath: "metadata.annotations['Note.example.com/x']"}}},
			{name: NODE, valueFrom: {fieldRef: {apiVersion: v1, fieldPath: spec.nodeName}}},
			{name: SA, valueFrom: {fieldRef: {apiVersion: v1, fieldPath: spec.serviceAccountName}}},
			{name: HOST, valueFrom: {fieldRef: {apiVersion: v1, fieldPath: status.hostIP}}},
			{name: HOSTS, valueFrom: {fieldRef: {apiVersion: v1, fieldPath: status.hostIPs}}},
			{name: IP, valueFrom: {fieldRef: {apiVersion: v1, fieldPath: status.podIP}}},
			{name: IPS, valueFrom: {fieldRef: {apiVersion: v1, fieldPath: status.podIPs}}},
			{name: URL, value: "http://$(IP):80"}]`,
			want: []string{"NAME=web", "NS=shop", "UID=7f0c", "LABEL=front", `ANNOTATION=says "hi"`, "NODE=one", "SA=default",
				"HOST=192.0.2.1", "HOSTS=192.0.2.1,2001:db8::1", "IP=10.85.0.7", "IPS=10.85.0.7,fd00:85::7", "URL=http://10.85.0.7:80"}},
		{name: "amounts are rounded up", env: `[
			{name: CPU, valueFrom: {resourceFieldRef: {resource: requests.cpu}}},
			{name: MILLI, valueFrom: {resourceFieldRef: {resource: requests.cpu, divisor: 1m}}},
			{name: MEM, valueFrom: {resourceFieldRef: {resource: limits.memory}}},
			{name: MI, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}},
			{name: HUGE, valueFrom: {resourceFieldRef: {resource: limits.hugepages-2Mi, divisor: 1Mi}}},
			{name: OTHERS, valueFrom: {resourceFieldRef: {resource: limits.cpu, containerName: setup}}}]`,
			want: []string{"CPU=1", "MILLI=250", "MEM=100000000", "MI=96", "HUGE=4", "OTHERS=2"}},
		{name: "a limit that is not set is all of the node", env: `[{name: CPU, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}]`,
			want: []string{"CPU=8"}},
		{name: "a value beside its source wins", env: `[{name: A, value: x, valueFrom: {fieldRef: {apiVersion: v1, fieldPath: metadata.name}}}]`,
			want: []string{"A=x"}},
		{name: "unknown field", env: `[{name: A, valueFrom: {fieldRef: {apiVersion: v1, fieldPath: spec.volumes}}}]`,
			err: "container web: variable A: field label not supported: spec.volumes"},
		{name: "unknown container", env: `[{name: A, valueFrom: {resourceFieldRef: {resource: limits.cpu, containerName: nobody}}}]`,
			err: `names container "nobody"`},
		{name: "unknown resource", env: `[{name: A, valueFrom: {resourceFieldRef: {resource: limits.luck}}}]`, err: "limits.luck"},
		{name: "config map", env: `[{name: A, valueFrom: {configMapKeyRef: {name: x, key: y, optional: true}}}]`,
			err: "configMapKeyRef is not supported"},
		{name: "secret", env: `[{name: A, valueFrom: {secretKeyRef: {name: x, key: y}}}]`, err: "secretKeyRef is not supported"},
		{name: "no source", env: `[{name: A, valueFrom: {}}]`, err: "names no source"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := read(t, pod)
			c := &p.Spec.Containers[0]
			if err := yaml.UnmarshalStrict([]byte(strings.ReplaceAll(tt.env, "\t", " ")), &c.Env); err != nil {
				t.Fatal(err)
			}
			f := facts()
			f.Allocatable = corev1.ResourceList{"cpu": *read(t, `{spec: {overhead: {cpu: "8"}}}`).Spec.Overhead.Cpu()}
			vars, err := env.Make(p, c, f)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("got %v; want an error with %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, kv := range vars {
				got = append(got, kv.Key+"="+string(kv.Value))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if _, has := c.Resources.Limits["cpu"]; has {
				t.Error("the container was changed")
			}
		})
	}
}

func TestMakeRefusesEnvFrom(t *testing.T) {
	c := &corev1.Container{Name: "web", EnvFrom: []corev1.EnvFromSource{{}}}
	if _, err := env.Make(&corev1.Pod{}, c, facts()); err == nil || !strings.Contains(err.Error(), "envFrom") {
		t.Errorf("envFrom: %v", err)
	}
}

func TestPodLevelLimit(t *testing.T) {
	p := read(t, `{spec: {resources: {limits: {memory: 1Gi}}, containers: [{name: a, env: [
		{name: MI, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}]}]}}`)
	f := facts()
	f.Allocatable = read(t, `{spec: {overhead: {memory: 8Gi}}}`).Spec.Overhead
	vars, err := env.Make(p, &p.Spec.Containers[0], f)
	if err != nil || string(vars[0].Value) != "1024" {
		t.Errorf("got %v, %v; want the pod's 1024", vars, err)
	}
}

func TestExpand(t *testing.T) {
	p := read(t, `{spec: {containers: [{name: a, env: [{name: A, value: one}, {name: B, value: "two words"}]}]}}`)
	vars, err := env.Make(p, &p.Spec.Containers[0], env.Facts{})
	if err != nil {
		t.Fatal(err)
	}
	expand := env.Expand(vars)
	for in, want := range map[string]string{
		"":             "",
		"plain $ text": "plain $ text",
		"-$(A)-$(B)-":  "-one-two words-",
		"$(C)":         "$(C)",
		"$$(A)":        "$(A)",
		"$(A":          "$(A",
		"$(A)$(A)":     "oneone",
	} {
		if got := expand(in); got != want {
			t.Errorf("expand(%q) = %q; want %q", in, got, want)
		}
	}
}

func read(t *testing.T, text string) *corev1.Pod {
	t.Helper()
	var p corev1.Pod
	if err := yaml.UnmarshalStrict([]byte(strings.ReplaceAll(text, "\t", " ")), &p); err != nil {
		t.Fatal(err)
	}
	return &p
}
