package cri_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/kubernetes/pkg/securitycontext"
	"sigs.k8s.io/yaml"

	"pinnace/cri"
)

var update = flag.Bool("update", false, "write the goldens anew")

// options is a golden's options.yaml.
type options struct {
	ImageUser string        `json:"imageUser"`
	ImageUID  *int64        `json:"imageUID"`
	Node      cri.NodeFacts `json:"node"`
}

// golden is one archive: a pod and what becomes of it.
type golden struct {
	path    string
	archive *txtar.Archive
	pod     *corev1.Pod
	o       options
}

func goldens(t testing.TB) []golden {
	t.Helper()
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no goldens found: %v", err)
	}
	var all []golden
	for _, p := range paths {
		a, err := txtar.ParseFile(p)
		if err != nil {
			t.Fatal(err)
		}
		g := golden{path: p, archive: a, pod: &corev1.Pod{}}
		for _, f := range a.Files {
			into := map[string]any{"pod.yaml": g.pod, "options.yaml": &g.o}[f.Name]
			if into == nil {
				continue
			}
			if err := yaml.UnmarshalStrict(f.Data, into); err != nil {
				t.Fatalf("%s: %s: %v", p, f.Name, err)
			}
		}
		g.o.Node.SeccompRoot = "/var/lib/pinnace/seccomp"
		all = append(all, g)
	}
	return all
}

func (g golden) sandbox() *runtimeapi.PodSandboxConfig {
	return cri.SandboxConfig(g.pod, cri.SandboxOptions{
		Instance:     "p7f3a2c",
		CgroupParent: "/pinnace/pod7f0c",
		LogDirectory: "/logs/shop_web_7f0c",
		DNS:          &runtimeapi.DNSConfig{Servers: []string{"192.0.2.53"}},
		Hostname:     "web",
		Attempt:      2,
	})
}

func (g golden) container(t *testing.T, c *corev1.Container) *runtimeapi.ContainerConfig {
	t.Helper()
	cfg, err := cri.ContainerConfig(g.pod, c, cri.ContainerOptions{
		Instance: "p7f3a2c",
		Attempt:  3,
		ImageRef: "sha256:1d0e",
		Image:    cri.Image{UID: g.o.ImageUID, Username: g.o.ImageUser},
		Env:      []*runtimeapi.KeyValue{{Key: "NAME", Value: []byte("Ann")}},
		Expand: func(s string) string {
			return strings.NewReplacer("$$(", "$(", "$(NAME)", "Ann").Replace(s)
		},
		Mounts:      []*runtimeapi.Mount{{HostPath: "/pods/7f0c/etc-hosts", ContainerPath: "/etc/hosts"}},
		LogPath:     c.Name + "/3.log",
		Annotations: map[string]string{cri.AnnotationBackoff: "20s"},
		Node:        g.o.Node,
	})
	if err != nil {
		t.Fatalf("%s: %v", g.path, err)
	}
	return cfg
}

func (g golden) containers() []*corev1.Container {
	var all []*corev1.Container
	for i := range g.pod.Spec.InitContainers {
		all = append(all, &g.pod.Spec.InitContainers[i])
	}
	for i := range g.pod.Spec.Containers {
		all = append(all, &g.pod.Spec.Containers[i])
	}
	return all
}

// render is one message as JSON. The paths that are hidden by default are
// upstream's list, partly of this host's CPUs: it is not repeated.
func render(t *testing.T, m proto.Message) []byte {
	t.Helper()
	m = proto.Clone(m)
	if c, ok := m.(*runtimeapi.ContainerConfig); ok {
		sc, def := c.Linux.SecurityContext, corev1.DefaultProcMount
		if slices.Equal(sc.MaskedPaths, securitycontext.ConvertToRuntimeMaskedPaths(&def)) {
			sc.MaskedPaths = []string{"the default"}
		}
		if slices.Equal(sc.ReadonlyPaths, securitycontext.ConvertToRuntimeReadonlyPaths(&def)) {
			sc.ReadonlyPaths = []string{"the default"}
		}
	}
	raw, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, raw, "", "  "); err != nil {
		t.Fatal(err)
	}
	out.WriteByte('\n')
	return out.Bytes()
}

func TestGolden(t *testing.T) {
	for _, g := range goldens(t) {
		t.Run(strings.TrimSuffix(filepath.Base(g.path), ".txtar"), func(t *testing.T) {
			got := &txtar.Archive{Comment: g.archive.Comment}
			for _, f := range g.archive.Files {
				if strings.HasSuffix(f.Name, ".yaml") {
					got.Files = append(got.Files, f)
				}
			}
			got.Files = append(got.Files, txtar.File{Name: "sandbox.json", Data: render(t, g.sandbox())})
			for _, c := range g.containers() {
				got.Files = append(got.Files, txtar.File{Name: "container-" + c.Name + ".json", Data: render(t, g.container(t, c))})
			}
			if *update {
				if err := os.WriteFile(g.path, txtar.Format(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(txtar.Format(g.archive)), string(txtar.Format(got))); diff != "" {
				t.Errorf("differs from %s (-want +got); -update writes it anew:\n%s", g.path, diff)
			}
		})
	}
}
