package manifest

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/types"
)

func TestResolve(t *testing.T) {
	const none = ""
	for _, c := range []struct {
		name  string
		files map[string]string // file to pods, "!" for a broken one
		owner map[string]string // pod to file
		want  string
		says  string
	}{
		{"no duplicates", map[string]string{"a": "x", "b": "w"}, nil, "a=x b=w", none},
		{"first has it", map[string]string{"b": "x", "a": "x"}, nil, "a=x b refused", "pod default/x is described in a and in b; a has it"},
		{"owner has it", map[string]string{"a": "x", "b": "x"}, map[string]string{"x": "b"}, "a refused b=x", "pod default/x is described in b and in a; b has it"},
		{"owner is gone", map[string]string{"a": "x", "b": "x"}, map[string]string{"x": "z"}, "a=x b refused", "pod default/x is described in a and in b; a has it"},
		{"owner gave it up", map[string]string{"a": "x", "b": "w"}, map[string]string{"x": "b"}, "a=x b=w", none},
		{"owner is broken", map[string]string{"a": "x", "b": "!"}, map[string]string{"x": "b"}, "a refused b refused", "pod default/x is described in b and in a; b has it"},
		{"a refused file takes nothing", map[string]string{"a": "x", "b": "x w", "c": "w"}, nil, "a=x b refused c=w", "pod default/x is described in a and in b; a has it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := Snapshot{Whole: true}
			for file, pods := range c.files {
				var text strings.Builder
				for pod := range strings.FieldsSeq(pods) {
					if pod == "!" {
						text.WriteString("kind: [\n")
						continue
					}
					text.WriteString("---\n" + manifest(pod))
				}
				s.Files = append(s.Files, Parse(file, []byte(text.String()), nil))
			}
			before := len(s.Files[0].Problems)
			r := Resolve(s, func(k types.NamespacedName) string { return c.owner[k.Name] })
			if got := seen(r); got != c.want {
				t.Errorf("saw %q, want %q", got, c.want)
			}
			says := none
			for _, f := range r.Files {
				for _, p := range f.Problems {
					if p.Field == "metadata.name" {
						says = p.Reason
					}
				}
			}
			if says != c.says {
				t.Errorf("says %q, want %q", says, c.says)
			}
			if len(s.Files[0].Problems) != before {
				t.Error("the snapshot handed in was changed")
			}
		})
	}
}
