package registry_test

import (
	"path/filepath"
	"strings"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"pinnace/testenv/registry"
	"pinnace/testenv/runtime"
)

// A real containerd pulls from it, and is told no for the right reasons.
func TestPull(t *testing.T) {
	r := runtime.Start(t)
	demo := filepath.Join(runtime.Archives(t), "demo.tar")
	pull := func(ref string, auth *runtimeapi.AuthConfig) error {
		_, err := r.Images.PullImage(t.Context(), &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: ref}, Auth: auth})
		return err
	}
	refused := func(what, want string, err error) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error with %q", what, err, want)
		}
	}

	open := registry.Start(t, "", "")
	ref := open.Push(t, demo, "ships/demo:1")
	if err := pull(ref, nil); err != nil {
		t.Error(err)
	}
	if open.Asked() == 0 {
		t.Error("the pull did not come to the registry")
	}
	pod := r.RunPod(t, "pulled", ref, "sleep", "1000")
	if r.PID(t, pod.Container) == 0 {
		t.Error("the pulled image does not run")
	}
	refused("missing image", "not found", pull(open.Host+"/ships/none:1", nil))
	open.Down(true)
	refused("registry down", "503", pull(open.Host+"/ships/demo:1", nil))

	locked := registry.Start(t, "anne", "parrot")
	ref = locked.Push(t, demo, "ships/demo:1")
	refused("no password", "uthoriz", pull(ref, nil))
	refused("wrong password", "401", pull(ref, &runtimeapi.AuthConfig{Username: "anne", Password: "gull"}))
	if err := pull(ref, &runtimeapi.AuthConfig{Username: "anne", Password: "parrot"}); err != nil {
		t.Error(err)
	}
}
