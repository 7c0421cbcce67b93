package manifest

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	podapi "k8s.io/kubernetes/pkg/api/pod"
	"k8s.io/kubernetes/pkg/apis/core"
	upstream "k8s.io/kubernetes/pkg/apis/core/v1"
	"k8s.io/kubernetes/pkg/apis/core/validation"
)

var update = flag.Bool("update", false, "write what is said into the golden files")

// judge stands for agent/admit: upstream's defaults and validation, and one
// field that is refused with a sentence, and one that is warned about.
func judge(pod *corev1.Pod) ([]string, field.ErrorList) {
	upstream.SetObjectDefaults_Pod(pod)
	if pod.Namespace == "" {
		pod.Namespace = "default"
	}
	var warnings []string
	var errs field.ErrorList
	for i, v := range pod.Spec.Volumes {
		if v.ConfigMap != nil {
			errs = append(errs, field.Forbidden(field.NewPath("spec", "volumes").Index(i).Child("configMap"), "comes with the API"))
		}
	}
	if len(pod.Spec.NodeSelector) > 0 {
		warnings = append(warnings, "spec.nodeSelector: has no effect")
	}
	internal := &core.Pod{}
	if err := upstream.Convert_v1_Pod_To_core_Pod(pod.DeepCopy(), internal, nil); err != nil {
		return nil, field.ErrorList{field.InternalError(nil, err)}
	}
	opts := podapi.GetValidationOptionsFromPodSpecAndMeta(&internal.Spec, nil, &internal.ObjectMeta, nil)
	opts.ResourceIsPod = true
	return warnings, append(errs, validation.ValidatePodCreate(internal, opts)...)
}

// verdict is what the operator reads about a file.
func verdict(f File) string {
	var b strings.Builder
	for _, p := range f.Problems {
		fmt.Fprintf(&b, "%s: %s\n", f.Name, p)
	}
	for _, w := range f.Warnings {
		fmt.Fprintf(&b, "%s: warning: %s\n", f.Name, w)
	}
	for _, pod := range f.Pods {
		fmt.Fprintf(&b, "%s: pod %s of %d container(s)\n", f.Name, key(pod), len(pod.Spec.Containers))
	}
	return b.String()
}

const divider = "=== verdict ===\n"

// TestVerdicts reads testdata/verdicts: each file is a manifest, a divider and
// the words about it.
func TestVerdicts(t *testing.T) {
	files, err := filepath.Glob("testdata/verdicts/*")
	if err != nil || len(files) < 30 {
		t.Fatalf("%d golden files, %v", len(files), err)
	}
	for _, path := range files {
		t.Run(filepath.Base(path), func(t *testing.T) {
			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			text, want, _ := strings.Cut(string(raw), divider)
			f := Parse(filepath.Base(path), []byte(text), judge)
			sound(t, f, text)
			got := verdict(f)
			if *update {
				if err := os.WriteFile(path, []byte(text+divider+got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != want {
				t.Errorf("said:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

// sound is what holds for every file whatever it holds.
func sound(t *testing.T, f File, text string) {
	t.Helper()
	if len(f.Problems) > 0 && len(f.Pods) > 0 {
		t.Error("refused, yet has pods")
	}
	if len(f.Problems)+len(f.Pods)+len(f.Warnings) == 0 {
		t.Error("nothing is said about the file")
	}
	last := strings.Count(text, "\n") + 1
	for _, p := range f.Problems {
		if p.Line < 1 || p.Line > last {
			t.Errorf("line %d of %d: %s", p.Line, last, p)
		}
		if p.Reason == "" {
			t.Errorf("no reason: %+v", p)
		}
	}
	for _, pod := range f.Pods {
		if pod.Annotations[FileAnnotation] != f.Name {
			t.Errorf("pod %s does not name its file", pod.Name)
		}
	}
}

func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/verdicts/*")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range files {
		raw, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		text, _, _ := strings.Cut(string(raw), divider)
		f.Add([]byte(text))
	}
	f.Add([]byte("a: &a [*a]"))
	f.Add([]byte("<<: &a {<<: *a}\nkind: Pod\napiVersion: v1"))
	f.Fuzz(func(t *testing.T, text []byte) {
		sound(t, Parse("f.yaml", text, judge), string(text))
	})
}

func TestParseRefusesLargeFile(t *testing.T) {
	f := Parse("big.yaml", []byte(strings.Repeat("#", MaxSize+1)), judge)
	if got, want := verdict(f), "big.yaml: line 1: is larger than 1024 KiB; split the file\n"; got != want {
		t.Errorf("said %q, want %q", got, want)
	}
}

func TestAliasesDoNotExplode(t *testing.T) {
	text := "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
	for i := 1; i < 12; i++ {
		text += fmt.Sprintf("a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 10), ", "))
	}
	text = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: x\n  finalizers: *a11\n" + text
	text = strings.Replace(text, "metadata:", text[strings.Index(text, "a0:"):]+"metadata:", 1)
	f := Parse("lol.yaml", []byte(text), judge)
	sound(t, f, text)
	if len(f.Problems) == 0 {
		t.Error("accepted")
	}
}
