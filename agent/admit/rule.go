package admit

import (
	"reflect"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
)

// Verdict is what the node makes of a field.
type Verdict string

// The four things that can be said about a field.
const (
	Honoured Verdict = "honoured" // does what the Kubernetes API documents
	Harmless Verdict = "harmless" // has nothing to act on here, and says why
	Warned   Verdict = "warned"   // accepted without effect; the warning says so
	Refused  Verdict = "refused"  // the pod is not run; the sentence gives advice
)

// Rule is what is said about one field, or about one and all below it.
type Rule struct {
	// Path names the field as in a manifest: [] stands for each item of a
	// list, {} for each value of a map.
	Path    string
	Verdict Verdict
	// Case narrows the rule to some values, in words; "" for all others.
	Case string
	// Says is the sentence for the operator: advice, or why it is harmless.
	// {value} and {node} stand for what is set and for this node's name.
	Says string

	when func(at) bool
}

// at is a field with a value, seen where it stands.
type at struct {
	pod    *corev1.Pod
	node   string
	key    string        // of the map value, "" elsewhere
	value  reflect.Value // what is set; pointers are followed
	parent reflect.Value // the struct that the field is in
}

func (a at) text() string { return text(a.value) }

func text(v reflect.Value) string {
	if v.Kind() == reflect.String {
		return v.String()
	}
	return ""
}

// group is how rules are written down: several paths, one verdict.
type group struct {
	paths   string // separated by white space, {a,b} stands for both
	verdict Verdict
	says    string
	when    string // Case
	holds   func(at) bool
}

// index finds the rules of a path. Rules with a case come before the one without.
type index map[string][]Rule

// of returns the rules that stand at path itself. Init containers are judged
// as containers, except where a rule names them.
func (x index) of(path string) []Rule {
	if rules, ok := x[path]; ok {
		return rules
	}
	if rest, ok := strings.CutPrefix(path, "spec.initContainers[]"); ok {
		return x["spec.containers[]"+rest]
	}
	return nil
}

var table = sync.OnceValue(func() index {
	x := index{}
	for _, r := range Rules() {
		if r.when != nil {
			x[r.Path] = append([]Rule{r}, x[r.Path]...)
		} else {
			x[r.Path] = append(x[r.Path], r)
		}
	}
	return x
})

// Rules returns the table in its written order, one rule per path and case.
// Init containers have the rules of containers and are not listed again.
func Rules() []Rule {
	var all []Rule
	for _, groups := range [][]group{metadata(), podLevel(), placement(), containers(), volumes()} {
		for _, g := range groups {
			for _, word := range strings.Fields(g.paths) {
				for _, path := range unfold(word) {
					all = append(all, Rule{Path: path, Verdict: g.verdict, Case: g.when, Says: g.says, when: g.holds})
				}
			}
		}
	}
	return all
}

// unfold writes out a{b,c}d as abd and acd, every brace of it. The {} of a
// map value stays.
func unfold(word string) []string {
	for open := 0; ; open++ {
		i := strings.IndexByte(word[open:], '{')
		if i < 0 {
			return []string{word}
		}
		open += i
		if word[open+1] == '}' {
			continue
		}
		shut := open + strings.IndexByte(word[open:], '}')
		var all []string
		for part := range strings.SplitSeq(word[open+1:shut], ",") {
			for _, rest := range unfold(word[shut+1:]) {
				all = append(all, word[:open]+part+rest)
			}
		}
		return all
	}
}
