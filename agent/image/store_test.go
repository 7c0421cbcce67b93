package image

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"pinnace/cri"
)

// shelf is a runtime with a registry behind it: what the registry has can be
// pulled by who knows the password, and is on the shelf from then on.
type shelf struct {
	mu       sync.Mutex
	registry map[string]string // ref to the password it takes, "" for none
	local    map[string]bool
	broken   error         // what Image says instead
	takes    time.Duration // of a pull
	pulls    []string      // those that ended well
	canceled int
	now, max int // pulls at once
}

func (s *shelf) Image(_ context.Context, ref string) (cri.Image, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return cri.Image{}, s.broken
	}
	name := strings.TrimPrefix(ref, "id of ")
	if !s.local[name] {
		return cri.Image{}, fmt.Errorf("image status: %w", cri.ErrNotFound)
	}
	return cri.Image{ID: "id of " + name}, nil
}

func (s *shelf) Pull(ctx context.Context, ref string, auth *runtimeapi.AuthConfig) (string, error) {
	s.mu.Lock()
	s.now++
	s.max = max(s.max, s.now)
	password, ok := s.registry[ref]
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.now--
		s.mu.Unlock()
	}()
	select {
	case <-time.After(s.takes):
	case <-ctx.Done():
		s.mu.Lock()
		s.canceled++
		s.mu.Unlock()
		return "", ctx.Err()
	}
	switch {
	case !ok:
		return "", fmt.Errorf("rpc error: code = NotFound desc = failed to pull and unpack image %q: failed to resolve reference %q: %s: not found", ref, ref, ref)
	case password != auth.GetPassword():
		return "", fmt.Errorf("rpc error: code = Unknown desc = failed to pull and unpack image %q: failed to resolve reference %q: pulling from host r failed with status code [manifests latest]: 401 Unauthorized", ref, ref)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.local[ref] = true
	s.pulls = append(s.pulls, ref)
	return "id of " + ref, nil
}

func newShelf(registry map[string]string) *shelf {
	return &shelf{registry: registry, local: map[string]bool{}}
}

func store(s *shelf, registryFile string, parallel int) *Store {
	return New(Config{Runtime: s, RegistryFile: registryFile, Parallel: parallel, Logger: slog.New(slog.DiscardHandler)})
}

// wantError checks the reason and that the message is exactly so.
func wantError(t *testing.T, err error, reason, message string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("error %v, want an *Error of reason %s", err, reason)
	}
	if e.Reason != reason || e.Message != message {
		t.Errorf("%s: %s\nwant %s: %s", e.Reason, e.Message, reason, message)
	}
}

func TestPolicies(t *testing.T) {
	const ref = "r.example/app:1"
	for _, c := range []struct {
		policy          corev1.PullPolicy
		local, remote   bool
		pulls           int
		reason, message string
	}{
		{corev1.PullAlways, false, true, 1, "", ""},
		{corev1.PullAlways, true, true, 1, "", ""},
		{corev1.PullAlways, true, false, 0, ErrImagePull, `pull image "r.example/app:1": not found`},
		{corev1.PullIfNotPresent, true, false, 0, "", ""},
		{corev1.PullIfNotPresent, false, true, 1, "", ""},
		{corev1.PullIfNotPresent, false, false, 0, ErrImagePull, `pull image "r.example/app:1": not found`},
		{corev1.PullNever, true, true, 0, "", ""},
		{corev1.PullNever, false, true, 0, ErrImageNeverPull, `Container image "r.example/app:1" is not present with pull policy of Never`},
	} {
		s := newShelf(nil)
		if c.remote {
			s.registry = map[string]string{ref: ""}
		}
		s.local[ref] = c.local
		img, err := store(s, "", 0).Ensure(t.Context(), ref, c.policy)
		if c.reason != "" {
			wantError(t, err, c.reason, c.message)
		} else if err != nil || img.ID != "id of "+ref {
			t.Errorf("%s, local %t, remote %t: %v, %v", c.policy, c.local, c.remote, img, err)
		}
		if len(s.pulls) != c.pulls {
			t.Errorf("%s, local %t, remote %t: %d pulls, want %d", c.policy, c.local, c.remote, len(s.pulls), c.pulls)
		}
	}
}

func TestNames(t *testing.T) {
	for ref, full := range map[string]string{
		"busybox":               "busybox:latest",
		"r.example:5000/a/b":    "r.example:5000/a/b:latest",
		"r.example/a:v1":        "r.example/a:v1",
		"a@sha256:" + digest:    "a@sha256:" + digest,
		"a:v1@sha256:" + digest: "a:v1@sha256:" + digest,
	} {
		s := newShelf(map[string]string{full: ""})
		if _, err := store(s, "", 0).Ensure(t.Context(), ref, corev1.PullIfNotPresent); err != nil {
			t.Errorf("%s: %v", ref, err)
		}
	}
	for _, ref := range []string{"", "team/UPPER", "a b", "a:tag:tag", "http://r.example/a", digest} {
		s := newShelf(nil)
		_, err := store(s, "", 0).Ensure(t.Context(), ref, corev1.PullNever)
		var e *Error
		if !errors.As(err, &e) || e.Reason != InvalidImageName || !strings.Contains(e.Message, fmt.Sprintf("couldn't parse image name %q", ref)) {
			t.Errorf("%q: %v", ref, err)
		}
	}
}

const digest = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestInspectFails(t *testing.T) {
	s := newShelf(nil)
	s.broken = errors.New("look at image a:1: connection refused")
	_, err := store(s, "", 0).Ensure(t.Context(), "a:1", corev1.PullNever)
	wantError(t, err, ImageInspectError, `inspect image "a:1": connection refused`)
	if !errors.Is(err, s.broken) {
		t.Error("the runtime's error is not wrapped")
	}
}

func TestCredentials(t *testing.T) {
	file := filepath.Join(t.TempDir(), "registry.json")
	s := newShelf(map[string]string{"r.example/app:1": "secret"})
	st := store(s, file, 0)
	ensure := func() error {
		_, err := st.Ensure(t.Context(), "r.example/app:1", corev1.PullAlways)
		return err
	}
	stamp := time.Now()
	put := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		stamp = stamp.Add(time.Second) // a file system's clock may be coarse
		if err := os.Chtimes(file, stamp, stamp); err != nil {
			t.Fatal(err)
		}
	}
	const refused = `pull image "r.example/app:1": pulling from host r failed with status code [manifests latest]: 401 Unauthorized`
	wantError(t, ensure(), ErrImagePull, refused) // no file: no credentials
	put(`{"auths":{"r.example":{"username":"u","password":"wrong"}}}`)
	wantError(t, ensure(), ErrImagePull, refused)
	put(`{"auths":{"r.example":{"auth":"dTpzZWNyZXQ="}}}`)
	if err := ensure(); err != nil {
		t.Error(err)
	}
	put(`{"auths":{"r.example":`)
	wantError(t, ensure(), ErrImagePull, refused+" (credentials in "+file+": not in docker's config format: JSON syntax error at byte 22)")
	s.registry["r.example/app:1"] = ""
	if err := ensure(); err != nil {
		t.Errorf("a bad file keeps from pulling what needs no credentials: %v", err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := ensure(); err != nil {
		t.Error(err)
	}
}

// TestOnePullForAll: any number of pods that want one image cause one pull;
// one that gives up does not take it from the others.
func TestOnePullForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf(map[string]string{"a:1": ""})
		s.takes = time.Minute
		st := store(s, "", 0)
		var wg sync.WaitGroup
		first, giveUp := context.WithCancel(t.Context())
		errs := make([]error, 10)
		for i := range errs {
			ctx := t.Context()
			if i == 0 {
				ctx = first
			}
			wg.Go(func() { _, errs[i] = st.Ensure(ctx, "a:1", corev1.PullIfNotPresent) })
			synctest.Wait()
		}
		giveUp()
		wg.Wait()
		for i, err := range errs {
			if got := errors.Is(err, context.Canceled); got != (i == 0) || err != nil && i > 0 {
				t.Errorf("waiter %d: %v", i, err)
			}
		}
		if len(s.pulls) != 1 || s.canceled != 0 || s.max != 1 {
			t.Errorf("%d pulls, %d canceled, %d at once", len(s.pulls), s.canceled, s.max)
		}
	})
}

// TestLastWaiterLeaves: a pull that nobody wants is given up, and who comes
// later starts afresh.
func TestLastWaiterLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf(map[string]string{"a:1": ""})
		s.takes = time.Minute
		st := store(s, "", 0)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := st.Ensure(ctx, "a:1", corev1.PullAlways)
		wantError(t, err, ErrImagePull, `pull image "a:1": context deadline exceeded`)
		if s.canceled != 1 {
			t.Errorf("%d pulls canceled when Ensure returned, want 1", s.canceled)
		}
		if _, err := st.Ensure(t.Context(), "a:1", corev1.PullAlways); err != nil {
			t.Error(err)
		}
	})
}

func TestParallel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf(map[string]string{})
		for i := range 9 {
			s.registry[fmt.Sprintf("a:%d", i)] = ""
		}
		s.takes = time.Minute
		st := store(s, "", 3)
		start := time.Now()
		var wg sync.WaitGroup
		for ref := range s.registry {
			wg.Go(func() {
				if _, err := st.Ensure(t.Context(), ref, corev1.PullAlways); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		// One who waits for a slot can leave, and does not keep it busy.
		s.registry["b:1"] = ""
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := st.Ensure(ctx, "b:1", corev1.PullAlways); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("waiting for a slot: %v", err)
		}
		wg.Wait()
		if s.max != 3 || time.Since(start) != 3*time.Minute {
			t.Errorf("%d at once, %v in all; want 3 and 3m", s.max, time.Since(start))
		}
	})
}
