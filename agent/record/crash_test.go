package record

import (
	"errors"
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

var errFull = errors.New("no space left on device")

// faulty is a disk whose operations fail from the nth on, as when it is full
// or the process is gone. With torn, the write that fails leaves half a file.
type faulty struct {
	kernel
	left int
	torn bool
	ops  int
}

func (f *faulty) next() bool {
	f.ops++
	f.left--
	return f.left >= 0
}

func (f *faulty) Create(name string, text []byte) error {
	if f.next() {
		return f.kernel.Create(name, text)
	}
	if f.torn {
		if err := os.WriteFile(name, text[:len(text)/2], 0o600); err != nil {
			return err
		}
	}
	return errFull
}

func (f *faulty) Rename(from, to string) error {
	if f.next() {
		return f.kernel.Rename(from, to)
	}
	return errFull
}

func (f *faulty) Remove(name string) error {
	if f.next() {
		return f.kernel.Remove(name)
	}
	return errFull
}

func (f *faulty) SyncDir(dir string) error {
	if f.next() {
		return f.kernel.SyncDir(dir)
	}
	return errFull
}

func remove(s *Store) error {
	p, ok := s.Get(keyOf("web"))
	if !ok {
		return nil
	}
	return s.Remove(keyOf("web"), p.UID)
}

func want(pods ...*corev1.Pod) func(*Store) error {
	return func(s *Store) error { return s.Apply(pods, none) }
}

func finish(s *Store) error {
	p, ok := s.Get(keyOf("web"))
	if !ok {
		return errors.New("no pod")
	}
	return s.SetStatus(keyOf("web"), p.UID, corev1.PodStatus{Phase: corev1.PodFailed})
}

// TestEveryStepMayBeTheLast runs each change with a disk that stops working
// before its nth operation, for every n. Memory is as before the change then, a
// restart finds what was or what shall be, and the same call on a sound disk
// gets there.
func TestEveryStepMayBeTheLast(t *testing.T) {
	v1, v2 := pod("web", "v1", "a.yaml"), pod("web", "v2", "a.yaml")
	for _, c := range []struct {
		name       string
		before     []func(*Store) error
		change     func(*Store) error
		was, shall string
		steps      int
	}{
		{"add", nil, want(v1), "nothing", "v1", 3},
		{"edit", []func(*Store) error{want(v1)}, want(v2), "v1", "v1 going then v2", 3},
		{"delete", []func(*Store) error{want(v1)}, want(), "v1", "v1 going", 3},
		{"succeed", []func(*Store) error{want(v1), want(v2)}, remove, "v1 going then v2", "v2", 3},
		{"remove", []func(*Store) error{want(v1), want()}, remove, "v1 going", "nothing", 2},
	} {
		for _, torn := range []bool{false, true} {
			n := 0
			for ; ; n++ {
				s := opened(t, t.TempDir())
				for _, step := range c.before {
					if err := step(s); err != nil {
						t.Fatal(err)
					}
				}
				s.disk = &faulty{left: n, torn: torn}
				err := c.change(s)
				if err == nil {
					break
				}
				if !errors.Is(err, errFull) || !strings.Contains(err.Error(), "shop/web") {
					t.Errorf("%s, step %d: error %q does not say what and why", c.name, n, err)
				}
				if got := state(s, "web"); got != c.was {
					t.Errorf("%s, step %d: memory has %q, want %q", c.name, n, got, c.was)
				}
				if got := state(opened(t, s.dir), "web"); got != c.was && got != c.shall {
					t.Errorf("%s, step %d: a restart finds %q, want %q or %q", c.name, n, got, c.was, c.shall)
				}
				s.disk = kernel{}
				if err := c.change(s); err != nil {
					t.Errorf("%s, step %d: again: %v", c.name, n, err)
				}
				both(t, s, "web", c.shall)
			}
			if n != c.steps {
				t.Errorf("%s: %d steps, want %d", c.name, n, c.steps)
			}
		}
	}
}

// TestFinalStatusIsWrittenInTheEnd loses the disk while a pod fails: the
// status is seen at once, and written when the agent says it again.
func TestFinalStatusIsWrittenInTheEnd(t *testing.T) {
	for n := range 3 {
		s := opened(t, t.TempDir())
		apply(t, s, none, pod("web", "v1", "a.yaml"))
		s.disk = &faulty{left: n}
		if err := finish(s); !errors.Is(err, errFull) {
			t.Fatalf("step %d: %v", n, err)
		}
		if got := get(t, s, "web").Status.Phase; got != corev1.PodFailed {
			t.Errorf("step %d: phase %s", n, got)
		}
		s.disk = kernel{}
		if err := finish(s); err != nil {
			t.Fatal(err)
		}
		if got := get(t, opened(t, s.dir), "web").Status.Phase; got != corev1.PodFailed {
			t.Errorf("step %d: after a restart phase %s", n, got)
		}
	}
}

// TestOnePodsErrorIsItsOwn fills the disk for one pod of three.
func TestOnePodsErrorIsItsOwn(t *testing.T) {
	s := opened(t, t.TempDir())
	s.disk = only{kernel{}, "shop_b.json"}
	pods := []*corev1.Pod{pod("a", "v1", "f"), pod("b", "v1", "f"), pod("c", "v1", "f")}
	err := s.Apply(pods, none)
	if !errors.Is(err, errFull) || !strings.Contains(err.Error(), "record pod shop/b: ") {
		t.Errorf("error %v does not name the pod", err)
	}
	for name, want := range map[string]string{"a": "v1", "b": "nothing", "c": "v1"} {
		both(t, s, name, want)
	}
	uid := get(t, s, "a").UID
	s.disk = kernel{}
	apply(t, s, none, pods...)
	both(t, s, "b", "v1")
	if get(t, s, "a").UID != uid {
		t.Error("trying again changed a pod that was done")
	}
}

// only is a disk that has no room for one file.
type only struct {
	disk
	name string
}

func (o only) Create(name string, text []byte) error {
	if strings.Contains(name, o.name) {
		return errFull
	}
	return o.disk.Create(name, text)
}

func TestUnchangedWritesNothing(t *testing.T) {
	s := opened(t, t.TempDir())
	apply(t, s, none, pod("web", "v1", "a.yaml"))
	s = opened(t, s.dir)
	s.disk = &faulty{}
	apply(t, s, none, pod("web", "v1", "a.yaml"))
	if err := s.SetStatus(keyOf("web"), get(t, s, "web").UID, corev1.PodStatus{Phase: corev1.PodRunning}); err != nil {
		t.Error(err)
	}
	if n := s.disk.(*faulty).ops; n != 0 {
		t.Errorf("%d disk operations", n)
	}
}
