package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"pinnace/cri"
	"pinnace/node"
	"pinnace/testenv/agentproc"
	"pinnace/testenv/registry"
	"pinnace/testenv/runtime"
)

// What lies in files: manifests, images, logs.

func TestFiles(t *testing.T) {
	behave(t, []behaviour{
		{"logs", logs},
		{"pulls", pulls},
		{"edits", edits},
		{"several documents", documents},
		{"broken file", brokenFile},
		{"prompt replacement", prompt},
	})
}

// criLine is a line of a log as CRI has it.
var criLine = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+(Z|[+-]\d\d:\d\d) (stdout|stderr) [FP] `)

func logs(t *testing.T, l *live) {
	l.pod(t, "talker", `
  containers:
  - name: c
    image: IMAGE
    command: [sh, -c, "echo out; echo err >&2; yes 0123456789012345678901234567890123456789012345678901234567890123456789 | head -c 8000000; while true; do sleep 0.2; echo more; done"]
`)
	p := l.ready(t, "talker")
	dir := filepath.Join(l.Root, "logs", "default_talker_"+p.UID, "c")
	agentproc.Eventually(t, "the log was rotated", func() error {
		files, err := os.ReadDir(dir)
		if len(files) < 2 {
			return fmt.Errorf("%d files in %s, %v", len(files), dir, err)
		}
		return nil
	})
	// The old part is whole, and the container goes on in the new file.
	agentproc.Eventually(t, "the container writes into the new file", func() error {
		text, err := os.ReadFile(filepath.Join(dir, "0.log"))
		if err != nil || len(text) == 0 || len(text) > 1<<20 {
			return fmt.Errorf("%d bytes, %v", len(text), err)
		}
		for line := range strings.Lines(string(text)) {
			if !criLine.MatchString(line) {
				t.Fatalf("not a CRI log line: %q", line)
			}
		}
		return nil
	})
}

func pulls(t *testing.T, l *live) {
	reg := registry.Start(t, "ann", "right")
	ref := reg.Push(t, filepath.Join(runtime.Archives(t), "busybox.tar"), "team/tools:1")
	file := filepath.Join(l.Root, "registry.json")
	password := func(p string) {
		t.Helper()
		text := `{"auths":{"` + reg.Host + `":{"username":"ann","password":"` + p + `"}}}`
		if err := errors.Join(os.WriteFile(file+".new", []byte(text), 0o600), os.Rename(file+".new", file)); err != nil {
			t.Fatal(err)
		}
	}
	pod := func(name, image, policy string) {
		l.pod(t, name, fmt.Sprintf("  containers: [{name: c, image: %q, imagePullPolicy: %s, command: [sleep, '1000']}]", image, policy))
	}
	waits := func(name string, reasons, words string) {
		t.Helper()
		l.until(t, name, "says "+reasons, func(s corev1.PodStatus) bool {
			if len(s.ContainerStatuses) == 0 || s.ContainerStatuses[0].State.Waiting == nil {
				return false
			}
			w := s.ContainerStatuses[0].State.Waiting
			return strings.Contains(" "+reasons+" ", " "+w.Reason+" ") && strings.Contains(w.Message, words)
		})
	}
	password("wrong")
	pod("wrongpassword", ref, "Always")
	waits("wrongpassword", "ErrImagePull ImagePullBackOff", "401")
	password("right")
	pod("missing", reg.Host+"/team/none:1", "IfNotPresent")
	waits("missing", "ErrImagePull ImagePullBackOff", "not found")
	pod("absent", "localhost/absent:1", "Never")
	waits("absent", "ErrImageNeverPull", "localhost/absent:1")
	pod("pulled", ref, "IfNotPresent")
	l.ready(t, "pulled")
	if reg.Asked() == 0 {
		t.Error("the registry was never asked")
	}
	l.ready(t, "wrongpassword") // by itself, once the password is right
}

func edits(t *testing.T, l *live) {
	spec := "  containers: [{name: c, image: IMAGE, env: [{name: A, value: '%d'}]}]"
	l.pod(t, "edited", fmt.Sprintf(spec, 1))
	p := l.ready(t, "edited")
	// The same text, a new name: the pod stays as it is.
	if err := os.Rename(filepath.Join(l.Manifests, "edited.yaml"), filepath.Join(l.Manifests, "renamed.yaml")); err != nil {
		t.Fatal(err)
	}
	l.Await(t, "the new name is known", func(r node.Report) error {
		q, err := agentproc.Pod(r, "edited")
		if err == nil && (q.File != "renamed.yaml" || q.Deleting) {
			err = fmt.Errorf("file %s, deleting %t", q.File, q.Deleting)
		}
		return err
	})
	same(t, "UID after a rename", l.ready(t, "edited").UID, p.UID)
	l.Write(t, "renamed.yaml", podText("edited", fmt.Sprintf(spec, 2)))
	l.Await(t, "the pod is replaced", replaced("edited", p.UID))
	same(t, "new environment", l.sh(t, "edited", "c", "echo $A"), "2")
	l.Remove(t, "renamed.yaml")
	l.gone(t, "edited")
}

func documents(t *testing.T, l *live) {
	l.Write(t, "two.yaml", podText("doc1", "  containers: [{name: c, image: IMAGE}]")+"\n---\n"+podText("doc2", "  containers: [{name: c, image: IMAGE}]"))
	l.Await(t, "both are ready", agentproc.Ready("doc1", "doc2"))
	one := l.ready(t, "doc1").UID
	l.Write(t, "two.yaml", podText("doc1", "  containers: [{name: c, image: IMAGE}]"))
	l.gone(t, "doc2")
	same(t, "UID of the document that stayed", l.ready(t, "doc1").UID, one)
}

func brokenFile(t *testing.T, l *live) {
	l.pod(t, "sturdy", "  containers: [{name: c, image: IMAGE}]")
	p, id := l.ready(t, "sturdy"), l.container(t, "sturdy", "c").ID
	l.pod(t, "sturdy", "  containers: [{name: c, image: IMAGE, imagePullPolicy: Sometimes}]")
	r := l.Await(t, "the file is refused", func(r node.Report) error {
		for _, f := range r.Manifests {
			if f.File == "sturdy.yaml" && !f.Accepted && len(f.Problems) > 0 {
				return nil
			}
		}
		return errors.New("no verdict yet")
	})
	for _, f := range r.Manifests {
		if f.File == "sturdy.yaml" {
			holds(t, "verdict", fmt.Sprintf("%+v", f.Problems), "imagePullPolicy", "Sometimes")
			if f.Problems[0].Line == 0 {
				t.Error("the verdict names no line")
			}
		}
	}
	q := l.ready(t, "sturdy")
	same(t, "UID", q.UID, p.UID)
	same(t, "container", l.container(t, "sturdy", "c").ID, id)
}

// prompt edits a pod and watches that the old one's container ends before the
// new one's runs. One time in three must be quick: others load this machine.
func prompt(t *testing.T, l *live) {
	spec := "  containers: [{name: c, image: IMAGE, env: [{name: A, value: '%d'}]}]"
	l.pod(t, "swift", fmt.Sprintf(spec, 0))
	p := l.ready(t, "swift")
	least := time.Hour
	for i := range 3 {
		began := time.Now()
		l.pod(t, "swift", fmt.Sprintf(spec, i+1))
		l.Await(t, "the pod is replaced", func(r node.Report) error {
			up := 0
			for _, c := range l.Containers(t) {
				if c.Pod == "swift" && c.State == cri.ContainerRunning {
					up++
				}
			}
			if up > 1 {
				t.Fatal("the old and the new container run at once")
			}
			return replaced("swift", p.UID)(r)
		})
		least = min(least, time.Since(began))
		p = l.ready(t, "swift")
	}
	if least > 5*time.Second {
		t.Errorf("replacing took %v at best, want less than 5s", least)
	}
}
