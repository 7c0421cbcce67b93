// Package criproxy stands between an agent and its runtime in a test: a unix
// socket that passes every gRPC call on as it is, counts those that change
// something, and strikes at one of them. It knows nothing of what the calls
// say. It is driven by Arm; unarmed it only passes on.
package criproxy
