package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"

	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Parse reads one manifest: any number of documents, each a Pod or a List of
// Pods. Fields that do not exist, fields given twice and values of the wrong
// type are problems. Lines are those of the file.
func Parse(name string, text []byte, check Check) File {
	p := parser{check: check, file: File{Name: name, lines: map[types.NamespacedName]int{}}}
	if len(text) > MaxSize {
		p.problem(1, "", fmt.Sprintf("is larger than %d KiB; split the file", MaxSize>>10))
		return p.file
	}
	documents, broken := split(text)
	for _, doc := range documents {
		p.document(doc)
	}
	if broken != nil {
		p.file.Problems = append(p.file.Problems, *broken)
	}
	slices.SortStableFunc(p.file.Problems, func(a, b Problem) int { return a.Line - b.Line })
	switch {
	case len(p.file.Problems) > 0:
		p.file.Pods = nil
	case len(p.file.Pods) == 0:
		p.file.Warnings = append(p.file.Warnings, "holds no pod")
	}
	return p.file
}

// split reads the documents of a YAML stream. What follows a syntax error is
// not read.
func split(text []byte) ([]*yaml.Node, *Problem) {
	var documents []*yaml.Node
	for dec := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var doc yaml.Node
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return documents, nil
		}
		if err != nil {
			return documents, syntax(err, text)
		}
		if doc.Kind == yaml.DocumentNode && len(doc.Content) == 1 {
			documents = append(documents, doc.Content[0])
		}
	}
}

// parser collects the verdict on one file.
type parser struct {
	file  File
	check Check
}

func (p *parser) problem(line int, field, reason string) {
	p.file.Problems = append(p.file.Problems, Problem{Line: max(line, 1), Field: field, Reason: reason})
}

func (p *parser) document(n *yaml.Node) {
	if isNull(n) {
		return
	}
	p.object(n, "", "")
}

// object reads what apiVersion and kind say it is. path is where it stands in
// its document; kind is what it is when it does not say.
func (p *parser) object(n *yaml.Node, path, kind string) {
	if n = follow(n); n.Kind != yaml.MappingNode {
		p.problem(n.Line, path, "is "+what(n)+"; expected an object with apiVersion and kind")
		return
	}
	version := "v1"
	if k, v := textOf(n, "kind"), textOf(n, "apiVersion"); kind == "" || k != "" {
		kind, version = k, v
	}
	switch {
	case kind == "":
		p.problem(n.Line, join(path, "kind"), "is missing; a pod's is Pod")
	case kind != "Pod" && kind != "PodList" && kind != "List":
		p.problem(lineOf(n, "kind"), join(path, "kind"), fmt.Sprintf("%s is not run from files yet, only Pod is; other kinds come with the API", kind))
	case version != "v1":
		reason := "is missing; a pod's is v1"
		if version != "" {
			reason = fmt.Sprintf("is %s, but kind %s belongs to v1", version, kind)
		}
		p.problem(lineOf(n, "apiVersion"), join(path, "apiVersion"), reason)
	case kind == "Pod":
		p.pod(n, path)
	default:
		p.list(n, path, kind)
	}
}

func (p *parser) list(n *yaml.Node, path, kind string) {
	if path != "" {
		p.problem(n.Line, path, "is a list in a list; write its items one level higher")
		return
	}
	item := ""
	if kind == "PodList" {
		item = "Pod"
	}
	for k, v := range pairs(n) {
		switch k.Value {
		case "apiVersion", "kind", "metadata":
		case "items":
			if v = follow(v); v.Kind != yaml.SequenceNode && !isNull(v) {
				p.problem(v.Line, "items", "is "+what(v)+"; expected a list")
				continue
			}
			for i, one := range v.Content {
				p.object(one, fmt.Sprintf("items[%d]", i), item)
			}
		default:
			p.problem(k.Line, k.Value, "no such field"+suggest(k.Value, []string{"apiVersion", "kind", "metadata", "items"}))
		}
	}
}

func (p *parser) pod(n *yaml.Node, path string) {
	d := decoder{}
	tree := d.value(n, reflect.TypeFor[corev1.Pod](), path)
	if len(d.problems) > 0 {
		p.file.Problems = append(p.file.Problems, d.problems...)
		return
	}
	pod := &corev1.Pod{}
	text, err := json.Marshal(tree)
	if err == nil {
		err = json.Unmarshal(text, pod)
	}
	if err != nil {
		p.problem(n.Line, path, "cannot be read as a Pod: "+err.Error())
		return
	}
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	pod.Annotations[FileAnnotation] = p.file.Name
	p.judge(pod, n, path)
}

// judge lets the check see a pod and turns its answer into lines.
func (p *parser) judge(pod *corev1.Pod, n *yaml.Node, path string) {
	if p.check != nil {
		warnings, problems := p.check(pod)
		for _, w := range warnings {
			p.file.Warnings = append(p.file.Warnings, fmt.Sprintf("pod %s: %s", key(pod), w))
		}
		for _, e := range problems {
			p.problem(locate(n, e.Field), join(path, e.Field), words(e))
		}
	}
	if pod.Name == "" {
		if p.check == nil {
			p.problem(n.Line, join(path, "metadata.name"), "is missing")
		}
		return
	}
	line := locate(n, "metadata.name")
	if first, twice := p.file.lines[key(pod)]; twice {
		p.problem(line, join(path, "metadata.name"), fmt.Sprintf("pod %s is already described on line %d of this file", key(pod), first))
		return
	}
	p.file.lines[key(pod)] = line
	p.file.Pods = append(p.file.Pods, pod)
}

func join(path, field string) string {
	if path == "" || field == "" {
		return path + field
	}
	return path + "." + field
}
