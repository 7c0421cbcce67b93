package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// startOneByOne starts pods one after the other, an agent's and a bare one by
// turns, and leaves them running.
func (b *bench) startOneByOne(ctx context.Context) error {
	if err := b.calm.wait(ctx); err != nil {
		return err
	}
	note("starting %d pods one by one, each beside a bare one", b.opt.starts)
	ours, bare := named("a", 0, b.opt.starts), named("b", 0, b.opt.starts)
	if err := b.node.stage(ours); err != nil {
		return err
	}
	if err := b.bare.prepare(bare); err != nil {
		return err
	}
	var a, c series
	mark, err := b.node.mark()
	if err != nil {
		return err
	}
	for i := range ours {
		if err := b.oneStart(ctx, ours[i], &a); err != nil {
			return err
		}
		began := time.Now()
		if err := b.bare.start(ctx, bare[i]); err != nil {
			return err
		}
		at, err := b.node.stamps.wait(ctx, bare[i], 1)
		if err != nil {
			return err
		}
		c.add(at.Sub(began))
	}
	ratio := a.median() / c.median()
	b.table.row(figure{"manifest renamed in → first instruction, one by one",
		fmt.Sprintf("bare %s", c), fmt.Sprintf("%s; ratio of medians %.2f", a, ratio), "≤ 1.10 x bare", ratio <= 1.10})
	return b.trace(mark, "one by one")
}

// oneStart starts one pod of the agent and waits until it is ready and told,
// so that its end does not fall into the next one's time.
func (b *bench) oneStart(ctx context.Context, name string, s *series) error {
	began, err := b.node.drop([]string{name})
	if err != nil {
		return err
	}
	at, err := b.node.stamps.wait(ctx, name, 1)
	if err != nil {
		return err
	}
	s.add(at.Sub(began))
	return b.node.until(ctx, often, allReady(len(b.node.names)))
}

// restartOneByOne kills containers, the agent's and bare ones by turns. The
// agent has to notice; for the bare one the clock starts when its end is known.
func (b *bench) restartOneByOne(ctx context.Context) error {
	if len(b.node.names) == 0 {
		if err := b.startOneByOne(ctx); err != nil {
			return err
		}
	}
	if err := b.calm.wait(ctx); err != nil {
		return err
	}
	note("killing %d containers, each beside a bare one", len(b.node.names))
	ids, err := b.containers(ctx)
	if err != nil {
		return err
	}
	var a, c series
	for i, name := range b.node.names {
		began, err := b.kill(ctx, ids[name])
		if err != nil {
			return err
		}
		at, err := b.node.stamps.wait(ctx, name, 2)
		if err != nil {
			return err
		}
		a.add(at.Sub(began))
		if err := b.node.until(ctx, often, allReady(len(b.node.names))); err != nil {
			return err
		}
		d, err := b.bareRestart(ctx, fmt.Sprintf("b0-%03d", i))
		if err != nil {
			return err
		}
		c.add(d)
	}
	more := a.median() - c.median()
	b.table.row(figure{"container's exit → first instruction of the next",
		fmt.Sprintf("bare create + start %s", c), fmt.Sprintf("%s; %.0f ms more than bare", a, more), "≤ bare + 100 ms", more <= 100})
	return nil
}

// containers maps the agent's pods to their containers' ids.
func (b *bench) containers(ctx context.Context) (map[string]string, error) {
	r, err := b.node.report(ctx)
	if err != nil {
		return nil, err
	}
	ids := map[string]string{}
	for _, p := range r.Pods {
		for _, c := range p.Status.ContainerStatuses {
			_, ids[p.Name], _ = strings.Cut(c.ContainerID, "://")
		}
	}
	return ids, nil
}

// kill ends a container's process and returns when.
func (b *bench) kill(ctx context.Context, id string) (time.Time, error) {
	resp, err := b.bare.runtime.ContainerStatus(ctx, &runtimeapi.ContainerStatusRequest{ContainerId: id, Verbose: true})
	if err != nil {
		return time.Time{}, err
	}
	var info struct {
		PID int `json:"pid"`
	}
	if err := json.Unmarshal([]byte(resp.GetInfo()["info"]), &info); err != nil || info.PID <= 1 {
		return time.Time{}, fmt.Errorf("find process of container %s: %w", id, err)
	}
	began := time.Now()
	return began, syscall.Kill(info.PID, syscall.SIGKILL)
}

// bareRestart kills a bare container and makes its successor.
func (b *bench) bareRestart(ctx context.Context, name string) (time.Duration, error) {
	p := b.bare.pods[name]
	if _, err := b.kill(ctx, p.containID); err != nil {
		return 0, err
	}
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for {
		resp, err := b.bare.runtime.ContainerStatus(ctx, &runtimeapi.ContainerStatusRequest{ContainerId: p.containID})
		if err != nil {
			return 0, err
		}
		if resp.GetStatus().GetState() == runtimeapi.ContainerState_CONTAINER_EXITED {
			break
		}
		<-look.C
	}
	p.container.Metadata.Attempt++
	began := time.Now()
	if err := b.bare.startContainer(ctx, name); err != nil {
		return 0, err
	}
	at, err := b.node.stamps.wait(ctx, name, 2)
	return at.Sub(began), err
}

// removeAll clears the node for the next phase.
func (b *bench) removeAll(ctx context.Context) error {
	if err := b.node.removeAll(ctx); err != nil {
		return err
	}
	return b.bare.removeAll(ctx)
}
