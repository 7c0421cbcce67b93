package e2e

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"pinnace/node"
	"pinnace/testenv/agentproc"
)

const (
	serverSpec = "  containers: [{name: c, image: IMAGE, readinessProbe: {periodSeconds: 1, tcpSocket: {port: 8080}}}]"
	jobSpec    = "  restartPolicy: Never\n  containers: [{name: c, image: IMAGE, command: ['true']}]"
)

// TestRuntimeKilled: containers do not notice that containerd dies, the agent
// brings it back, and all goes on; also when the agent dies with it.
func TestRuntimeKilled(t *testing.T) {
	isolated(t, func(t *testing.T) {
		l := &live{Node: agentproc.New(t, agentproc.Options{})}
		l.Start(t)
		l.pod(t, "one", serverSpec)
		p := l.ready(t, "one")
		before, c := l.Rest(t), l.container(t, "one", "c")
		pid := l.PIDOf(t, c.ID)
		for _, with := range []string{"alone", "with the agent"} {
			if with != "alone" {
				l.Kill(t)
			}
			l.KillRuntime(t)
			holds(t, with, get(t, url(p.Status.PodIP, "8080")), "pod one")
			if with != "alone" {
				l.Start(t)
			}
			agentproc.Eventually(t, "containerd answers again", func() error {
				_, _, err := l.Client(t).Version(t.Context())
				return err
			})
			l.pod(t, "two", serverSpec)
			l.ready(t, "two")
			l.Remove(t, "two.yaml")
			l.gone(t, "two")
			l.Settle(t, before)
			same(t, "container", l.container(t, "one", "c").ID, c.ID)
			same(t, "process", l.PIDOf(t, c.ID), pid)
			same(t, "restarts", l.ready(t, "one").Status.ContainerStatuses[0].RestartCount, 0)
		}
	})
}

// TestReboot: pods come back with one more restart, what had finished stays
// finished, and everybody has an address that works.
func TestReboot(t *testing.T) {
	isolated(t, func(t *testing.T) {
		l := &live{Node: agentproc.New(t, agentproc.Options{})}
		l.Start(t)
		for _, name := range []string{"one", "two"} {
			l.pod(t, name, serverSpec)
		}
		l.pod(t, "job", jobSpec)
		l.until(t, "job", "succeeds", func(s corev1.PodStatus) bool { return s.Phase == corev1.PodSucceeded })
		uids := map[string]string{"one": l.ready(t, "one").UID, "two": l.ready(t, "two").UID}
		l.Reboot(t)
		l.Start(t)
		ips := map[string]bool{}
		for name, uid := range uids {
			p := l.until(t, name, "runs again", func(s corev1.PodStatus) bool {
				return len(s.ContainerStatuses) == 1 && s.ContainerStatuses[0].RestartCount == 1
			})
			p = l.ready(t, name)
			same(t, "UID", p.UID, uid)
			holds(t, name, get(t, url(p.Status.PodIP, "8080")), "pod "+name)
			ips[p.Status.PodIP] = true
			same(t, "restarts", p.Status.ContainerStatuses[0].RestartCount, 1)
		}
		same(t, "addresses", len(ips), 2)
		p := l.until(t, "job", "is still done", func(s corev1.PodStatus) bool { return s.Phase == corev1.PodSucceeded })
		same(t, "restarts of the job", p.Status.ContainerStatuses[0].RestartCount, 0)
		for name := range uids {
			l.Remove(t, name+".yaml")
		}
		l.Remove(t, "job.yaml")
		l.Await(t, "all are gone", agentproc.Empty)
		l.Settle(t, agentproc.Inventory{})
	})
}

// TestDiskFull: a pod that comes while the disk is full says so and runs when
// there is space again; what runs goes on.
func TestDiskFull(t *testing.T) {
	isolated(t, func(t *testing.T) {
		l := &live{Node: agentproc.New(t, agentproc.Options{Disk: "128m"})}
		l.Start(t)
		l.pod(t, "before", serverSpec)
		p := l.ready(t, "before")
		fill := filepath.Join(l.Root, "fill")
		t.Cleanup(func() { os.Remove(fill) })       // cleaning up needs space
		for i, free := range []int64{0, 12 << 10} { // nothing at all; a record, and no pod
			name := fmt.Sprintf("late%d", i)
			fillUp(t, fill, free)
			l.pod(t, name, serverSpec)
			l.Await(t, "the status says that the disk is full", func(r node.Report) error {
				if text := fmt.Sprintf("%s %+v", r.Note, r.Pods); !strings.Contains(text, "no space left on device") {
					return errors.New(text)
				}
				return nil
			})
			holds(t, "meanwhile", get(t, url(p.Status.PodIP, "8080")), "pod before")
			if err := os.Remove(fill); err != nil {
				t.Fatal(err)
			}
			l.ready(t, name)
		}
		same(t, "the pod from before", l.ready(t, "before").Status.ContainerStatuses[0].RestartCount, 0)
	})
}

// fillUp leaves so many bytes of the file system free.
func fillUp(t *testing.T, path string, free int64) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.Copy(f, zeros{}); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("fill the disk: %v", err)
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(info.Size() - free); err != nil {
		t.Fatal(err)
	}
}

// zeros never ends.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }
