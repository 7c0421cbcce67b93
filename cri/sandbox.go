package cri

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// RunSandbox makes a sandbox of cfg, its network included, and returns its id
// when it is ready. handler is the runtime class's handler, "" for the
// default. A failed call may still have left a sandbox behind: list and
// remove it before the next attempt.
func (c *Client) RunSandbox(ctx context.Context, cfg *runtimeapi.PodSandboxConfig, handler string) (string, error) {
	m := cfg.GetMetadata()
	v := verb{what: "run sandbox", id: m.GetNamespace() + "/" + m.GetName(), limit: sandboxTimeout}
	resp, err := call(ctx, v, c.runtime.RunPodSandbox,
		&runtimeapi.RunPodSandboxRequest{Config: cfg, RuntimeHandler: handler})
	if err != nil {
		return "", err
	}
	return resp.PodSandboxId, nil
}

// StopSandbox ends all that runs in the sandbox and gives its network back.
// Idempotent; an absent sandbox is success.
func (c *Client) StopSandbox(ctx context.Context, id string) error {
	v := verb{what: "stop sandbox", id: id, limit: changeTimeout}
	_, err := call(ctx, v, c.runtime.StopPodSandbox, &runtimeapi.StopPodSandboxRequest{PodSandboxId: id})
	return c.unlessGone(ctx, err, c.sandboxGone, id)
}

// RemoveSandbox removes the sandbox and its containers; what still runs is
// killed. Idempotent; an absent sandbox is success.
func (c *Client) RemoveSandbox(ctx context.Context, id string) error {
	v := verb{what: "remove sandbox", id: id, limit: changeTimeout}
	_, err := call(ctx, v, c.runtime.RemovePodSandbox, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: id})
	return c.unlessGone(ctx, err, c.sandboxGone, id)
}

// Sandboxes lists the sandboxes that carry all of labels, newest first.
func (c *Client) Sandboxes(ctx context.Context, labels map[string]string) ([]Sandbox, error) {
	v := verb{what: "list sandboxes", limit: lookTimeout}
	resp, err := call(ctx, v, c.runtime.ListPodSandbox,
		&runtimeapi.ListPodSandboxRequest{Filter: &runtimeapi.PodSandboxFilter{LabelSelector: labels}})
	if err != nil {
		return nil, err
	}
	list := make([]Sandbox, 0, len(resp.Items))
	for _, s := range resp.Items {
		list = append(list, Sandbox{
			ID:          s.Id,
			Name:        s.GetMetadata().GetName(),
			Namespace:   s.GetMetadata().GetNamespace(),
			UID:         s.GetMetadata().GetUid(),
			Attempt:     s.GetMetadata().GetAttempt(),
			Ready:       s.State == runtimeapi.PodSandboxState_SANDBOX_READY,
			CreatedAt:   instant(s.CreatedAt),
			Labels:      s.Labels,
			Annotations: s.Annotations,
		})
	}
	SortSandboxes(list)
	return list, nil
}

// SortSandboxes puts the newest first: by attempt, which no clock that was set
// back can confuse, then by time and id.
func SortSandboxes(list []Sandbox) {
	slices.SortFunc(list, func(a, b Sandbox) int {
		return cmp.Or(cmp.Compare(b.Attempt, a.Attempt), b.CreatedAt.Compare(a.CreatedAt), strings.Compare(a.ID, b.ID))
	})
}

// Sandbox returns one sandbox with its addresses, or ErrNotFound.
func (c *Client) Sandbox(ctx context.Context, id string) (Sandbox, error) {
	v := verb{what: "look at sandbox", id: id, limit: lookTimeout}
	resp, err := call(ctx, v, c.runtime.PodSandboxStatus, &runtimeapi.PodSandboxStatusRequest{PodSandboxId: id})
	if err != nil {
		return Sandbox{}, err
	}
	s := resp.GetStatus()
	out := Sandbox{
		ID:          s.GetId(),
		Name:        s.GetMetadata().GetName(),
		Namespace:   s.GetMetadata().GetNamespace(),
		UID:         s.GetMetadata().GetUid(),
		Attempt:     s.GetMetadata().GetAttempt(),
		Ready:       s.GetState() == runtimeapi.PodSandboxState_SANDBOX_READY,
		CreatedAt:   instant(s.GetCreatedAt()),
		Labels:      s.GetLabels(),
		Annotations: s.GetAnnotations(),
	}
	addrs := []string{s.GetNetwork().GetIp()}
	for _, ip := range s.GetNetwork().GetAdditionalIps() {
		addrs = append(addrs, ip.GetIp())
	}
	for _, a := range addrs {
		// What does not parse is "" for a host-network sandbox; anything else
		// is not an address that anybody could reach.
		if ip, err := netip.ParseAddr(a); err == nil {
			out.IPs = append(out.IPs, ip)
		}
	}
	return out, nil
}

func (c *Client) sandboxGone(ctx context.Context, id string) bool {
	_, err := c.Sandbox(ctx, id)
	return errors.Is(err, ErrNotFound)
}

// unlessGone turns the error of a stop or a remove into success when the
// object itself is absent. It looks, because "not found" may as well be said
// of something that the runtime needed on the way.
func (c *Client) unlessGone(ctx context.Context, err error, gone func(context.Context, string) bool, id string) error {
	if errors.Is(err, ErrNotFound) && gone(ctx, id) {
		return nil
	}
	return err
}

// instant is a time that CRI gives in nanoseconds; zero and below mean never.
func instant(ns int64) time.Time {
	if ns <= 0 {
		return time.Time{}
	}
	return time.Unix(0, ns)
}
