package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"pinnace/node"
)

// host is the agent under test with all that is its own.
type host struct {
	dir, bin string
	netns    *os.File
	agent    *exec.Cmd // nil when it does not run
	log      *os.File
	stamps   *stamps
	client   *http.Client
	names    []string // pods whose manifests are there
}

func (n *host) root() string      { return filepath.Join(n.dir, "root") }
func (n *host) run() string       { return filepath.Join(n.dir, "run") }
func (n *host) manifests() string { return filepath.Join(n.dir, "manifests") }
func (n *host) staging() string   { return filepath.Join(n.dir, "staging") }
func (n *host) share() string     { return filepath.Join(n.dir, "share") }
func (n *host) endpoint() string {
	return "unix://" + filepath.Join(n.run(), "containerd", "containerd.sock")
}

// newHost makes the folders and the network namespace; nothing runs yet.
func newHost(bin string) (*host, error) {
	dir, err := os.MkdirTemp("/tmp", "pnb-") // short: a socket's path has 108 bytes
	if err != nil {
		return nil, err
	}
	n := &host{dir: dir, bin: bin}
	images := filepath.Join(n.root(), "images")
	for _, d := range []string{images, n.run(), n.manifests(), n.staging(), n.share()} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, err
		}
	}
	tars, err := filepath.Glob(filepath.Join(bin, "images", "*.tar"))
	if err != nil || len(tars) == 0 {
		return nil, errors.Join(err, fmt.Errorf("find images in %s: none; run make build", bin))
	}
	for _, t := range tars {
		if err := os.Symlink(t, filepath.Join(images, filepath.Base(t))); err != nil {
			return nil, err
		}
	}
	// As on every machine with systemd: what a reboot may lose lies in memory.
	if err := unix.Mount("tmpfs", n.run(), "tmpfs", 0, ""); err != nil {
		return nil, fmt.Errorf("mount tmpfs (as root?): %w", err)
	}
	if n.stamps, err = listen(filepath.Join(n.share(), "began")); err != nil {
		return nil, err
	}
	if n.log, err = os.Create(filepath.Join(dir, "agent.log")); err != nil {
		return nil, err
	}
	socket := filepath.Join(n.run(), "status.sock")
	n.client = &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}
	n.netns, err = newNamespace()
	return n, err
}

// flags are those that the agent and cleanup share.
func (n *host) flags() []string {
	return []string{"--root", n.root(), "--run", n.run(), "--manifests", n.manifests()}
}

const often, rarely = 10 * time.Millisecond, 250 * time.Millisecond

// start runs the agent and returns when it answers.
func (n *host) start(ctx context.Context) error {
	cmd := exec.Command(filepath.Join(n.bin, "pinnace"), append([]string{"agent"}, n.flags()...)...)
	cmd.Stdout, cmd.Stderr = n.log, n.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // our Ctrl-C is not its
	if err := inNamespace(n.netns, cmd.Start); err != nil {
		return err
	}
	n.agent = cmd
	return n.until(ctx, often, func(node.Report) bool { return true })
}

// end sends the agent a signal and waits for its end.
func (n *host) end(sig os.Signal) error {
	if n.agent == nil {
		return nil
	}
	err := n.agent.Process.Signal(sig)
	var exit *exec.ExitError
	if werr := n.agent.Wait(); !errors.As(werr, &exit) {
		err = errors.Join(err, werr)
	}
	n.agent = nil
	return err
}

// until asks for the status until ok says yes. A report on a full node costs
// the agent some milliseconds: who measures CPU asks rarely, who measures time
// asks often.
func (n *host) until(ctx context.Context, every time.Duration, ok func(node.Report) bool) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		r, err := n.report(ctx)
		if err == nil && ok(r) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the agent (its log is %s): %w", n.log.Name(), errors.Join(ctx.Err(), err))
		case <-tick.C:
		}
	}
}

// report is what `pinnace status -o json` would show, without its process.
func (n *host) report(ctx context.Context) (node.Report, error) {
	var r node.Report
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent/", nil)
	if err != nil {
		return r, err
	}
	resp, err := n.client.Do(req)
	if err != nil {
		return r, err
	}
	defer resp.Body.Close()
	return r, json.NewDecoder(resp.Body).Decode(&r)
}

// stage writes the manifests of pods beside the directory that is watched.
func (n *host) stage(names []string) error {
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(n.staging(), name+".yaml"), n.manifest(name), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// drop renames staged manifests in and returns when it began to.
func (n *host) drop(names []string) (time.Time, error) {
	n.names = append(n.names, names...)
	began := time.Now()
	for _, name := range names {
		if err := os.Rename(filepath.Join(n.staging(), name+".yaml"), filepath.Join(n.manifests(), name+".yaml")); err != nil {
			return began, err
		}
	}
	return began, nil
}

// removeAll takes every manifest away and returns when the pods are gone.
func (n *host) removeAll(ctx context.Context) error {
	for _, name := range n.names {
		if err := os.Remove(filepath.Join(n.manifests(), name+".yaml")); err != nil {
			return err
		}
	}
	n.names = nil
	return n.until(ctx, rarely, func(r node.Report) bool { return len(r.Pods) == 0 })
}

// allReady reports whether so many pods are there and all are ready.
func allReady(pods int) func(node.Report) bool {
	return func(r node.Report) bool {
		return len(r.Pods) == pods && !slices.ContainsFunc(r.Pods, func(p node.PodReport) bool { return !ready(p) })
	}
}

func ready(p node.PodReport) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// clean ends everything and removes the folder; of a run that failed the
// agent's log stays.
func (n *host) clean(ctx context.Context) error {
	errs := []error{n.end(syscall.SIGTERM)}
	cmd := exec.CommandContext(ctx, filepath.Join(n.bin, "pinnace"), append([]string{"cleanup"}, n.flags()...)...)
	var words strings.Builder
	cmd.Stdout, cmd.Stderr = &words, &words
	if err := inNamespace(n.netns, cmd.Run); err != nil {
		errs = append(errs, fmt.Errorf("clean up: %w: %s", err, words.String()))
	}
	errs = append(errs, unix.Unmount(n.run(), unix.MNT_DETACH))
	n.netns.Close()
	n.stamps.close()
	n.log.Close()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return os.RemoveAll(n.dir)
}
