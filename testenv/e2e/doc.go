// Package e2e holds the end-to-end tests: the real binaries on real
// containerd, runc and packets, each test in a network and mount namespace of
// its own. It has no code that others could call; testenv/agentproc has.
package e2e
