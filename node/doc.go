// Package node ties the house together: it reads the configuration, starts
// the runtime, the network and the agent, carries manifests to the pods'
// record, and answers `pinnace status`. It holds the loops between packages
// and none of their rules; nothing but cmd imports it.
package node
