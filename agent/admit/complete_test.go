package admit

import (
	"flag"
	"os"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

var update = flag.Bool("update", false, "write the golden files")

// leaves calls each with the path of every field of t that holds a value of
// its own, as the table writes paths.
func leaves(t reflect.Type, path string, each func(string)) {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case leaf(t):
		each(path)
	case t.Kind() == reflect.Slice:
		leaves(t.Elem(), path+"[]", each)
	case t.Kind() == reflect.Map:
		leaves(t.Elem(), path+"{}", each)
	default:
		for i := range t.NumField() {
			f := t.Field(i)
			if name := jsonName(f); name != "" {
				leaves(f.Type, strings.TrimPrefix(path+"."+name, "."), each)
			} else {
				leaves(f.Type, path, each)
			}
		}
	}
}

// covering returns the rules without a case that speak of path or of what it
// is part of.
func covering(path string) []Rule {
	var all []Rule
	for p := path; p != ""; p = parent(p) {
		for _, r := range table().of(p) {
			if r.Case == "" {
				all = append(all, r)
			}
		}
	}
	return all
}

func parent(p string) string {
	if s, ok := strings.CutSuffix(p, "[]"); ok {
		return s
	}
	if s, ok := strings.CutSuffix(p, "{}"); ok {
		return s
	}
	return p[:max(strings.LastIndexByte(p, '.'), 0)]
}

// TestEveryFieldHasOneRule is the promise of the package: whatever upstream
// adds to a Pod fails here until somebody decides.
func TestEveryFieldHasOneRule(t *testing.T) {
	n := 0
	leaves(reflect.TypeFor[corev1.Pod](), "", func(path string) {
		if path == "kind" || path == "apiVersion" {
			return
		}
		n++
		switch rules := covering(path); {
		case len(rules) != 1:
			t.Errorf("%s: %d rules, want 1: %v", path, len(rules), rules)
		case rules[0].Verdict == Honoured && strings.Replace(path, "spec.initContainers[]", "spec.containers[]", 1) != rules[0].Path:
			t.Errorf("%s: honoured only by way of %s; name it", path, rules[0].Path)
		}
	})
	if n < 800 {
		t.Errorf("%d fields seen; the walk is broken", n)
	}
}

func TestEveryRuleHasAField(t *testing.T) {
	fields := map[string]bool{}
	leaves(reflect.TypeFor[corev1.Pod](), "", func(path string) {
		for p := path; p != ""; p = parent(p) {
			fields[p] = true
		}
	})
	for _, r := range Rules() {
		if !fields[r.Path] {
			t.Errorf("%s: no such field", r.Path)
		}
		if (r.Case == "") != (r.when == nil) {
			t.Errorf("%s: the case in words and in code belong together", r.Path)
		}
		if (r.Says == "") != (r.Verdict == Honoured) {
			t.Errorf("%s: %s with sentence %q", r.Path, r.Verdict, r.Says)
		}
	}
}

const scopeDoc = "../../docs/scope.md"

// TestScope keeps the readers' table equal to the one that decides: the golden
// file, and docs/scope.md where it has the two markers.
func TestScope(t *testing.T) {
	const golden = "testdata/scope.md"
	got := Scope()
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != got {
		t.Errorf("%s is not what Scope says; run go test ./agent/admit -update", golden)
	}
	doc, err := os.ReadFile(scopeDoc)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(doc), "<!-- fields -->\n")
	table, _, closed := strings.Cut(rest, "<!-- /fields -->")
	if ok != closed {
		t.Fatalf("%s has one marker of two", scopeDoc)
	}
	if ok && table != got {
		t.Errorf("%s: between its markers does not stand what Scope says", scopeDoc)
	}
}
