// Command pinnace runs Kubernetes pods on one Linux host. It holds flags,
// signals and exit codes; everything else is one call into package node.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"pinnace/node"
)

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	return node.Main(ctx, args, os.Stdout, os.Stderr)
}
