package admit

import (
	"encoding/json"
	"reflect"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// unknown is said about a field that the table does not know: one that a newer
// upstream brought in. The completeness test keeps it from ever being read.
const unknown = "this node does not know the field"

// Pod says what this node cannot honour in a pod, with the path of each field
// and advice. nodeName is this node's. It takes pods with and without defaults
// and changes nothing.
func Pod(pod *corev1.Pod, nodeName string) field.ErrorList {
	var errs field.ErrorList
	for _, f := range findings(pod, nodeName) {
		if f.verdict == Refused {
			errs = append(errs, field.Forbidden(f.path, f.says))
		}
	}
	return errs
}

// Warnings says which fields of a pod are accepted without effect, one
// "path: sentence" each.
func Warnings(pod *corev1.Pod) []string {
	var all []string
	for _, f := range findings(pod, pod.Spec.NodeName) {
		if f.verdict == Warned {
			all = append(all, f.path.String()+": "+f.says)
		}
	}
	return all
}

// finding is a field of which something must be said.
type finding struct {
	path    *field.Path
	verdict Verdict
	says    string
}

func findings(pod *corev1.Pod, nodeName string) []finding {
	w := walk{pod: pod, node: nodeName, rules: table()}
	for _, part := range []struct {
		name  string
		value reflect.Value
	}{
		{"metadata", reflect.ValueOf(pod.ObjectMeta)},
		{"spec", reflect.ValueOf(pod.Spec)},
		{"status", reflect.ValueOf(pod.Status)},
	} {
		w.visit(place{field.NewPath(part.name), part.name, "", part.value}, part.value)
	}
	return w.found
}

// walk visits whatever is set in a pod, and stops where a rule speaks.
type walk struct {
	pod   *corev1.Pod
	node  string
	rules index
	found []finding
}

// place is where a value stands: its path with list indices and map keys, and
// the same path as the table writes it.
type place struct {
	path    *field.Path
	pattern string
	key     string
	parent  reflect.Value
}

func (w *walk) visit(p place, v reflect.Value) {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return
		}
		v = v.Elem()
	} else if empty(v) {
		return
	}
	if rule, ok := w.rule(p, v); ok {
		if rule.Verdict == Refused || rule.Verdict == Warned {
			says := strings.NewReplacer("{value}", text(v), "{node}", w.node).Replace(rule.Says)
			w.found = append(w.found, finding{p.path, rule.Verdict, says})
		}
		return
	}
	switch {
	case leaf(v.Type()):
		w.found = append(w.found, finding{p.path, Refused, unknown})
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			name := jsonName(v.Type().Field(i))
			if name == "" { // inline: its fields belong to the struct around it
				w.visit(place{p.path, p.pattern, p.key, p.parent}, v.Field(i))
				continue
			}
			w.visit(place{p.path.Child(name), p.pattern + "." + name, "", v}, v.Field(i))
		}
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			w.visit(place{p.path.Index(i), p.pattern + "[]", "", p.parent}, v.Index(i))
		}
	case v.Kind() == reflect.Map:
		for _, k := range sortedKeys(v) {
			w.visit(place{p.path.Key(k.String()), p.pattern + "{}", k.String(), p.parent}, v.MapIndex(k))
		}
	}
}

func (w *walk) rule(p place, v reflect.Value) (Rule, bool) {
	seen := at{pod: w.pod, node: w.node, key: p.key, value: v, parent: p.parent}
	for _, r := range w.rules.of(p.pattern) {
		if r.when == nil || r.when(seen) {
			return r, true
		}
	}
	return Rule{}, false
}

// empty reports whether v is left out of a manifest. A map's value counts
// even when it is zero: its key is there.
func empty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Slice, reflect.Map:
		return v.Len() == 0
	}
	return v.IsZero()
}

var unmarshaler = reflect.TypeFor[json.Unmarshaler]()

// leaf reports whether a type has no fields of its own in a manifest.
func leaf(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Struct:
		return reflect.PointerTo(t).Implements(unmarshaler)
	case reflect.Slice:
		return t.Elem().Kind() == reflect.Uint8
	case reflect.Map:
		return false
	}
	return true
}

// jsonName is a struct field's name in a manifest, "" for an inlined struct.
func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}
