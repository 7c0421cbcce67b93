package runtime_test

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"pinnace/testenv/runtime"
)

// The acceptance test of the loaded images: a sandbox on the pause image, the
// demo in it, and a shell beside the demo, all over CRI.
func TestLoadedImagesRun(t *testing.T) {
	r := runtime.Start(t)
	for _, name := range []string{runtime.Pause, runtime.Demo, runtime.Busybox} {
		resp, err := r.Images.ImageStatus(t.Context(), &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: name}})
		if err != nil {
			t.Fatal(err)
		}
		if resp.GetImage().GetId() == "" || resp.GetImage().GetSize() == 0 {
			t.Errorf("image %s: %v", name, resp.GetImage())
		}
	}
	pod := r.RunPod(t, "demo", runtime.Demo, "/bin/demo", "-port", "0")
	port := listening(t, filepath.Join(r.Dir, "logs", "demo", "main.log"))
	resp, err := http.Get("http://127.0.0.1:" + port + "/")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if !strings.Contains(string(body), "client 127.0.0.1") {
		t.Errorf("the demo says %q", body)
	}
	ls, err := r.CRI.ExecSync(t.Context(), &runtimeapi.ExecSyncRequest{ContainerId: pod.Container, Cmd: []string{"sh", "-c", "whoami; ls -d /tmp"}, Timeout: 10})
	if err != nil || string(ls.GetStdout()) != "root\n/tmp\n" {
		t.Errorf("shell in the demo image: %q, %v", ls.GetStdout(), err)
	}
}

// listening waits for the demo's first log line and returns the port in it.
func listening(t *testing.T, log string) string {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range 1000 {
		raw, _ := os.ReadFile(log)
		if line, _, whole := strings.Cut(string(raw), "\n"); whole {
			return line[strings.LastIndex(line, ":")+1:]
		}
		<-tick.C
	}
	t.Fatal("the demo never said where it listens")
	return ""
}
