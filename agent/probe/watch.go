package probe

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Watch is one probe of one running container. Started is when the container
// started; Last is the verdict that was last reported for it, Unknown when
// none was. A new container needs a new Watch.
type Watch struct {
	Kind    Kind
	Spec    *corev1.Probe
	Target  Target
	Started time.Time
	Last    Result
}

// Run probes until ctx ends and returns its error then. It reports a verdict
// when it differs from the one before, each time with the message of the
// attempt that settled it; Unknown is never reported and attempts without
// result count for nothing.
//
//	Unknown ──successThreshold──► Success ◄──successThreshold──┐
//	   └─────failureThreshold───► Failure ──(readiness only)───┘
//
// A startup probe is over with its first Success: Run returns nil, at once if
// Last says so already. A startup or liveness probe that failed asks no more
// (the container is about to be stopped, and a command run into it meanwhile
// can only confuse) but runs until ctx ends. Such a failure as Last counts
// as Unknown: the agent that heard of it may have died before it acted.
//
// The first attempt comes as soon as the initial delay is over, the next ones
// a period apart. A verdict of Success that came from before keeps the rhythm
// instead, so that an agent's restart does not make a node ask all its pods at once.
func (w Watch) Run(ctx context.Context, ex Execer, report func(Result, string)) error {
	once := w.Kind == Startup || w.Kind == Liveness
	if once && w.Last == Failure {
		w.Last = Unknown
	}
	if w.Kind == Startup && w.Last == Success {
		return nil
	}
	period := seconds(w.Spec.PeriodSeconds, 10)
	due := time.Now().Add(w.firstWait(time.Now(), period))
	timer := time.NewTimer(time.Until(due))
	defer timer.Stop()
	count := tally{spec: w.Spec, verdict: w.Last}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		}
		res, msg := Try(ctx, w.Spec, w.Target, ex)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if count.add(res) {
			report(count.verdict, msg)
			if w.Kind == Startup && count.verdict == Success {
				return nil
			}
			if once && count.verdict == Failure {
				<-ctx.Done()
				return ctx.Err()
			}
		}
		// Like a ticker: no drift, and an attempt that outlasts its period
		// delays the next one but does not pile them up.
		if due = due.Add(period); time.Until(due) < 0 {
			due = time.Now()
		}
		timer.Reset(time.Until(due))
	}
}

// firstWait is how long after now the first attempt is due. Started is wall
// clock time, so the answer is kept within what the fields allow whatever
// the clock did since.
func (w Watch) firstWait(now time.Time, period time.Duration) time.Duration {
	delay := time.Duration(max(0, w.Spec.InitialDelaySeconds)) * time.Second
	late := now.Sub(w.Started.Add(delay))
	switch {
	case late < -delay:
		return delay
	case late < 0:
		return -late
	case w.Last == Success:
		return period - late%period
	}
	return 0
}

// tally counts attempts in a row.
type tally struct {
	spec    *corev1.Probe
	verdict Result
	run     int32
	of      Result
}

// add takes one attempt's result and says whether it changed the verdict.
func (t *tally) add(res Result) bool {
	if res == Unknown {
		return false
	}
	if res != t.of {
		t.of, t.run = res, 0
	}
	t.run++
	need := max(1, t.spec.SuccessThreshold)
	if res == Failure {
		need = t.spec.FailureThreshold
		if need <= 0 {
			need = 3
		}
	}
	if t.run < need || res == t.verdict {
		return false
	}
	t.verdict = res
	return true
}
