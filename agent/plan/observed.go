// Package plan holds the decisions about one pod: what to do next, and what
// to tell the world about it. Everything here is a pure function of the pod
// that is wanted, what was observed of it, and the time; nothing here does
// I/O, starts a goroutine or remembers anything. The agent's worker gathers
// an Observed, asks Decide for steps, takes them, and publishes Status.
package plan

import (
	"time"

	"pinnace/cri"
)

// Observed is all that is known of one pod name at one moment. The first two
// fields are what the runtime says; the others are what the worker has done
// or heard since it began, or since the node booted.
type Observed struct {
	Sandboxes  []cri.Sandbox   // newest first, whatever their UID
	Containers []cri.Container // newest attempt first, whatever their UID

	StartedAt time.Time           // when the agent first took up the pod
	SetUp     bool                // volumes, cgroup and log folder are there
	Images    map[string]Image    // by container name
	Failures  map[Subject]Failure // what did not work, and when to try again
	Marks     map[string]Mark     // by container id
	Stopping  map[string]Stopping // by container id: a stop is under way
}

// Image says how far the image for one attempt of a container is.
type Image struct {
	Attempt uint32
	Pulling bool
	Ref     string // what the runtime calls it; "" until it is there
}

// Subject names what a failure is about: one of the constants, or the
// constant followed by a container's name.
type Subject string

// The subjects of failures.
const (
	SubjectSetup   Subject = "setup"
	SubjectSandbox Subject = "sandbox"
	SubjectRemove  Subject = "remove"
	SubjectImage   Subject = "image/"
	SubjectCreate  Subject = "create/"
)

// Of is the subject for one container.
func (s Subject) Of(container string) Subject { return s + Subject(container) }

// Failure is the last error about a subject.
type Failure struct {
	Reason  string // CamelCase, as it stands in a status
	Message string
	Count   int       // how often in a row
	RetryAt time.Time // not before
}

// retryFirst and retryMost bound the back-off after a failed step; pulls wait
// as long as upstream documents (10 s to 5 min).
const (
	retryFirst, retryMost = time.Second, 30 * time.Second
	pullFirst, pullMost   = 10 * time.Second, 5 * time.Minute
)

// Fail is the failure that follows f: one more in a row, waiting twice as long.
func (f Failure) Fail(s Subject, reason, message string, now time.Time) Failure {
	first, most := retryFirst, retryMost
	if len(s) > len(SubjectImage) && s[:len(SubjectImage)] == SubjectImage {
		first, most = pullFirst, pullMost
	}
	wait := first
	for i := 0; i < f.Count && wait < most; i++ {
		wait *= 2
	}
	return Failure{Reason: reason, Message: message, Count: f.Count + 1, RetryAt: now.Add(min(wait, most))}
}

// Verdict is what a probe has found so far.
type Verdict string

// The verdicts of probes and the states of the postStart hook.
const (
	Unknown Verdict = ""
	Running Verdict = "running" // hooks only
	Success Verdict = "success"
	Failed  Verdict = "failure"
)

// Mark is what the runtime does not remember about a container. It is kept
// for as long as the node is up, so that a restart of the agent changes
// nobody's readiness and runs no hook twice.
type Mark struct {
	PostStart Verdict `json:"postStart,omitempty"`
	Startup   Verdict `json:"startup,omitempty"`
	Readiness Verdict `json:"readiness,omitempty"`
	Liveness  Verdict `json:"liveness,omitempty"`
	// Restart says that the agent itself ended the container in order to
	// start it again, so that its exit code does not count.
	Restart bool `json:"restart,omitempty"`
}

// Stopping is a stop under way.
type Stopping struct {
	Grace time.Duration // the grace period it was begun with
}

// Verb is what a step does.
type Verb string

// The verbs. Pull, PostStart and Stop take their time: the worker starts them
// and hears of their end; the others are done when they return.
const (
	Setup           Verb = "setup"            // volumes, cgroup, log folder
	RunSandbox      Verb = "run sandbox"      //
	StopSandbox     Verb = "stop sandbox"     // releases its network
	RemoveSandbox   Verb = "remove sandbox"   // with every container in it
	Pull            Verb = "pull"             //
	Create          Verb = "create container" //
	Start           Verb = "start container"  //
	PostStart       Verb = "run postStart"    //
	Stop            Verb = "stop container"   // preStop, SIGTERM, SIGKILL
	RemoveContainer Verb = "remove container" //
	Teardown        Verb = "tear down"        // volumes, cgroup, logs of a UID
	Forget          Verb = "forget"           // tell the source that nothing is left
)

// Settles reports whether a step of this verb, once done, makes an earlier
// failure of its subject void. Half of the way does not: what may have failed
// is the other half.
func (v Verb) Settles() bool {
	switch v {
	case StopSandbox, Create, Pull, PostStart, Stop:
		return false
	}
	return true
}

// Step is one thing to do. Fields that a verb does not need are zero.
type Step struct {
	Verb      Verb
	UID       string // of the pod it is about
	ID        string // sandbox or container
	Container string // name in the pod's spec
	Attempt   uint32
	Backoff   time.Duration // Create: recorded with the container
	Grace     time.Duration // Stop
	Reason    string        // Stop: why, for the log and the status
	Restart   bool          // Stop: it shall start again
}
