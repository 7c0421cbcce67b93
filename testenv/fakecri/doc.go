// Package fakecri is a container runtime in memory: stateful, as strict as
// containerd where that matters to a caller, and driven by time alone, so
// that it runs inside a synctest bubble. It has the methods of cri.Client.
// What containers do is scripted by the test; faults come on demand or by a
// seeded chance. It keeps state, never a record of calls, and passes the same
// suite as the real thing.
package fakecri
