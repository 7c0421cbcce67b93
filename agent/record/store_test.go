package record

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	defaults "k8s.io/kubernetes/pkg/apis/core/v1"
)

var noon = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func clock() time.Time { return noon }

func pod(name, image, file string) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, Annotations: map[string]string{FileAnnotation: file}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: image}}},
	}
	defaults.SetObjectDefaults_Pod(p)
	return p
}

func keyOf(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: "shop", Name: name}
}

func none(string) bool { return false }

func opened(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir, clock, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func apply(t *testing.T, s *Store, keep func(string) bool, pods ...*corev1.Pod) {
	t.Helper()
	if err := s.Apply(pods, keep); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, s *Store, name string) *corev1.Pod {
	t.Helper()
	p, ok := s.Get(keyOf(name))
	if !ok {
		t.Fatalf("no pod %s", name)
	}
	return p
}

// state sums up what is recorded under a name: image, where it is in its
// life, its successor's image.
func state(s *Store, name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.entries[keyOf(name)]
	if !ok {
		return "nothing"
	}
	out := e.Pod.Spec.Containers[0].Image
	if e.going() {
		out += " going"
	}
	if e.Next != nil {
		out += " then " + e.Next.Spec.Containers[0].Image
	}
	return out
}

// both asserts a state now and after a restart of the agent.
func both(t *testing.T, s *Store, name, want string) {
	t.Helper()
	if got := state(s, name); got != want {
		t.Errorf("recorded %q, want %q", got, want)
	}
	if got := state(opened(t, s.dir), name); got != want {
		t.Errorf("after a restart %q, want %q", got, want)
	}
}

func TestLife(t *testing.T) {
	s := opened(t, t.TempDir())
	apply(t, s, none, pod("web", "v1", "a.yaml"))
	both(t, s, "web", "v1")
	first := get(t, s, "web")
	if first.UID == "" || !first.CreationTimestamp.Time.Equal(noon) || first.Status.Phase != corev1.PodPending || first.Generation != 1 {
		t.Errorf("born as %+v", first.ObjectMeta)
	}

	apply(t, s, none, pod("web", "v1", "a.yaml"))
	if again := get(t, s, "web"); again.ResourceVersion != first.ResourceVersion {
		t.Error("an unchanged pod was touched")
	}

	labelled := pod("web", "v1", "b.yaml")
	labelled.Labels = map[string]string{"tier": "front"}
	apply(t, s, none, labelled)
	if p := get(t, s, "web"); p.UID != first.UID || p.Labels["tier"] != "front" || p.ResourceVersion == first.ResourceVersion {
		t.Errorf("labelled: %+v", p.ObjectMeta)
	}
	if got := s.Owner(keyOf("web")); got != "b.yaml" {
		t.Errorf("owner %q, want b.yaml", got)
	}

	apply(t, s, none, pod("web", "v2", "b.yaml"))
	both(t, s, "web", "v1 going then v2")
	if p := get(t, s, "web"); p.UID != first.UID || *p.DeletionGracePeriodSeconds != 30 || !p.DeletionTimestamp.Time.Equal(noon.Add(30*time.Second)) {
		t.Errorf("going: %+v", p.ObjectMeta)
	}
	apply(t, s, none, pod("web", "v3", "b.yaml"))
	both(t, s, "web", "v1 going then v3")
	apply(t, s, none, pod("web", "v1", "b.yaml"))
	both(t, s, "web", "v1 going then v1")

	if err := s.Remove(keyOf("web"), "another"); err != nil {
		t.Fatal(err)
	}
	both(t, s, "web", "v1 going then v1")
	if err := s.Remove(keyOf("web"), first.UID); err != nil {
		t.Fatal(err)
	}
	both(t, s, "web", "v1")
	second := get(t, s, "web")
	if second.UID == first.UID || second.DeletionTimestamp != nil || second.Status.Phase != corev1.PodPending {
		t.Errorf("successor: %+v", second.ObjectMeta)
	}
	if err := s.Remove(keyOf("web"), second.UID); err == nil || err.Error() != "remove pod shop/web: it is wanted" {
		t.Errorf("removing a wanted pod: %v", err)
	}

	apply(t, s, none)
	both(t, s, "web", "v1 going")
	if err := s.Remove(keyOf("web"), second.UID); err != nil {
		t.Fatal(err)
	}
	both(t, s, "web", "nothing")
	if left, err := filepath.Glob(filepath.Join(s.dir, "*")); err != nil || len(left) > 0 {
		t.Errorf("left on disk: %v, %v", left, err)
	}
}

func TestKeptFiles(t *testing.T) {
	s := opened(t, t.TempDir())
	apply(t, s, none, pod("web", "v1", "a.yaml"), pod("db", "v1", "b.yaml"), pod("old", "v1", "a.yaml"))
	apply(t, s, none, pod("web", "v2", "a.yaml"), pod("db", "v1", "b.yaml"), pod("old", "v1", "a.yaml"))
	apply(t, s, func(f string) bool { return f == "a.yaml" })
	both(t, s, "web", "v1 going then v2")
	both(t, s, "db", "v1 going")
	both(t, s, "old", "v1")
	apply(t, s, none)
	both(t, s, "web", "v1 going")
	apply(t, s, none, pod("web", "v4", "c.yaml"))
	both(t, s, "web", "v1 going then v4")
}

func TestFinishedPodStaysFinished(t *testing.T) {
	s := opened(t, t.TempDir())
	apply(t, s, none, pod("job", "v1", "a.yaml"))
	uid := get(t, s, "job").UID
	set := func(uid types.UID, phase corev1.PodPhase) {
		t.Helper()
		if err := s.SetStatus(keyOf("job"), uid, corev1.PodStatus{Phase: phase, Message: "m"}); err != nil {
			t.Fatal(err)
		}
	}
	set(uid, corev1.PodRunning)
	if p := get(t, opened(t, s.dir), "job"); p.Status.Phase != corev1.PodPending || p.Status.Message != "" {
		t.Errorf("a running pod's status was written down: %+v", p.Status)
	}
	set("another", corev1.PodFailed)
	if p := get(t, s, "job"); p.Status.Phase != corev1.PodRunning {
		t.Error("another UID's status was taken")
	}
	set(uid, corev1.PodSucceeded)
	version := get(t, s, "job").ResourceVersion
	set(uid, corev1.PodSucceeded)
	if get(t, s, "job").ResourceVersion != version {
		t.Error("an unchanged status moved the resource version")
	}
	s = opened(t, s.dir)
	apply(t, s, none, pod("job", "v1", "a.yaml"))
	if p := get(t, s, "job"); p.UID != uid || p.Status.Phase != corev1.PodSucceeded || p.Status.Message != "m" {
		t.Errorf("after a restart %s %+v", p.UID, p.Status)
	}
	apply(t, s, none, pod("job", "v2", "a.yaml"))
	both(t, s, "job", "v1 going then v2")
}

func TestUpgradeIsNoEdit(t *testing.T) {
	s := opened(t, t.TempDir())
	apply(t, s, none, pod("web", "v1", "a.yaml"))
	path := s.path(keyOf("web"))
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	older := strings.Replace(string(text), `"schedulerName": "default-scheduler",`, "", 1)
	older = strings.Replace(older, `"enableServiceLinks": true`, `"nodeName": "before"`, 1)
	if strings.Contains(older, "schedulerName") || strings.Contains(older, "enableServiceLinks") {
		t.Fatalf("nothing to leave out of %s", text)
	}
	if err := os.WriteFile(path, []byte(older), 0o600); err != nil {
		t.Fatal(err)
	}
	s = opened(t, s.dir)
	want := pod("web", "v1", "a.yaml")
	want.Spec.NodeName = "after"
	apply(t, s, none, want)
	both(t, s, "web", "v1")
	if got := get(t, s, "web").Spec.NodeName; got != "after" {
		t.Errorf("node name %q, want after", got)
	}
}

func TestCopies(t *testing.T) {
	s := opened(t, t.TempDir())
	mine := pod("web", "v1", "a.yaml")
	apply(t, s, none, mine)
	mine.Spec.Containers[0].Image = "changed"
	s.List()[0].Spec.Containers[0].Image = "changed"
	get(t, s, "web").Spec.Containers[0].Image = "changed"
	both(t, s, "web", "v1")
}

func TestWatch(t *testing.T) {
	s := opened(t, t.TempDir())
	apply(t, s, none, pod("a", "v1", "f"), pod("b", "v1", "f"))
	ctx, cancel := context.WithCancel(t.Context())
	keys, goOn, done := make(chan string), make(chan struct{}), make(chan error, 1)
	go func() {
		done <- s.Watch(ctx, func(k types.NamespacedName) {
			keys <- k.Name
			<-goOn
		})
	}()
	next := func() string {
		t.Helper()
		select {
		case k := <-keys:
			return k
		case <-time.After(10 * time.Second):
			t.Fatal("no key")
			return ""
		}
	}
	if k := next(); k != "a" {
		t.Errorf("first %s, want a", k)
	}
	// The watcher sits in its callback: writers go on, and what they do coalesces.
	uid := get(t, s, "a").UID
	for _, phase := range []corev1.PodPhase{corev1.PodRunning, corev1.PodPending, corev1.PodRunning} {
		if err := s.SetStatus(keyOf("a"), uid, corev1.PodStatus{Phase: phase}); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for range 2 {
		goOn <- struct{}{}
		got = append(got, next())
	}
	if !slices.Equal(got, []string{"b", "a"}) {
		t.Errorf("then %v, want b a", got)
	}
	goOn <- struct{}{}
	apply(t, s, none, pod("b", "v1", "f"))
	if k := next(); k != "a" {
		t.Errorf("deletion of %s, want a", k)
	}
	goOn <- struct{}{}
	if err := s.Remove(keyOf("a"), uid); err != nil {
		t.Fatal(err)
	}
	if k := next(); k != "a" {
		t.Errorf("removal of %s, want a", k)
	}
	cancel()
	goOn <- struct{}{}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if len(s.watchers) > 0 {
		t.Error("the watcher was left behind")
	}
}

func TestSettle(t *testing.T) {
	s := opened(t, t.TempDir())
	expect := func(device string, files []string, prune bool) string {
		t.Helper()
		got, reason, err := s.Settle(device, files)
		if err != nil {
			t.Fatal(err)
		}
		if got != prune || (reason == "") != prune {
			t.Errorf("device %s with %v: prune %v (%s), want %v", device, files, got, reason, prune)
		}
		s = opened(t, s.dir)
		return reason
	}
	expect("disk", nil, true)
	apply(t, s, none, pod("web", "v1", "a.yaml"), pod("db", "v1", "b.yaml"))
	expect("disk", []string{"b.yaml"}, true)
	reason := expect("root", []string{"b.yaml"}, false)
	if !strings.Contains(reason, "lacks a.yaml: ") {
		t.Errorf("reason %q does not name the file", reason)
	}
	expect("disk", nil, true)
	expect("other", []string{"a.yaml", "b.yaml", "c.yaml"}, true)
	expect("other", nil, true)
	expect("root", nil, false)
	if err := os.Remove(filepath.Join(s.dir, deviceFile)); err != nil {
		t.Fatal(err)
	}
	expect("root", nil, true)
}

func TestBrokenRecordIsSetAside(t *testing.T) {
	s := opened(t, t.TempDir())
	apply(t, s, none, pod("web", "v1", "a.yaml"), pod("db", "v1", "b.yaml"))
	path := s.path(keyOf("web"))
	for name, text := range map[string]string{
		filepath.Base(path): "{ torn", "shop_empty.json": "", "shop_null.json": "null", "shop_moved.json": `{"pod":{"metadata":{"namespace":"shop","name":"web","uid":"u"}}}`,
		"shop_db.json.tmp": "{",
	} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s = opened(t, s.dir)
	if got := state(s, "web") + ", " + state(s, "db"); got != "nothing, v1" {
		t.Errorf("recorded %q", got)
	}
	var left []string
	files, err := os.ReadDir(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		left = append(left, f.Name())
	}
	if want := []string{"shop_db.json", "shop_empty.json.broken", "shop_moved.json.broken", "shop_null.json.broken", "shop_web.json.broken"}; !slices.Equal(left, want) {
		t.Errorf("left %v, want %v", left, want)
	}
	apply(t, s, none, pod("web", "v1", "a.yaml"), pod("db", "v1", "b.yaml"))
	both(t, s, "web", "v1")
}
