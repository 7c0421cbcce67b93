package manifest

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// maxNodes bounds how far aliases may blow a document up.
const maxNodes = 100_000

// decoder turns a YAML tree into a JSON tree under the eyes of the Go type
// that it will become, so that each misfit is told with its line.
type decoder struct {
	problems []Problem
	nodes    int
}

func (d *decoder) problem(n *yaml.Node, path, format string, args ...any) {
	d.problems = append(d.problems, Problem{Line: max(n.Line, 1), Field: path, Reason: fmt.Sprintf(format, args...)})
}

// value converts n, which is to become a t. On a problem it returns nil.
func (d *decoder) value(n *yaml.Node, t reflect.Type, path string) any {
	at := n
	n = follow(n)
	if d.nodes++; d.nodes > maxNodes {
		if d.nodes == maxNodes+1 {
			d.problem(at, path, "the document's aliases unfold too far")
		}
		return nil
	}
	if isNull(n) {
		return nil
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t == reflect.TypeFor[metav1.FieldsV1]():
		return map[string]any{} // set by servers, dropped by the node: not worth reading
	case reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]()):
		return d.special(n, t, path)
	case t.Kind() == reflect.Struct:
		return d.fields(n, t, path)
	case t.Kind() == reflect.Map:
		return d.entries(n, t, path)
	case t.Kind() == reflect.Slice:
		return d.items(n, t, path)
	}
	return d.scalar(n, t, path)
}

// fields converts a mapping into the fields of struct t.
func (d *decoder) fields(n *yaml.Node, t reflect.Type, path string) any {
	known := fieldsOf(t)
	return d.mapping(n, path, "a set of fields", func(k, v *yaml.Node) (any, string) {
		at := join(path, k.Value)
		f, ok := known[k.Value]
		if !ok {
			d.problem(k, at, "no such field%s", advise(k.Value, known))
			return nil, at
		}
		return d.value(v, f, at), at
	})
}

// entries converts a mapping with free keys.
func (d *decoder) entries(n *yaml.Node, t reflect.Type, path string) any {
	return d.mapping(n, path, "a set of names and values", func(k, v *yaml.Node) (any, string) {
		at := path + "[" + k.Value + "]"
		return d.value(v, t.Elem(), at), at
	})
}

// mapping walks a mapping's own keys and then those that merge keys bring in.
func (d *decoder) mapping(n *yaml.Node, path, want string, each func(k, v *yaml.Node) (any, string)) any {
	if n.Kind != yaml.MappingNode {
		d.problem(n, path, "is %s; expected %s", what(n), want)
		return nil
	}
	tree, lines := map[string]any{}, map[string]int{}
	var merged []*yaml.Node
	for k, v := range pairs(n) {
		if k = follow(k); isMerge(k) {
			merged = append(merged, sources(v)...)
			continue
		}
		if k.Kind != yaml.ScalarNode {
			d.problem(k, path, "has %s as a name; expected text", what(k))
			continue
		}
		first, twice := lines[k.Value]
		value, at := each(k, v)
		if twice {
			d.problem(k, at, "is given twice; first on line %d", first)
			continue
		}
		tree[k.Value], lines[k.Value] = value, k.Line
	}
	for _, m := range merged {
		more, ok := d.merge(m, path, want, each).(map[string]any)
		for name, value := range more {
			if _, own := tree[name]; ok && !own {
				tree[name] = value
			}
		}
	}
	return tree
}

func (d *decoder) merge(m *yaml.Node, path, want string, each func(k, v *yaml.Node) (any, string)) any {
	if d.nodes++; d.nodes > maxNodes {
		return d.value(m, reflect.TypeFor[string](), path)
	}
	return d.mapping(follow(m), path, want, each)
}

func (d *decoder) items(n *yaml.Node, t reflect.Type, path string) any {
	if n.Kind != yaml.SequenceNode {
		d.problem(n, path, "is %s; expected a list (each item begins with \"- \")", what(n))
		return nil
	}
	list := make([]any, len(n.Content))
	for i, item := range n.Content {
		list[i] = d.value(item, t.Elem(), fmt.Sprintf("%s[%d]", path, i))
	}
	return list
}

func (d *decoder) scalar(n *yaml.Node, t reflect.Type, path string) any {
	kind := ""
	if n.Kind == yaml.ScalarNode {
		kind = tag(n)
	}
	switch t.Kind() {
	case reflect.String:
		if kind == "!!str" {
			return n.Value
		}
		if kind == "!!bool" || kind == "!!int" || kind == "!!float" {
			d.problem(n, path, "is %s; expected text: put it in quotes, %q", what(n), n.Value)
			return nil
		}
		d.problem(n, path, "is %s; expected text", what(n))
	case reflect.Bool:
		if kind == "!!bool" {
			v, _ := boolean(n.Value)
			return v
		}
		d.problem(n, path, "is %s; expected true or false", what(n))
	default:
		return d.integer(n, t, path)
	}
	return nil
}

func (d *decoder) integer(n *yaml.Node, t reflect.Type, path string) any {
	if n.Kind == yaml.ScalarNode && tag(n) == "!!int" {
		if v, err := whole(n.Value); err == nil && !reflect.Zero(t).OverflowInt(v) {
			return v
		}
		d.problem(n, path, "is %s, which is too large", what(n))
		return nil
	}
	advice := ""
	if _, err := whole(n.Value); n.Kind == yaml.ScalarNode && err == nil {
		advice = ": remove the quotes"
	}
	d.problem(n, path, "is %s; expected a whole number%s", what(n), advice)
	return nil
}

// whole reads an integer in any of YAML 1.1's spellings.
func whole(s string) (int64, error) {
	return strconv.ParseInt(strings.ReplaceAll(s, "_", ""), 0, 64)
}

// special converts what reads itself from JSON: quantities, ports, times.
func (d *decoder) special(n *yaml.Node, t reflect.Type, path string) any {
	want := "text"
	switch t {
	case reflect.TypeFor[resource.Quantity]():
		want = "an amount such as 500m, 0.5, 64Mi or 2Gi"
	case reflect.TypeFor[intstr.IntOrString]():
		want = "a number or a name"
	case reflect.TypeFor[metav1.Time]():
		want = "a time such as 2026-01-31T15:04:05Z"
	}
	v, ok := plain(n)
	if ok {
		text, err := json.Marshal(v)
		if err == nil && json.Unmarshal(text, reflect.New(t).Interface()) == nil {
			return v
		}
	}
	d.problem(n, path, "is %s; expected %s", what(n), want)
	return nil
}

// plain is a scalar's own value.
func plain(n *yaml.Node) (any, bool) {
	if n.Kind != yaml.ScalarNode {
		return nil, false
	}
	switch tag(n) {
	case "!!str":
		return n.Value, true
	case "!!int":
		v, err := whole(n.Value)
		return v, err == nil
	case "!!float":
		v, err := strconv.ParseFloat(strings.ReplaceAll(n.Value, "_", ""), 64)
		return v, err == nil && !math.IsInf(v, 0) && !math.IsNaN(v)
	}
	return nil, false
}

// fieldsOf are a struct's fields by their names in a manifest.
func fieldsOf(t reflect.Type) map[string]reflect.Type {
	known := map[string]reflect.Type{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name != "" {
			known[name] = f.Type
			continue
		}
		for inner, typ := range fieldsOf(f.Type) {
			known[inner] = typ
		}
	}
	return known
}

// homes are where a field that was put into the wrong place may belong.
func homes() map[string]reflect.Type {
	return map[string]reflect.Type{
		"metadata":          reflect.TypeFor[metav1.ObjectMeta](),
		"spec":              reflect.TypeFor[corev1.PodSpec](),
		"spec.containers[]": reflect.TypeFor[corev1.Container](),
	}
}
