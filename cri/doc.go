// Package cri speaks the Container Runtime Interface: a gRPC client with a
// deadline for each class of verb, the types in which the rest of the house
// sees what the runtime runs, and pure conversions from a Pod to the
// runtime's configuration messages. It decides nothing, keeps no state, and
// knows neither the agent nor the network.
package cri
