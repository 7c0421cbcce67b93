package manifest

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"
)

// Resolve refuses the files that describe a pod of another file. A pod that
// runs belongs to its owner as long as that file is there, even while the file
// is refused; otherwise the lexically first file has it. owner returns "" for a
// pod that nobody has. The snapshot handed in is not changed.
func Resolve(s Snapshot, owner func(types.NamespacedName) string) Snapshot {
	s.Files = slices.Clone(s.Files)
	slices.SortFunc(s.Files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	byName := map[string]*File{}
	for i := range s.Files {
		byName[s.Files[i].Name] = &s.Files[i]
	}
	taken := map[types.NamespacedName]string{}
	for i := range s.Files {
		f := &s.Files[i]
		if len(f.Problems) > 0 {
			continue
		}
		for _, pod := range f.Pods {
			k := key(pod)
			has := taken[k]
			if o := byName[owner(k)]; o != nil && o != f && claims(o, k) {
				has = o.Name
			}
			if has != "" {
				f.Problems = append(f.Problems, Problem{Line: max(f.lines[k], 1), Field: "metadata.name",
					Reason: fmt.Sprintf("pod %s is described in %s and in %s; %s has it", k, has, f.Name, has)})
			}
		}
		if len(f.Problems) > 0 {
			f.Pods = nil
			continue
		}
		for _, pod := range f.Pods {
			taken[key(pod)] = f.Name
		}
	}
	return s
}

// claims reports whether a file may still describe a pod that it owns: it
// does, or it is broken and nobody knows.
func claims(f *File, k types.NamespacedName) bool {
	if _, ok := f.lines[k]; ok {
		return true
	}
	return len(f.Problems) > 0
}
