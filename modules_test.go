package pinnace

import (
	"os"
	"strings"
	"testing"
)

// TestDependenciesAreExplained asks docs/dependencies.md for a row about each
// direct dependency, and for none about others.
func TestDependenciesAreExplained(t *testing.T) {
	doc, err := os.ReadFile("docs/dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	direct := map[string]bool{}
	for line := range strings.Lines(string(mod)) {
		f := strings.Fields(strings.TrimPrefix(line, "require "))
		if len(f) == 2 && strings.HasPrefix(f[1], "v") && !strings.Contains(line, "// indirect") {
			direct[f[0]] = true
		}
	}
	if len(direct) < 5 {
		t.Fatalf("go.mod: only %d direct dependencies found", len(direct))
	}
	told := map[string]bool{}
	for line := range strings.Lines(string(doc)) {
		if rest, ok := strings.CutPrefix(line, "| `"); ok {
			name, _, _ := strings.Cut(rest, "`")
			told[name] = true
		}
	}
	for name := range direct {
		if !told[name] {
			t.Errorf("docs/dependencies.md says nothing about %s", name)
		}
	}
	for name := range told {
		if !direct[name] {
			t.Errorf("docs/dependencies.md explains %s, which go.mod does not require directly", name)
		}
	}
}
