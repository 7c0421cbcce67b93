package main

import (
	"context"
	"fmt"
	"time"
)

// burst is what one full node's start took.
type burst struct {
	took time.Duration
	used usage
}

// startAtOnce fills the node at once: bare at every width to find the best
// one, then the agent and the best bare width by turns.
func (b *bench) startAtOnce(ctx context.Context) error {
	round, best, least := 0, 0, 0.0
	seen := ""
	for _, width := range b.opt.widths {
		round++
		t, err := b.burstBare(ctx, round, width)
		if err != nil {
			return err
		}
		if best == 0 || t.took.Seconds() < least {
			best, least = width, t.took.Seconds()
		}
		seen += fmt.Sprintf(" %d: %.1f s;", width, t.took.Seconds())
	}
	var ours, bare series
	var a, c []usage
	mark, err := b.node.mark()
	if err != nil {
		return err
	}
	for range b.opt.rounds {
		round++
		t, err := b.burstAgent(ctx, round)
		if err != nil {
			return err
		}
		ours.add(t.took)
		a = append(a, t.used)
		if t, err = b.burstBare(ctx, round, best); err != nil {
			return err
		}
		bare.add(t.took)
		c = append(c, t.used)
	}
	ratio := ours.median() / bare.median()
	b.table.row(figure{fmt.Sprintf("%d pods at once → the last one's first instruction", b.opt.pods),
		fmt.Sprintf("bare, %d at a time: %s (looking for the best width:%s)", best, bare, seen),
		fmt.Sprintf("%s; ratio of medians %.2f", ours, ratio), "≤ 1.10 x the best bare run", ratio <= 1.10})
	if err := b.trace(mark, "at once"); err != nil {
		return err
	}
	return b.cost(ctx, a, c)
}

// cost tells the CPU time per pod: the agent's, the hook's, and what the
// agent makes containerd do beyond the bare calls.
func (b *bench) cost(ctx context.Context, ours, bare []usage) error {
	hook, err := b.node.hookCost(ctx, 20)
	if err != nil {
		return err
	}
	var agent, more, idle series
	for i := range ours {
		agent.add(ours[i].agent / time.Duration(b.opt.pods))
		more.add((ours[i].daemon - bare[i].daemon) / time.Duration(b.opt.pods))
		idle.add(bare[i].agent / time.Duration(b.opt.pods))
	}
	h := hook.Seconds() * 1000
	sum := agent.median() + max(0, more.median()) + h // less than bare is noise, not a gain
	b.table.row(figure{"CPU per pod started", fmt.Sprintf("bare: %.1f ms in the process that serves the hook", idle.median()),
		fmt.Sprintf("%.1f ms: agent %.1f, hook %.1f, containerd's increase %.1f", sum, agent.median(), h, more.median()),
		"≤ 10 ms", sum <= 10})
	return nil
}

func (b *bench) burstAgent(ctx context.Context, round int) (burst, error) {
	names := named("a", round, b.opt.pods)
	if err := b.node.stage(names); err != nil {
		return burst{}, err
	}
	if err := b.calm.wait(ctx); err != nil {
		return burst{}, err
	}
	before, err := b.node.usage()
	if err != nil {
		return burst{}, err
	}
	began, err := b.node.drop(names)
	if err != nil {
		return burst{}, err
	}
	return b.finish(ctx, names, began, before)
}

func (b *bench) burstBare(ctx context.Context, round, width int) (burst, error) {
	names := named("b", round, b.opt.pods)
	if err := b.bare.prepare(names); err != nil {
		return burst{}, err
	}
	if err := b.calm.wait(ctx); err != nil {
		return burst{}, err
	}
	before, err := b.node.usage()
	if err != nil {
		return burst{}, err
	}
	began := time.Now()
	if err := b.bare.startAll(ctx, names, width); err != nil {
		return burst{}, err
	}
	return b.finish(ctx, names, began, before)
}

// finish waits for the pods, takes the figures and removes the pods.
func (b *bench) finish(ctx context.Context, names []string, began time.Time, before usage) (burst, error) {
	end, err := b.node.stamps.last(ctx, names)
	if err != nil {
		return burst{}, err
	}
	if err := b.node.until(ctx, rarely, allReady(len(b.node.names))); err != nil {
		return burst{}, err
	}
	after, err := b.node.usage()
	if err != nil {
		return burst{}, err
	}
	t := burst{end.Sub(began), after.since(before)}
	note("%d pods %s…: %.2f s, CPU agent %v, containerd %v", len(names), names[0], t.took.Seconds(), t.used.agent, t.used.daemon)
	return t, b.removeAll(ctx)
}
