package manifest

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// FileAnnotation names the file that a pod came from; Parse sets it.
const FileAnnotation = "pinnace.dev/file"

// MaxSize is how large a manifest may be, in bytes.
const MaxSize = 1 << 20

// Check judges and completes one pod: defaults, validation, what the node
// cannot honour. It may be nil.
type Check = func(*corev1.Pod) (warnings []string, problems field.ErrorList)

// Problem is one reason why a file is refused. Line counts from 1 and is 0
// only when the file could not be read.
type Problem struct {
	Line   int
	Field  string // path as in spec.containers[0].image, "" for the document
	Reason string
}

func (p Problem) String() string {
	s := p.Reason
	if p.Field != "" {
		s = p.Field + ": " + s
	}
	if p.Line > 0 {
		s = fmt.Sprintf("line %d: %s", p.Line, s)
	}
	return s
}

// File is the verdict on one file. With Problems it is refused, and Pods is
// empty. Its contents are shared: treat them as read-only.
type File struct {
	Name     string // in the directory
	Pods     []*corev1.Pod
	Problems []Problem
	Warnings []string

	lines map[types.NamespacedName]int // where each pod begins, also of a refused file
}

// Snapshot is the directory at one moment.
type Snapshot struct {
	Dir string
	// Whole is false when the directory is missing or unreadable: Files is
	// empty then, and nothing may be pruned. Reason says why.
	Whole  bool
	Reason string
	// Device identifies the file system that the directory lies on; a caller
	// that remembers it notices a mount that went missing.
	Device string
	Files  []File // by name
	// Ignored are the names that are no manifests by their ending; dot files
	// and folders are not worth telling.
	Ignored []string
	// Note is what the operator should know although all is well.
	Note string
}

func key(pod *corev1.Pod) types.NamespacedName {
	k := types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name}
	if k.Namespace == "" {
		k.Namespace = corev1.NamespaceDefault
	}
	return k
}
