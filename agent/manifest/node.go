package manifest

import (
	"iter"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// follow leads from an alias to what it stands for.
func follow(n *yaml.Node) *yaml.Node {
	for range 10 { // an alias of an alias does not exist; a broken tree must not hang us
		if n.Kind != yaml.AliasNode {
			break
		}
		n = n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool {
	return n.Kind == 0 || n.Kind == yaml.ScalarNode && tag(n) == "!!null"
}

// what names a node's kind for a sentence.
func what(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a set of fields"
	case yaml.SequenceNode:
		return "a list"
	}
	switch tag(n) {
	case "!!bool":
		return "a yes or no (" + n.Value + ")"
	case "!!int", "!!float":
		return "a number (" + n.Value + ")"
	case "!!null":
		return "empty"
	}
	return "text (" + strconv.Quote(clip(n.Value)) + ")"
}

func clip(s string) string {
	const most = 60
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}

// tag is the type of a scalar as kubectl reads it, which is YAML 1.1: yes, no,
// on, off, y and n are booleans unless quoted. Dates stay text.
func tag(n *yaml.Node) string {
	t := n.ShortTag()
	const marked = yaml.SingleQuotedStyle | yaml.DoubleQuotedStyle | yaml.LiteralStyle | yaml.FoldedStyle | yaml.TaggedStyle
	switch {
	case t == "!!timestamp":
		return "!!str"
	case t == "!!str" && n.Style&marked == 0:
		if _, ok := boolean(n.Value); ok {
			return "!!bool"
		}
	}
	return t
}

// boolean reads a truth value in any of YAML 1.1's spellings.
func boolean(s string) (value, ok bool) {
	switch s {
	case "y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "true", "True", "TRUE":
		return true, true
	case "n", "N", "no", "No", "NO", "off", "Off", "OFF", "false", "False", "FALSE":
		return false, true
	}
	return false, false
}

// pairs yields a mapping's keys and values as written.
func pairs(n *yaml.Node) iter.Seq2[*yaml.Node, *yaml.Node] {
	return func(yield func(k, v *yaml.Node) bool) {
		for i := 0; i+1 < len(n.Content); i += 2 {
			if !yield(n.Content[i], n.Content[i+1]) {
				return
			}
		}
	}
}

// child finds a field of a mapping, also one that a merge key brings in.
func child(n *yaml.Node, name string) (k, v *yaml.Node) {
	return childWithin(n, name, 10)
}

func childWithin(n *yaml.Node, name string, depth int) (k, v *yaml.Node) {
	if n = follow(n); n.Kind != yaml.MappingNode || depth == 0 {
		return nil, nil
	}
	var merged []*yaml.Node
	for k, v := range pairs(n) {
		if k.Value == name && !isMerge(k) {
			return k, v
		}
		if isMerge(k) {
			merged = append(merged, sources(v)...)
		}
	}
	for _, m := range merged {
		if k, v := childWithin(m, name, depth-1); k != nil {
			return k, v
		}
	}
	return nil, nil
}

func isMerge(k *yaml.Node) bool { return k.Kind == yaml.ScalarNode && k.ShortTag() == "!!merge" }

// sources are the mappings that a merge key names.
func sources(v *yaml.Node) []*yaml.Node {
	if v = follow(v); v.Kind == yaml.SequenceNode {
		return v.Content
	}
	return []*yaml.Node{v}
}

func textOf(n *yaml.Node, name string) string {
	if _, v := child(n, name); v != nil {
		if v = follow(v); v.Kind == yaml.ScalarNode && !isNull(v) {
			return v.Value
		}
	}
	return ""
}

func lineOf(n *yaml.Node, name string) int {
	if k, _ := child(n, name); k != nil {
		return k.Line
	}
	return n.Line
}

// locate finds the line of a field path such as spec.containers[0].image or
// metadata.labels[app]. What is not there has the line of what is around it.
func locate(n *yaml.Node, path string) int {
	line := n.Line
	for path != "" {
		var step string
		step, path = next(path)
		n = follow(n)
		if n.Kind == yaml.SequenceNode {
			i, err := strconv.Atoi(step)
			if err != nil || i < 0 || i >= len(n.Content) {
				return line
			}
			n = n.Content[i]
			line = n.Line
			continue
		}
		k, v := child(n, step)
		if k == nil {
			return line
		}
		n, line = v, k.Line
	}
	return line
}

// next cuts the first step off a field path: a name, an index or a map key.
func next(path string) (step, rest string) {
	path = strings.TrimPrefix(path, ".")
	if strings.HasPrefix(path, "[") {
		if end := strings.IndexByte(path, ']'); end > 0 {
			return path[1:end], path[end+1:]
		}
		return path[1:], ""
	}
	if end := strings.IndexAny(path, ".["); end > 0 {
		return path[:end], path[end:]
	}
	return path, ""
}
