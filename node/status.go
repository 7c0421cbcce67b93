package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"pinnace/agent/manifest"
)

// socketName is where the agent answers `pinnace status`, below --run.
const socketName = "status.sock"

// Report is what `pinnace status -o json` prints.
type Report struct {
	Node      NodeReport       `json:"node"`
	Pods      []PodReport      `json:"pods"`
	Manifests []ManifestReport `json:"manifests"`
	Note      string           `json:"note,omitempty"` // about the manifest directory
}

// NodeReport is the node's part of a Report.
type NodeReport struct {
	Name      string    `json:"name"`
	Instance  string    `json:"instance"` // marks what is ours in kernel and runtime
	PodCIDRs  []string  `json:"podCIDRs"`
	Runtime   string    `json:"runtime"`
	Manifests string    `json:"manifests"`
	Since     time.Time `json:"since"`
}

// PodReport is one pod's part of a Report, its status as the Pod API has it.
type PodReport struct {
	Namespace string           `json:"namespace"`
	Name      string           `json:"name"`
	UID       string           `json:"uid"`
	File      string           `json:"file"`
	Deleting  bool             `json:"deleting,omitempty"`
	Created   time.Time        `json:"created"`
	Status    corev1.PodStatus `json:"status"`
}

// ManifestReport is the verdict on one file.
type ManifestReport struct {
	File     string             `json:"file"`
	Accepted bool               `json:"accepted"`
	Pods     []string           `json:"pods,omitempty"`
	Problems []manifest.Problem `json:"problems,omitempty"`
	Warnings []string           `json:"warnings,omitempty"`
}

// answer serves the report on a socket that only root may open.
func (h *house) answer(ctx context.Context) error {
	path := filepath.Join(h.cfg.Run, socketName)
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("answer status: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return err
	}
	srv := &http.Server{
		ReadHeaderTimeout: 5 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			if err := json.NewEncoder(w).Encode(h.report()); err != nil {
				h.log.Debug("status not delivered", "err", err)
			}
		}),
	}
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	defer stop()
	if err := srv.Serve(l); ctx.Err() == nil {
		return fmt.Errorf("answer status: %w", err)
	}
	return nil
}

func (h *house) report() Report {
	snapshot, note := h.files.get()
	r := Report{Note: note, Node: NodeReport{
		Name: h.cfg.NodeName, Instance: h.cfg.Instance(), Manifests: h.cfg.Manifests, Since: h.began, Runtime: h.cfg.CRIEndpoint,
	}}
	if h.daemon != nil {
		r.Node.Runtime = h.daemon.Endpoint()
	}
	for _, p := range h.cfg.Pods {
		r.Node.PodCIDRs = append(r.Node.PodCIDRs, p.String())
	}
	for _, pod := range h.store.List() {
		r.Pods = append(r.Pods, PodReport{
			Namespace: pod.Namespace, Name: pod.Name, UID: string(pod.UID), Status: pod.Status,
			File: pod.Annotations[manifest.FileAnnotation], Deleting: pod.DeletionTimestamp != nil,
			Created: pod.CreationTimestamp.Time,
		})
	}
	for _, f := range snapshot.Files {
		m := ManifestReport{File: f.Name, Accepted: len(f.Problems) == 0, Problems: f.Problems, Warnings: f.Warnings}
		for _, pod := range f.Pods {
			m.Pods = append(m.Pods, pod.Namespace+"/"+pod.Name)
		}
		r.Manifests = append(r.Manifests, m)
	}
	return r
}

// runStatus is `pinnace status`.
func runStatus(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	cfg := &Config{}
	fs := cfg.flags("pinnace status", stderr)
	form := fs.String("o", "", "output `form`: json, or for people when not given")
	file := fs.String("config", "", "config `file` in YAML")
	if err := readFlags(fs, args); err != nil {
		return usageError{err}
	}
	if *file != "" {
		if err := readFile(fs, *file); err != nil {
			return usageError{err}
		}
	}
	if *form != "" && *form != "json" {
		return usageError{fmt.Errorf("-o %s: must be json", *form)}
	}
	r, err := ask(ctx, filepath.Join(cfg.Run, socketName))
	if err != nil {
		return err
	}
	if given(fs, "root") && r.Node.Instance != cfg.Instance() {
		return fmt.Errorf("the agent on --run %s has another --root than %s", cfg.Run, cfg.Root)
	}
	if *form == "json" {
		enc := json.NewEncoder(stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(r)
	}
	return r.print(stdout)
}

// ask fetches the report from a running agent.
func ask(ctx context.Context, socket string) (Report, error) {
	var r Report
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent/status", nil)
	if err != nil {
		return r, err
	}
	resp, err := client.Do(req)
	switch {
	case errors.Is(err, os.ErrPermission):
		return r, fmt.Errorf("ask the agent: %s: only root may", socket)
	case err != nil:
		return r, fmt.Errorf("ask the agent: nobody answers on %s; is the agent running, with this --run? Its pods go on without it", socket)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&r); err != nil {
		return r, errors.New("ask the agent: " + strconv.Quote(socket) + " speaks another language: " + err.Error())
	}
	return r, nil
}
