// Package record is the node's list of pods while there is no API: shaped like
// one (list, watch, status back), kept in one JSON file per pod, so that a broken
// manifest, a restart of the agent and a reboot all end in the last good pod.
//
// Apply tells it what the manifests want, SetStatus and Remove what became of
// it. It never reads manifests and never runs anything: what it holds, it has
// first written down. The package of the API replaces it one day.
package record
