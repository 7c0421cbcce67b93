package logs

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// writer is a runtime with one container: it keeps its file open until it is
// told to reopen, whatever happens to the name.
type writer struct {
	t    *testing.T
	path string
	f    *os.File
	fail error
}

func newWriter(t *testing.T) *writer {
	w := &writer{t: t, path: filepath.Join(t.TempDir(), "0.log")}
	if err := w.ReopenLog(context.Background(), "id"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.f.Close() })
	return w
}

func (w *writer) ReopenLog(_ context.Context, id string) error {
	if id != "id" {
		w.t.Errorf("reopen of container %q", id)
	}
	if w.fail != nil {
		return w.fail
	}
	if w.f != nil {
		w.f.Close()
	}
	var err error
	w.f, err = os.OpenFile(w.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	return err
}

func (w *writer) say(format string, args ...any) {
	w.t.Helper()
	if _, err := fmt.Fprintf(w.f, format+"\n", args...); err != nil {
		w.t.Fatal(err)
	}
}

// files lists the folder, names relative to the log's.
func (w *writer) files() []string {
	w.t.Helper()
	list, err := os.ReadDir(filepath.Dir(w.path))
	if err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, e := range list {
		out = append(out, strings.TrimPrefix(e.Name(), "0.log"))
	}
	return out
}

// text reads all files from the oldest to the newest.
func (w *writer) text() string {
	w.t.Helper()
	names := w.files()
	slices.SortFunc(names, func(a, b string) int { // "" is the newest
		return strings.Compare(a+map[bool]string{true: "~"}[a == ""], b+map[bool]string{true: "~"}[b == ""])
	})
	var all strings.Builder
	for _, n := range names {
		f, err := os.Open(w.path + n)
		if err != nil {
			w.t.Fatal(err)
		}
		var r io.Reader = f
		if strings.HasSuffix(n, ".gz") {
			if r, err = gzip.NewReader(f); err != nil {
				w.t.Fatal(err)
			}
		}
		if _, err := io.Copy(&all, r); err != nil {
			w.t.Fatal(err)
		}
		f.Close()
	}
	return all.String()
}

func rotator(w *writer, now *time.Time) *Rotator {
	r := New(Config{MaxSize: 1, MaxFiles: 4, Logger: slog.New(slog.DiscardHandler)}, w)
	r.now = func() time.Time { return *now }
	return r
}

func TestRotate(t *testing.T) {
	w := newWriter(t)
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	r := rotator(w, &now)
	step := func(want ...string) {
		t.Helper()
		if err := r.Rotate(context.Background(), "id", w.path); err != nil {
			t.Fatal(err)
		}
		if got := w.files(); !slices.Equal(got, want) {
			t.Errorf("files %v, want %v", got, want)
		}
		now = now.Add(time.Minute)
	}
	step("") // empty: nothing to do
	w.say("one")
	step("", ".20300102-030505")
	step("", ".20300102-030505") // not due
	w.say("two")
	step("", ".20300102-030505.gz", ".20300102-030705")
	now = now.Add(-time.Hour) // the clock goes back: names still sort by age
	w.say("three")
	step("", ".20300102-030505.gz", ".20300102-030705.gz", ".20300102-030706")
	w.say("four")
	step("", ".20300102-030705.gz", ".20300102-030706.gz", ".20300102-030707")
	w.say("five")
	if got := w.text(); got != "two\nthree\nfour\nfive\n" {
		t.Errorf("all files hold %q", got)
	}
}

// TestRotateSparesOthers: only what belongs to this log is touched.
func TestRotateSparesOthers(t *testing.T) {
	w := newWriter(t)
	now := time.Now()
	for _, n := range []string{"10.log.20300102-030405", "0.logs", "note.txt"} {
		if err := os.WriteFile(filepath.Join(filepath.Dir(w.path), n), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := rotator(w, &now)
	for range 5 {
		w.say("x")
		if err := r.Rotate(context.Background(), "id", w.path); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range []string{"10.log.20300102-030405", "0.logs", "note.txt"} {
		if _, err := os.Stat(filepath.Join(filepath.Dir(w.path), n)); err != nil {
			t.Error(err)
		}
	}
}

func TestReopenFails(t *testing.T) {
	w := newWriter(t)
	now := time.Now()
	r := rotator(w, &now)
	w.say("one")
	w.fail = errors.New("container is not running")
	err := r.Rotate(context.Background(), "id", w.path)
	if !errors.Is(err, w.fail) || !strings.Contains(err.Error(), w.path) {
		t.Errorf("error %v", err)
	}
	if got := w.files(); !slices.Equal(got, []string{""}) {
		t.Errorf("files %v, want the log under its name", got)
	}
	w.fail = nil
	w.say("two")
	if err := r.Rotate(context.Background(), "id", w.path); err != nil {
		t.Fatal(err)
	}
	if got := w.text(); got != "one\ntwo\n" {
		t.Errorf("text %q", got)
	}
}

// TestCrash starts from what every possible death leaves behind: no line is
// lost, none doubled, and no leftover stays.
func TestCrash(t *testing.T) {
	const older, newer = ".20300102-030405", ".20300102-030505"
	gz := func(t *testing.T, path, text string) {
		t.Helper()
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		z := gzip.NewWriter(f)
		io.WriteString(z, text)
		if err := errors.Join(z.Close(), f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	for name, leave := range map[string]func(t *testing.T, w *writer){
		"before anything": func(t *testing.T, w *writer) {},
		"compressing": func(t *testing.T, w *writer) {
			if err := os.WriteFile(w.path+older+".tmp", []byte("half"), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"compressed, original still there": func(t *testing.T, w *writer) { gz(t, w.path+older+".gz", "one\n") },
		"original removed": func(t *testing.T, w *writer) {
			gz(t, w.path+older+".gz", "one\n")
			if err := os.Remove(w.path + older); err != nil {
				t.Fatal(err)
			}
		},
		"renamed, not reopened": func(t *testing.T, w *writer) {
			if err := os.Rename(w.path, w.path+newer); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWriter(t)
			now := time.Date(2030, 1, 2, 4, 0, 0, 0, time.UTC)
			if err := os.WriteFile(w.path+older, []byte("one\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			w.say("two")
			leave(t, w)
			w.say("three")
			r := rotator(w, &now)
			if err := r.Rotate(context.Background(), "id", w.path); err != nil {
				t.Fatal(err)
			}
			w.say("four")
			if err := r.Rotate(context.Background(), "id", w.path); err != nil {
				t.Fatal(err)
			}
			if got := w.text(); got != "one\ntwo\nthree\nfour\n" {
				t.Errorf("text %q of files %v", got, w.files())
			}
			for _, f := range w.files() {
				if strings.HasSuffix(f, ".tmp") {
					t.Errorf("left behind: %s", f)
				}
			}
		})
	}
}

// TestFollower: who has the file open reads it to its end and finds the next
// one under the same name.
func TestFollower(t *testing.T) {
	w := newWriter(t)
	now := time.Now()
	f, err := os.Open(w.path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w.say("before")
	if err := rotator(w, &now).Rotate(context.Background(), "id", w.path); err != nil {
		t.Fatal(err)
	}
	w.say("after")
	first, _ := io.ReadAll(f)
	second, err := os.ReadFile(w.path)
	if err != nil || string(first)+string(second) != "before\nafter\n" {
		t.Errorf("read %q and %q, %v", first, second, err)
	}
}

func TestDefaultsAndPaths(t *testing.T) {
	if r := New(Config{}, nil); r.cfg.MaxSize != 10<<20 || r.cfg.MaxFiles != 5 {
		t.Errorf("defaults %d x %d", r.cfg.MaxSize, r.cfg.MaxFiles)
	}
	if got, want := filepath.Join(Dir("/root", "shop", "web", "u-1"), File("app", 3)), "/root/logs/shop_web_u-1/app/3.log"; got != want {
		t.Errorf("path %s, want %s", got, want)
	}
}
