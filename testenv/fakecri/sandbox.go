package fakecri

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"pinnace/cri"
)

// sandbox is ready until it is stopped; only then can nothing new start in it.
type sandbox struct {
	id, name string
	cfg      *runtimeapi.PodSandboxConfig
	created  time.Time
	ready    bool
	ips      []netip.Addr
}

func (s *sandbox) observed() cri.Sandbox {
	m := s.cfg.GetMetadata()
	return cri.Sandbox{
		ID: s.id, Name: m.GetName(), Namespace: m.GetNamespace(), UID: m.GetUid(), Attempt: m.GetAttempt(),
		Ready: s.ready, CreatedAt: s.created, IPs: slices.Clone(s.ips),
		Labels: maps.Clone(s.cfg.Labels), Annotations: maps.Clone(s.cfg.Annotations),
	}
}

// RunSandbox makes a ready sandbox; the next address is its own unless it
// shares the node's network.
func (r *Runtime) RunSandbox(ctx context.Context, cfg *runtimeapi.PodSandboxConfig, handler string) (string, error) {
	m := cfg.GetMetadata()
	var id string
	err := r.do(ctx, RunSandbox, "run sandbox "+m.GetNamespace()+"/"+m.GetName(), func() error {
		if handler != "" {
			return fmt.Errorf("no runtime for %q is configured", handler)
		}
		if m.GetName() == "" || m.GetUid() == "" {
			return errors.New("sandbox config must include metadata")
		}
		s := &sandbox{id: r.newID(), cfg: proto.CloneOf(cfg), created: time.Now(), ready: true}
		s.name = strings.Join([]string{m.Name, m.Namespace, m.Uid, fmt.Sprint(m.Attempt)}, "_")
		hostNetwork := cfg.GetLinux().GetSecurityContext().GetNamespaceOptions().GetNetwork() == runtimeapi.NamespaceMode_NODE
		if hostNetwork && cfg.Hostname != "" {
			return errors.New("unable to set hostname without a private UTS namespace")
		}
		if err := r.reserve("sandbox", s.name, s.id); err != nil {
			return err
		}
		if !hostNetwork {
			s.ips = []netip.Addr{r.nextIP}
			r.nextIP = r.nextIP.Next()
		}
		r.sandboxes[s.id] = s
		id = s.id
		return nil
	})
	if err != nil {
		return "", err
	}
	return id, nil
}

// StopSandbox kills what runs in it; absent is success.
func (r *Runtime) StopSandbox(ctx context.Context, id string) error {
	return r.do(ctx, StopSandbox, "stop sandbox "+id, func() error {
		s, err := r.sandbox(id)
		if err != nil {
			return gone(err)
		}
		r.stop(s)
		return nil
	})
}

// RemoveSandbox removes it and its containers; absent is success.
func (r *Runtime) RemoveSandbox(ctx context.Context, id string) error {
	return r.do(ctx, RemoveSandbox, "remove sandbox "+id, func() error {
		s, err := r.sandbox(id)
		if err != nil {
			return gone(err)
		}
		r.stop(s)
		for _, c := range r.containers {
			if c.sandbox == s.id {
				r.remove(c)
			}
		}
		delete(r.names, s.name)
		delete(r.sandboxes, s.id)
		return nil
	})
}

// stop makes s not ready and kills its containers.
func (r *Runtime) stop(s *sandbox) {
	for _, c := range r.containers {
		if c.sandbox == s.id && c.state == cri.ContainerRunning {
			r.kill(c)
		}
	}
	if s.ready {
		s.ready, s.ips = false, nil
		r.tell(s.id)
	}
}

// Sandboxes lists what carries all of labels, newest first, without addresses.
func (r *Runtime) Sandboxes(ctx context.Context, labels map[string]string) ([]cri.Sandbox, error) {
	list := []cri.Sandbox{}
	err := r.do(ctx, Look, "list sandboxes", func() error {
		for _, s := range r.sandboxes {
			if has(s.cfg.Labels, labels) {
				o := s.observed()
				o.IPs = nil
				list = append(list, o)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	cri.SortSandboxes(list)
	return list, nil
}

// Sandbox returns one with its addresses, or cri.ErrNotFound.
func (r *Runtime) Sandbox(ctx context.Context, id string) (cri.Sandbox, error) {
	var out cri.Sandbox
	err := r.do(ctx, Look, "look at sandbox "+id, func() error {
		s, err := r.sandbox(id)
		if err == nil {
			out = s.observed()
		}
		return err
	})
	if err != nil {
		return cri.Sandbox{}, err
	}
	return out, nil
}

func (r *Runtime) sandbox(id string) (*sandbox, error) {
	if s, ok := r.sandboxes[id]; ok {
		return s, nil
	}
	return nil, notFound("sandbox", id)
}
