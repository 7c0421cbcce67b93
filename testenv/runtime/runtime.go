// Package runtime gives a test a containerd of its own, with the project's
// images loaded, in a short-named folder below /tmp. Nothing of it is left
// afterwards: processes, shims, mounts, cgroups and files go when the test ends,
// and also when the test's process is killed. It never touches another
// containerd. PINNACE_TEST_CONTAINERD names a folder with the binaries of another
// release (see testenv/build-containerd2.sh).
package runtime

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"pinnace/containerd"
)

// The images that are loaded.
const (
	Pause   = "localhost/pinnace/pause:1"
	Demo    = "localhost/pinnace/demo:1"
	Busybox = "localhost/pinnace/busybox:1"
)

// Runtime is a running containerd.
type Runtime struct {
	Endpoint string
	Dir      string // everything lies below
	Root     string // containerd's own part of a node's ROOT
	Run      string // the same of RUN
	Config   containerd.Config
	Daemon   *containerd.Daemon
	CRI      runtimeapi.RuntimeServiceClient
	Images   runtimeapi.ImageServiceClient
}

// Start returns a runtime with the images loaded. The test is skipped where
// root or containerd is missing, and fails there when CI is set.
func Start(t testing.TB) *Runtime {
	t.Helper()
	r := Prepare(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := r.Daemon.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := containerd.Load(ctx, r.Endpoint, Archives(t), filepath.Join(r.Root, "loaded.json")); err != nil {
		t.Fatal(err)
	}
	return r
}

// Prepare is Start without starting: for tests of the start itself.
func Prepare(t testing.TB) *Runtime {
	t.Helper()
	if os.Geteuid() != 0 {
		absent(t, "root is needed")
	}
	dir, err := os.MkdirTemp("/tmp", "pn-") // short: a socket's path has 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	guard(t, dir)
	r := &Runtime{Dir: dir, Root: filepath.Join(dir, "root"), Run: filepath.Join(dir, "run")}
	r.Config = containerd.Config{
		Root: r.Root, Run: r.Run,
		CNIBin: filepath.Join(dir, "cni", "bin"), CNIConf: filepath.Join(dir, "cni", "net.d"),
		SandboxImage: Pause,
		RestrictOOM:  containerd.MissingSysResource(),
		Instance:     filepath.Base(dir),
		Logger:       slog.New(slog.NewTextHandler(output{t}, nil)),
	}
	if other := os.Getenv("PINNACE_TEST_CONTAINERD"); other != "" {
		r.Config.Binary = filepath.Join(other, "containerd")
	}
	if r.Daemon, err = containerd.New(r.Config); err != nil {
		absent(t, err.Error())
	}
	r.Endpoint = r.Daemon.Endpoint()
	conn, err := grpc.NewClient(r.Endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	r.CRI, r.Images = runtimeapi.NewRuntimeServiceClient(conn), runtimeapi.NewImageServiceClient(conn)
	t.Cleanup(func() {
		r.clean(t)
		conn.Close()
	})
	return r
}

// absent skips, or fails where everything must be there.
func absent(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// clean removes the pods while CRI answers and then everything.
func (r *Runtime) clean(t testing.TB) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if t.Failed() {
		if log, err := os.ReadFile(filepath.Join(r.Root, "containerd.log")); err == nil {
			t.Logf("containerd's log ends with:\n%s", log[max(0, len(log)-4096):])
		}
	}
	r.removePods(ctx)
	if err := r.Daemon.Stop(ctx); err != nil {
		t.Error(err)
	}
	for _, dir := range r.cgroups(t) {
		if err := os.Remove(dir); err != nil {
			t.Errorf("leave no cgroup: %v", err)
		}
	}
	if err := os.RemoveAll(r.Dir); err != nil {
		t.Error(err)
	}
}

// cgroups is what is left below the pods' cgroup, deepest first.
func (r *Runtime) cgroups(t testing.TB) []string {
	var dirs []string
	for _, top := range []string{"/sys/fs/cgroup" + r.CgroupParent()} {
		dirs = append(dirs, below(t, top)...)
	}
	tops, err := filepath.Glob("/sys/fs/cgroup/*" + r.CgroupParent())
	if err != nil {
		t.Fatal(err)
	}
	for _, top := range tops {
		dirs = append(dirs, below(t, top)...)
	}
	return dirs
}

func below(t testing.TB, top string) []string {
	if _, err := os.Stat(top); err != nil {
		return nil
	}
	var dirs []string
	err := filepath.WalkDir(top, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append([]string{path}, dirs...)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return dirs
}

// guard starts a process that cleans up after a test process that was killed
// (a panic, a timeout) and had no chance to.
func guard(t testing.TB, dir string) {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", guardScript, "guard", dir)
	cmd.SysProcAttr = setsid()
	alive, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // registered first, so it is the last
		alive.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("guard of %s: %v", dir, err)
		}
	})
}

// guardScript waits for the end of its input. It knows the processes by the
// folder in their command line and what runs in containers by its parent.
const guardScript = `
read -r _
[ -d "$1" ] || exit 0
for round in 1 2; do
	for p in $(grep -l -a -F -e "--config$1" -e "$1/" /proc/[0-9]*/cmdline 2>/dev/null); do
		p=${p%/cmdline}
		[ "${p#/proc/}" = "$$" ] && continue
		kill -9 $(cat "$p"/task/*/children 2>/dev/null) "${p#/proc/}" 2>/dev/null
	done
done
awk -v d="$1/" 'index($5, d) == 1 { print $5 }' /proc/self/mountinfo | sort -r | while read -r m; do umount -l "$m"; done
find /sys/fs/cgroup -depth -type d \( -path "*/${1##*/}" -o -path "*/${1##*/}/*" -o -name "pinnace-${1##*/}-containerd" \) -exec rmdir {} \; 2>/dev/null
rm -rf --one-file-system "$1"
`

// output sends the daemon's log to the test's.
type output struct{ t testing.TB }

func (o output) Write(p []byte) (int, error) {
	o.t.Logf("%s", strings.TrimSpace(string(p)))
	return len(p), nil
}
