package fakecri_test

import (
	"context"
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"pinnace/cri"
	"pinnace/testenv/fakecri"
)

const image = "example.com/demo:1"

func pod(attempt uint32) *runtimeapi.PodSandboxConfig {
	return &runtimeapi.PodSandboxConfig{
		Metadata: &runtimeapi.PodSandboxMetadata{Name: "web", Namespace: "shop", Uid: "u1", Attempt: attempt},
		Labels:   map[string]string{cri.LabelPodUID: "u1"},
	}
}

func web(attempt uint32) *runtimeapi.ContainerConfig {
	return &runtimeapi.ContainerConfig{
		Metadata: &runtimeapi.ContainerMetadata{Name: "web", Attempt: attempt},
		Image:    &runtimeapi.ImageSpec{Image: image},
		Labels:   map[string]string{cri.LabelPodUID: "u1"},
	}
}

func start(t *testing.T, r *fakecri.Runtime) (sandbox, container string) {
	t.Helper()
	sandbox, err := r.RunSandbox(t.Context(), pod(0), "")
	if err != nil {
		t.Fatal(err)
	}
	container, err = r.CreateContainer(t.Context(), sandbox, web(0), pod(0))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.StartContainer(t.Context(), container); err != nil {
		t.Fatal(err)
	}
	return sandbox, container
}

func scripted(s fakecri.Script) *fakecri.Runtime {
	r := fakecri.New(fakecri.Config{Script: func(*runtimeapi.ContainerConfig) fakecri.Script { return s }})
	r.Load(image, cri.Image{})
	return r
}

// TestMethodSet keeps the fake a stand-in for the client.
func TestMethodSet(t *testing.T) {
	client, fake := reflect.TypeFor[*cri.Client](), reflect.TypeFor[*fakecri.Runtime]()
	for m := range client.Methods() {
		got, ok := fake.MethodByName(m.Name)
		if !ok {
			t.Errorf("the fake has no %s", m.Name)
			continue
		}
		if want, have := signature(m.Type), signature(got.Type); want != have {
			t.Errorf("%s: the client has %s, the fake %s", m.Name, want, have)
		}
	}
}

// signature is a method's without its receiver.
func signature(f reflect.Type) string {
	_, rest, _ := strings.Cut(f.String(), ",")
	return strings.TrimPrefix(rest, ")")
}

func TestExitsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := scripted(fakecri.Script{Exits: true, After: time.Minute, Code: 9, OOM: true})
		_, id := start(t, r)
		var told []string
		events, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Exits(events, func(id string) { told = append(told, id) }) }()
		time.Sleep(time.Minute - 1)
		synctest.Wait()
		if c, _ := r.Container(t.Context(), id); c.State != cri.ContainerRunning {
			t.Errorf("before its time it is %+v", c)
		}
		time.Sleep(1)
		synctest.Wait()
		c, err := r.Container(t.Context(), id)
		if err != nil || c.ExitCode != 9 || c.Reason != "OOMKilled" || c.FinishedAt.Sub(c.StartedAt) != time.Minute {
			t.Errorf("after its time it is %+v, %v", c, err)
		}
		stop()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Exits returned %v", err)
		}
		if !slices.Equal(told, []string{id}) {
			t.Errorf("told of %v; want %s", told, id)
		}
	})
}

func TestStopTakesAsLongAsTheScript(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := scripted(fakecri.Script{TermTakes: 3 * time.Second})
		_, id := start(t, r)
		begun := time.Now()
		if err := r.StopContainer(t.Context(), id, 30*time.Second); err != nil {
			t.Fatal(err)
		}
		if c, _ := r.Container(t.Context(), id); time.Since(begun) != 3*time.Second || c.ExitCode != 143 {
			t.Errorf("stopped after %s with %d", time.Since(begun), c.ExitCode)
		}
	})
}

func TestStopLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := scripted(fakecri.Script{IgnoresTERM: true})
		_, id := start(t, r)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.StopContainer(ctx, id, time.Minute); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("stop with a short context: %v", err)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if c, _ := r.Container(t.Context(), id); c.State != cri.ContainerRunning {
			t.Errorf("killed by a call that nobody waits for: %+v", c)
		}
	})
}

func TestReboot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := scripted(fakecri.Script{Exits: true, After: time.Hour})
		sandbox, id := start(t, r)
		created, err := r.CreateContainer(t.Context(), sandbox, web(1), pod(0))
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- r.Exits(t.Context(), func(string) { t.Error("told of an exit by reboot") }) }()
		synctest.Wait()
		r.Reboot()
		if err := <-done; err == nil || errors.Is(err, context.Canceled) {
			t.Errorf("stream ended with %v", err)
		}
		s, err := r.Sandbox(t.Context(), sandbox)
		if err != nil || s.Ready || len(s.IPs) != 0 {
			t.Errorf("sandbox is %+v, %v", s, err)
		}
		c, err := r.Container(t.Context(), id)
		if err != nil || c.State != cri.ContainerExited || c.ExitCode != 255 || c.Reason != "Unknown" {
			t.Errorf("container is %+v, %v", c, err)
		}
		if err := r.StartContainer(t.Context(), created); err == nil {
			t.Error("a container of a dead sandbox started")
		}
		time.Sleep(2 * time.Hour) // its old timer
		synctest.Wait()
		if again, _ := r.Container(t.Context(), id); !reflect.DeepEqual(again, c) {
			t.Errorf("it changed after the reboot: %+v", again)
		}
	})
}

func TestPlannedFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := scripted(fakecri.Script{})
		r.Plan(fakecri.RunSandbox, fakecri.Fault{Before: true, Words: "no space left"})
		r.Plan(fakecri.RunSandbox, fakecri.Fault{After: true, Delay: time.Second})
		_, err := r.RunSandbox(t.Context(), pod(0), "")
		if !errors.Is(err, fakecri.ErrInjected) || !strings.HasPrefix(err.Error(), "run sandbox shop/web: no space left") {
			t.Errorf("first fault: %v", err)
		}
		if s, _ := r.Observed(); len(s) != 0 {
			t.Errorf("failed before its effect, but there is %+v", s)
		}
		begun := time.Now()
		if id, err := r.RunSandbox(t.Context(), pod(0), ""); !errors.Is(err, fakecri.ErrInjected) || id != "" {
			t.Errorf("second fault: %q, %v", id, err)
		}
		if s, _ := r.Observed(); len(s) != 1 || time.Since(begun) != time.Second {
			t.Errorf("failed after its effect, %s later there is %+v", time.Since(begun), s)
		}
		if _, err := r.RunSandbox(t.Context(), pod(1), ""); err != nil {
			t.Errorf("no fault is left, but %v", err)
		}
	})
}

// TestChance runs one seed twice: the same faults fall on the same calls.
func TestChance(t *testing.T) {
	run := func(seed uint64) (failed []bool) {
		r := fakecri.New(fakecri.Config{Seed: seed, Faults: fakecri.Faults{Before: 0.3, After: 0.3}})
		for i := range uint32(50) {
			_, err := r.RunSandbox(t.Context(), pod(i), "")
			failed = append(failed, err != nil)
		}
		return failed
	}
	one := run(1)
	if !slices.Equal(one, run(1)) {
		t.Error("one seed gave two courses")
	}
	if slices.Equal(one, run(2)) {
		t.Error("two seeds gave one course")
	}
	if !slices.Contains(one, true) || !slices.Contains(one, false) {
		t.Errorf("chance of about a half gave %v", one)
	}
}

func TestLostEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := scripted(fakecri.Script{})
		_, id := start(t, r)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Exits(ctx, func(string) { t.Error("told of an event that was to be lost") }) }()
		synctest.Wait()
		r.SetFaults(fakecri.Faults{LostEvent: 1})
		if err := r.Crash(id, 1); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		cancel()
		<-done
	})
}

func TestDown(t *testing.T) {
	r := scripted(fakecri.Script{})
	_, id := start(t, r)
	r.SetDown(true)
	if _, err := r.Containers(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("while down: %v", err)
	}
	if err := r.Exits(t.Context(), nil); err == nil {
		t.Error("a stream opened while down")
	}
	r.SetDown(false)
	if c, err := r.Container(t.Context(), id); err != nil || c.State != cri.ContainerRunning {
		t.Errorf("after it came back: %+v, %v", c, err)
	}
}

func TestAddresses(t *testing.T) {
	r := fakecri.New(fakecri.Config{FirstIP: netip.MustParseAddr("fd00::ff")})
	for i, want := range []string{"fd00::ff", "fd00::100"} {
		id, err := r.RunSandbox(t.Context(), pod(uint32(i)), "")
		if err != nil {
			t.Fatal(err)
		}
		s, err := r.Sandbox(t.Context(), id)
		if err != nil || len(s.IPs) != 1 || s.IPs[0].String() != want {
			t.Errorf("sandbox %d has %v, %v; want %s", i, s.IPs, err, want)
		}
	}
}

func TestPull(t *testing.T) {
	r := fakecri.New(fakecri.Config{})
	ctx := t.Context()
	if _, err := r.Pull(ctx, image, nil); !errors.Is(err, cri.ErrNotFound) {
		t.Errorf("pull of what nobody has: %v", err)
	}
	denied := errors.New("denied: not yours")
	r.Refuse(image, denied)
	if _, err := r.Pull(ctx, image, nil); !errors.Is(err, denied) {
		t.Errorf("refused pull: %v", err)
	}
	r.Publish(image, cri.Image{RepoDigests: []string{"example.com/demo@sha256:1"}})
	id, err := r.Pull(ctx, image, nil)
	if err != nil {
		t.Fatal(err)
	}
	again, err := r.Pull(ctx, image, nil)
	if err != nil || again != id {
		t.Errorf("second pull: %q, %v; want %q", again, err, id)
	}
	if all, err := r.Images(ctx); err != nil || len(all) != 1 {
		t.Errorf("images are %+v, %v", all, err)
	}
	if err := r.RemoveImage(ctx, image); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Image(ctx, id); !errors.Is(err, cri.ErrNotFound) {
		t.Errorf("removed image: %v", err)
	}
}
