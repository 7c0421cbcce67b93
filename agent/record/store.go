package record

import (
	"cmp"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// FileAnnotation names the manifest that a pod came from; whoever parses
// manifests sets it.
const FileAnnotation = "pinnace.dev/file"

// Store holds the node's pods. It is safe for concurrent use; what it hands
// out are copies.
type Store struct {
	dir    string
	now    func() time.Time
	logger *slog.Logger
	disk   disk

	mu       sync.Mutex
	entries  map[types.NamespacedName]*entry
	revision int64
	watchers map[*watcher]struct{}
}

// entry is what is known under one name.
//
//	(nothing) ──Apply──► live ──edited or file gone──► going ──Remove──► (nothing)
//	                      ▲                              │
//	                      └──────── Next, new UID ◄──────┘ Remove, with a successor
type entry struct {
	Pod *corev1.Pod `json:"pod"`
	// Next takes the name when Pod is gone. It has no UID yet.
	Next *corev1.Pod `json:"next,omitempty"`

	durable bool // the status on disk is Pod's
}

func (e *entry) going() bool { return e.Pod.DeletionTimestamp != nil }

// file is the manifest that decides about this name.
func (e *entry) file() string {
	if e.Next != nil {
		return e.Next.Annotations[FileAnnotation]
	}
	return e.Pod.Annotations[FileAnnotation]
}

func (e *entry) clone() *entry {
	c := &entry{Pod: e.Pod.DeepCopy(), durable: e.durable}
	if e.Next != nil {
		c.Next = e.Next.DeepCopy()
	}
	return c
}

// Open reads the records in dir, which it makes when absent. A record that
// cannot be read is set aside as *.broken and logged; its pod is forgotten until
// its manifest brings it back.
func Open(dir string, now func() time.Time, logger *slog.Logger) (*Store, error) {
	return open(dir, now, logger, kernel{})
}

func open(dir string, now func() time.Time, logger *slog.Logger, d disk) (*Store, error) {
	s := &Store{
		dir: dir, now: now, logger: logger, disk: d,
		entries: map[types.NamespacedName]*entry{}, watchers: map[*watcher]struct{}{},
	}
	if err := s.load(); err != nil {
		return nil, fmt.Errorf("open records %s: %w", dir, err)
	}
	return s, nil
}

func nameOf(pod *corev1.Pod) types.NamespacedName {
	return types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name}
}

// List returns the pods by name. A pod that is being replaced is listed as it
// still runs.
func (s *Store) List() []*corev1.Pod {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*corev1.Pod, 0, len(s.entries))
	for _, e := range s.entries {
		all = append(all, e.Pod.DeepCopy())
	}
	slices.SortFunc(all, func(a, b *corev1.Pod) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return all
}

// Get returns one pod.
func (s *Store) Get(key types.NamespacedName) (*corev1.Pod, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.entries[key]
	if !ok {
		return nil, false
	}
	return e.Pod.DeepCopy(), true
}

// Owner returns the manifest that decides about a name, "" for none.
func (s *Store) Owner(key types.NamespacedName) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, ok := s.entries[key]; ok {
		return e.file()
	}
	return ""
}

// put makes e the truth about key in memory, after it was written down, and
// tells the watchers. The lock is held.
func (s *Store) put(key types.NamespacedName, e *entry) {
	s.touch(e.Pod)
	s.entries[key] = e
	s.tell(key)
}

// touch gives the pod the next resource version. They count in memory only:
// who watches lives in this process.
func (s *Store) touch(pod *corev1.Pod) {
	s.revision++
	pod.ResourceVersion = fmt.Sprint(s.revision)
}
