package record

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
)

// Apply makes pods, complete with defaults, the wanted ones: all of them, for
// what is absent is taken away, except pods whose file is kept (it is refused,
// or nobody knows whether it is there).
//
//   - a new pod gets a UID;
//   - an unchanged one keeps it, also with other labels or annotations;
//   - one with another spec is marked for deletion and its successor noted;
//   - one whose file went is marked for deletion.
//
// An error names what could not be written; memory is unchanged there, the
// other pods are done, and the same call later does the rest.
//
// There is one caller. The lock is free between two pods, so that the first
// starts while the last is being written down.
func (s *Store) Apply(pods []*corev1.Pod, keep func(file string) bool) error {
	wanted := map[types.NamespacedName]*corev1.Pod{}
	for _, pod := range pods {
		wanted[nameOf(pod)] = pod
	}
	var errs []error
	for _, key := range s.names(wanted) {
		errs = append(errs, s.applyOne(key, wanted[key], keep))
	}
	return errors.Join(errs...)
}

// names are those that are wanted or recorded, in order.
func (s *Store) names(wanted map[types.NamespacedName]*corev1.Pod) []types.NamespacedName {
	s.mu.Lock()
	defer s.mu.Unlock()
	keys := slices.AppendSeq(slices.Collect(maps.Keys(wanted)), maps.Keys(s.entries))
	slices.SortFunc(keys, func(x, y types.NamespacedName) int { return strings.Compare(x.String(), y.String()) })
	return slices.Compact(keys)
}

func (s *Store) applyOne(key types.NamespacedName, want *corev1.Pod, keep func(file string) bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	have, next := s.entries[key], (*entry)(nil)
	switch {
	case want == nil && (have == nil || keep(have.file())):
	case want == nil:
		next = s.without(have)
	case have == nil:
		next = &entry{Pod: s.birth(want)}
	default:
		next = s.with(have, want)
	}
	if next == nil {
		return nil
	}
	if err := s.write(key, next); err != nil {
		return err
	}
	s.put(key, next)
	s.logger.Info("pod recorded", slog.String("pod", key.String()), slog.String("uid", string(next.Pod.UID)),
		slog.Bool("deleting", next.going()), slog.Bool("successor", next.Next != nil), slog.String("file", next.file()))
	return nil
}

// with returns the entry that have becomes when want is wanted, nil when
// nothing changes.
func (s *Store) with(have *entry, want *corev1.Pod) *entry {
	switch {
	case have.going() && have.Next != nil && sameSpec(have.Next, want) && sameMeta(have.Next, want):
		return nil
	case have.going():
		next := have.clone()
		next.Next = want.DeepCopy()
		return next
	case !sameSpec(have.Pod, want):
		next := have.clone()
		s.expire(next.Pod)
		next.Next = want.DeepCopy()
		return next
	case !sameMeta(have.Pod, want):
		next := have.clone()
		next.Pod.Labels, next.Pod.Annotations = maps.Clone(want.Labels), maps.Clone(want.Annotations)
		next.Pod.Spec.NodeName = want.Spec.NodeName
		return next
	}
	return nil
}

// without returns the entry that have becomes when nobody wants it any more,
// nil when it is on its way already.
func (s *Store) without(have *entry) *entry {
	if have.going() && have.Next == nil {
		return nil
	}
	next := have.clone()
	next.Next = nil
	if !next.going() {
		s.expire(next.Pod)
	}
	return next
}

// birth gives a wanted pod what an API server would.
func (s *Store) birth(want *corev1.Pod) *corev1.Pod {
	pod := want.DeepCopy()
	pod.UID = uuid.NewUUID()
	pod.CreationTimestamp = metav1.NewTime(s.now().UTC()).Rfc3339Copy()
	pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = nil, nil
	pod.Generation = 1
	pod.Status = corev1.PodStatus{Phase: corev1.PodPending}
	return pod
}

// expire marks a pod for deletion as an API server does: the timestamp is
// when the grace period will be over.
func (s *Store) expire(pod *corev1.Pod) {
	grace := int64(corev1.DefaultTerminationGracePeriodSeconds)
	if t := pod.Spec.TerminationGracePeriodSeconds; t != nil {
		grace = *t
	}
	when := metav1.NewTime(s.now().UTC()).Rfc3339Copy()
	when = metav1.NewTime(when.Add(seconds(grace)))
	pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = &when, &grace
	pod.Generation++
}

// sameSpec compares what a pod is. The node's own name may change without
// making another pod of it.
func sameSpec(a, b *corev1.Pod) bool {
	x, y := a.Spec, b.Spec
	x.NodeName, y.NodeName = "", ""
	return equality.Semantic.DeepEqual(x, y)
}

func sameMeta(a, b *corev1.Pod) bool {
	return equality.Semantic.DeepEqual(a.Labels, b.Labels) &&
		equality.Semantic.DeepEqual(a.Annotations, b.Annotations) &&
		a.Spec.NodeName == b.Spec.NodeName
}

// SetStatus notes what the agent observed. The status of another UID is
// ignored. It is written down only when the pod is over: whether a pod succeeded
// must outlive the agent, the rest is observed again. After an error call again.
func (s *Store) SetStatus(key types.NamespacedName, uid types.UID, st corev1.PodStatus) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.entries[key]
	if !ok || e.Pod.UID != uid {
		return nil
	}
	if changed := !equality.Semantic.DeepEqual(e.Pod.Status, st); changed {
		st.DeepCopyInto(&e.Pod.Status)
		e.durable = false
		s.put(key, e)
	}
	if !over(e.Pod) || e.durable {
		return nil
	}
	if err := s.write(key, e); err != nil {
		return err
	}
	e.durable = true
	return nil
}

func over(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// Remove forgets a pod of which the agent says that nothing is left. A waiting
// successor takes the name with a new UID. Another UID than the recorded one, or
// a pod that nobody deleted, is left alone.
func (s *Store) Remove(key types.NamespacedName, uid types.UID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.entries[key]
	if !ok || e.Pod.UID != uid {
		return nil
	}
	if !e.going() {
		return fmt.Errorf("remove pod %s: it is wanted", key)
	}
	if e.Next == nil {
		if err := s.erase(key); err != nil {
			return err
		}
		delete(s.entries, key)
		s.tell(key)
		return nil
	}
	next := &entry{Pod: s.birth(e.Next)}
	if err := s.write(key, next); err != nil {
		return err
	}
	s.put(key, next)
	return nil
}
