package probe

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"pinnace/cri"
)

// script answers the n-th attempt with its n-th letter (s success, f
// failure, u no result, h hangs until its timeout), then with the last one,
// and notes when it was asked.
type script struct {
	answers string
	start   time.Time
	asked   []int // seconds since start
}

func (s *script) Exec(ctx context.Context, _ string, _ []string, timeout time.Duration) (cri.ExecResult, error) {
	n := len(s.asked)
	s.asked = append(s.asked, int(time.Since(s.start)/time.Second))
	switch s.answers[min(n, len(s.answers)-1)] {
	case 's':
		return cri.ExecResult{}, nil
	case 'u':
		return cri.ExecResult{}, errors.New("no answer")
	case 'h':
		select {
		case <-time.After(timeout):
			return cri.ExecResult{}, cri.ErrTimeout
		case <-ctx.Done():
			return cri.ExecResult{}, ctx.Err()
		}
	}
	return cri.ExecResult{ExitCode: 1}, nil
}

func TestWatch(t *testing.T) {
	type numbers = corev1.Probe
	for _, c := range []struct {
		name    string
		kind    Kind
		spec    numbers
		started time.Duration // before the watch, negative for after
		last    Result
		answers string
		run     time.Duration // until ctx ends
		asked   []int
		reports []string // "second:verdict"
		ends    error
	}{
		{"defaults", Readiness, numbers{}, 0, Unknown, "ffffs", 45 * time.Second,
			[]int{0, 10, 20, 30, 40}, []string{"20:failure", "40:success"}, context.Canceled},
		{"ready at once", Readiness, numbers{PeriodSeconds: 5}, 0, Unknown, "s", 12 * time.Second,
			[]int{0, 5, 10}, []string{"0:success"}, context.Canceled},
		{"initial delay", Liveness, numbers{InitialDelaySeconds: 7, PeriodSeconds: 5}, 0, Unknown, "s", 13 * time.Second,
			[]int{7, 12}, []string{"7:success"}, context.Canceled},
		{"initial delay partly over", Liveness, numbers{InitialDelaySeconds: 7, PeriodSeconds: 5}, 4 * time.Second, Unknown, "s", 10 * time.Second,
			[]int{3, 8}, []string{"3:success"}, context.Canceled},
		{"the clock went back since the start", Liveness, numbers{InitialDelaySeconds: 7, PeriodSeconds: 5}, -1000 * time.Hour, Unknown, "s", 8 * time.Second,
			[]int{7}, []string{"7:success"}, context.Canceled},
		{"thresholds", Readiness, numbers{PeriodSeconds: 1, SuccessThreshold: 2, FailureThreshold: 2}, 0, Unknown, "sfsfssfsffss", 12 * time.Second,
			[]int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, []string{"5:success", "9:failure", "11:success"}, context.Canceled},
		{"attempts without result count for nothing", Readiness, numbers{PeriodSeconds: 1, FailureThreshold: 2}, 0, Success, "fufuus", 6 * time.Second,
			[]int{1, 2, 3, 4, 5}, []string{"3:failure"}, context.Canceled},
		{"restart keeps ready and the rhythm", Readiness, numbers{PeriodSeconds: 10}, 25 * time.Second, Success, "ffs", 36 * time.Second,
			[]int{5, 15, 25, 35}, nil, context.Canceled},
		{"restart, then really failing", Readiness, numbers{PeriodSeconds: 10}, 25 * time.Second, Success, "f", 30 * time.Second,
			[]int{5, 15, 25}, []string{"25:failure"}, context.Canceled},
		{"restart while not ready asks at once", Readiness, numbers{PeriodSeconds: 10}, 25 * time.Second, Failure, "s", 5 * time.Second,
			[]int{0}, []string{"0:success"}, context.Canceled},
		{"started at an unknown time", Readiness, numbers{PeriodSeconds: 10}, 1 << 62, Success, "s", 10 * time.Second,
			[]int{1}, nil, context.Canceled},
		{"startup is over with success", Startup, numbers{PeriodSeconds: 1, FailureThreshold: 30}, 0, Unknown, "ffs", time.Hour,
			[]int{0, 1, 2}, []string{"2:success"}, nil},
		{"startup was over", Startup, numbers{}, 0, Success, "f", time.Hour, nil, nil, nil},
		{"startup fails, and holds", Startup, numbers{PeriodSeconds: 1, FailureThreshold: 2}, 0, Unknown, "f", time.Minute,
			[]int{0, 1}, []string{"1:failure"}, context.Canceled},
		{"liveness fails, and holds", Liveness, numbers{PeriodSeconds: 1, FailureThreshold: 2}, 0, Success, "ff", time.Minute,
			[]int{1, 2}, []string{"2:failure"}, context.Canceled},
		{"liveness failed before the restart", Liveness, numbers{PeriodSeconds: 1, FailureThreshold: 2}, 0, Failure, "ff", time.Minute,
			[]int{0, 1}, []string{"1:failure"}, context.Canceled},
		{"attempts longer than the period", Readiness, numbers{PeriodSeconds: 2, TimeoutSeconds: 5, FailureThreshold: 2}, 0, Unknown, "hhs", 14 * time.Second,
			[]int{0, 5, 10, 12}, []string{"10:failure", "10:success"}, context.Canceled},
		{"leaving during an attempt", Liveness, numbers{TimeoutSeconds: 100, FailureThreshold: 1}, 0, Unknown, "h", 5 * time.Second,
			[]int{0}, nil, context.Canceled},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				s := &script{answers: c.answers, start: start}
				c.spec.Exec = &corev1.ExecAction{Command: []string{"x"}}
				w := Watch{Kind: c.kind, Spec: &c.spec, Started: start.Add(-c.started), Last: c.last}
				ctx, cancel := context.WithCancel(t.Context())
				stop := time.AfterFunc(c.run-time.Second/2, cancel)
				defer stop.Stop()
				defer cancel()
				var reports []string
				err := w.Run(ctx, s, func(r Result, _ string) {
					reports = append(reports, fmt.Sprintf("%d:%v", int(time.Since(start)/time.Second), r))
				})
				if !errors.Is(err, c.ends) || c.ends == nil && err != nil {
					t.Errorf("ended with %v, want %v", err, c.ends)
				}
				if d := cmp.Diff(c.asked, s.asked); d != "" {
					t.Errorf("attempts: %s", d)
				}
				if d := cmp.Diff(c.reports, reports); d != "" {
					t.Errorf("reports: %s", d)
				}
			})
		})
	}
}

func TestWatchMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		spec := &corev1.Probe{FailureThreshold: 1, ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{}}}
		Watch{Kind: Readiness, Spec: spec, Started: time.Now()}.Run(ctx, &script{answers: "f", start: time.Now()}, func(r Result, msg string) {
			defer cancel()
			if r.String() != "failure" || !strings.Contains(msg, "exited with 1") {
				t.Errorf("report %v, %q", r, msg)
			}
		})
	})
}
