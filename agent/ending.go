package agent

import "time"

// ending holds the ids whose end was told and that the runtime still calls
// running, by when to look at them again. containerd tells its subscribers
// side by side, and CRI is only one of them: its own answer may come some
// milliseconds after ours. An out-of-memory event need not be an end at all,
// so that the looks thin out and stop.
type ending map[string]overdue

type overdue struct {
	at   time.Time
	wait time.Duration
}

const endingFirst, endingMost = 5 * time.Millisecond, 2 * time.Second

// noted takes in what a look after the event has shown.
func (e ending) noted(id string, alive bool, now time.Time) {
	wait := max(2*e[id].wait, endingFirst)
	if !alive || wait > endingMost {
		delete(e, id)
		return
	}
	e[id] = overdue{now.Add(wait), wait}
}

// due are the ids to look at now.
func (e ending) due(now time.Time) []string {
	var ids []string
	for id, o := range e {
		if !now.Before(o.at) {
			ids = append(ids, id)
		}
	}
	return ids
}

// next is the first moment at which one is due; zero when there is none.
func (e ending) next() time.Time {
	var next time.Time
	for _, o := range e {
		next = sooner(next, o.at)
	}
	return next
}

// sooner is the earlier of two moments, of which zero is none.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
