// Package admit says what this node makes of a Pod's fields: which it honours,
// which cannot matter here, which it takes with a warning and which it refuses.
// It is the only such place: the verdict on a manifest, a warning of the API and
// a pod's status all use its sentences. Upstream's own defaulting and validation
// stand beside it, so that a pod from a file means what it means in a cluster.
//
// The table in table_*.go is complete: a test walks the Pod type and fails on a
// field without a rule, and a pod that sets such a field is refused all the same.
// The package keeps no state, does no I/O and never changes a pod except in
// Default and Check.
package admit
