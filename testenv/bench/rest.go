package main

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"pinnace/node"
)

func (b *bench) restEmpty(ctx context.Context) error { return b.rest(ctx, 0, 48) }
func (b *bench) restHalf(ctx context.Context) error  { return b.rest(ctx, min(50, b.opt.pods/2), 80) }
func (b *bench) restFull(ctx context.Context) error  { return b.rest(ctx, b.opt.pods, 80) }

// fill adds pods until there are so many, and waits until all are ready.
func (b *bench) fill(ctx context.Context, pods int) error {
	names := named("r", pods, pods-len(b.node.names))
	if err := b.node.stage(names); err != nil {
		return err
	}
	if _, err := b.node.drop(names); err != nil {
		return err
	}
	return b.node.until(ctx, rarely, allReady(pods))
}

// anonMost is how much of the agent's memory may be its own, in MB.
const anonMost = 40

// rest watches an agent that has nothing to do.
func (b *bench) rest(ctx context.Context, pods int, mostMB float64) error {
	if err := b.fill(ctx, pods); err != nil {
		return err
	}
	if err := b.calm.wait(ctx); err != nil {
		return err
	}
	note("watching the agent with %d pods for %v", pods, b.opt.idle)
	before, err := b.node.footprint()
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(b.opt.idle):
	}
	after, err := b.node.footprint()
	if err != nil {
		return err
	}
	what := fmt.Sprintf("at rest with %d pods, %v: ", pods, b.opt.idle)
	share := 100 * (after.cpu - before.cpu).Seconds() / b.opt.idle.Seconds()
	b.table.row(figure{what + "CPU of one core", "", fmt.Sprintf("%.2f %%", share), "≤ 0.3 %", share <= 0.3})
	b.table.row(figure{what + "resident memory", "",
		fmt.Sprintf("%.1f MB, of it %.1f anonymous (highest so far %.1f)", after.resident, after.anonymous, after.peak),
		fmt.Sprintf("≤ %.0f MB, of it ≤ %d anonymous", mostMB, anonMost), after.resident <= mostMB && after.anonymous <= anonMost})
	written := after.written - before.written
	b.table.row(figure{what + "bytes written to disk", "", fmt.Sprint(written), "0", written == 0})
	return nil
}

// footprint is what the agent occupies; memory in MB.
type footprint struct {
	cpu                       time.Duration
	resident, anonymous, peak float64
	written                   int64
}

func (n *host) footprint() (f footprint, err error) {
	pid := n.agent.Process.Pid
	if f.cpu, err = cpu(pid); err != nil {
		return f, err
	}
	for name, into := range map[string]*float64{"VmRSS": &f.resident, "RssAnon": &f.anonymous, "VmHWM": &f.peak} {
		kb, err := field(pid, "status", name)
		if err != nil {
			return f, err
		}
		*into = float64(kb) * 1024 / 1e6
	}
	f.written, err = field(pid, "io", "write_bytes")
	return f, err
}

// takeOver kills the agent of a full node and starts the next one.
func (b *bench) takeOver(ctx context.Context) error {
	if err := b.fill(ctx, b.opt.pods); err != nil {
		return err
	}
	before, err := b.node.report(ctx)
	if err != nil {
		return err
	}
	var s series
	changed := 0
	for range max(3, b.opt.rounds) {
		if err := b.calm.wait(ctx); err != nil {
			return err
		}
		if err := b.node.end(syscall.SIGKILL); err != nil {
			return err
		}
		began := time.Now()
		if err := b.node.start(ctx); err != nil {
			return err
		}
		if err := b.node.until(ctx, often, allReady(b.opt.pods)); err != nil {
			return err
		}
		s.add(time.Since(began))
		after, err := b.node.report(ctx)
		if err != nil {
			return err
		}
		changed += changes(before, after)
	}
	b.table.row(figure{fmt.Sprintf("agent killed, next one started with %d pods → all ready in its status", b.opt.pods), "",
		s.String(), "≤ 1 s", s.median() <= 1000})
	b.table.row(figure{"pods whose conditions, their times, UID or containers changed over it", "", fmt.Sprint(changed), "0", changed == 0})
	return nil
}

// changes counts the pods that are not what they were.
func changes(before, after node.Report) int {
	was := map[types.NamespacedName]string{}
	for _, p := range before.Pods {
		was[types.NamespacedName{Namespace: p.Namespace, Name: p.Name}] = identity(p)
	}
	n := 0
	for _, p := range after.Pods {
		if was[types.NamespacedName{Namespace: p.Namespace, Name: p.Name}] != identity(p) {
			n++
		}
	}
	return n
}

// identity is what must not change over a restart of the agent.
func identity(p node.PodReport) string {
	id := p.UID
	for _, c := range p.Status.Conditions {
		id += fmt.Sprint(c.Type, c.Status, c.LastTransitionTime.UTC())
	}
	for _, c := range p.Status.ContainerStatuses {
		id += fmt.Sprint(c.ContainerID, c.RestartCount)
	}
	return id
}
