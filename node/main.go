package node

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
)

const usage = `pinnace runs Kubernetes pods on this host.

  pinnace agent     run the agent in the foreground
  pinnace status    show the node, its pods and its manifests
  pinnace cleanup   end all pods and remove everything the agent ever made
  pinnace version   print the version

"pinnace COMMAND --help" lists a command's flags.
`

// command is one verb of the command line.
type command func(ctx context.Context, args []string, stdout, stderr io.Writer) error

// Main runs one command and returns the process's exit code: 0 done, 1 it
// did not work, 2 the command line is wrong.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	commands := map[string]command{
		"agent": runAgent, "status": runStatus, "cleanup": runCleanup, "version": runVersion,
	}
	if len(args) == 0 || args[0] == "help" || args[0] == "--help" || args[0] == "-h" {
		fmt.Fprint(stdout, usage)
		return 0
	}
	cmd, ok := commands[args[0]]
	if !ok {
		fmt.Fprintf(stderr, "pinnace: no command %q\n\n%s", args[0], usage)
		return 2
	}
	err := cmd(ctx, args[1:], stdout, stderr)
	var wrong usageError
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
		return 0
	case errors.As(err, &wrong):
		fmt.Fprintf(stderr, "pinnace %s: %v\n", args[0], err)
		fmt.Fprintf(stderr, "pinnace %s --help lists the flags\n", args[0])
		return 2
	}
	fmt.Fprintf(stderr, "pinnace %s: %v\n", args[0], err)
	return 1
}

// usageError is an error of the person who typed the command.
type usageError struct{ error }

func (u usageError) Unwrap() error { return u.error }

func level(name string) (slog.Level, error) {
	var l slog.Level
	err := l.UnmarshalText([]byte(name))
	return l, err
}

// version is set by the linker (deploy/build.sh).
var version = "development"

func runVersion(_ context.Context, _ []string, stdout, _ io.Writer) error {
	_, err := fmt.Fprintln(stdout, "pinnace", version)
	return err
}
