// Command bench measures how fast the node is and what it costs, on a live
// machine: a private containerd, real runc, a network namespace of its own.
// Whatever it compares it measures in one run, turn by turn, and tells as a
// ratio: the machine's own speed cancels out. It changes nothing outside its
// own folder below /tmp and removes that when it ends.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	pods, starts, rounds int
	idle, calm           time.Duration
	only, bin, out       string
	widths               widths
}

// widths are how many bare pods are started at a time, to find what is best.
type widths []int

func (w *widths) String() string { return fmt.Sprint(*w) }

// Set takes a comma-separated list.
func (w *widths) Set(list string) error {
	*w = nil
	for word := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(word)
		if err != nil || n < 1 {
			return fmt.Errorf("%q is not a number of pods", word)
		}
		*w = append(*w, n)
	}
	return nil
}

func parse(args []string) (options, error) {
	o := options{widths: widths{1, 2, 4, 6, 8, 12}}
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	quick := fs.Bool("quick", false, "few and short: to see that it works, not to quote")
	fs.IntVar(&o.pods, "pods", 110, "`number` of pods of a full node")
	fs.IntVar(&o.starts, "starts", 30, "`number` of single starts, each beside a bare one")
	fs.IntVar(&o.rounds, "rounds", 3, "`number` of full nodes started, each beside a bare one")
	fs.Var(&o.widths, "widths", "how many bare pods to start at a `time` when looking for the best, comma-separated")
	fs.DurationVar(&o.idle, "idle", time.Minute, "how `long` to watch an idle agent")
	fs.DurationVar(&o.calm, "calm", 30*time.Second, "how `long` to wait for a quiet machine before each figure, at most")
	fs.StringVar(&o.only, "only", "", "`phases` to measure, comma-separated: start,restart,burst,rest,takeover (default all)")
	fs.StringVar(&o.bin, "bin", "bin", "`folder` with the binaries and images that make build leaves")
	fs.StringVar(&o.out, "out", "", "`file` for the table, beside the standard output")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if *quick {
		o.pods, o.starts, o.rounds, o.idle, o.calm = min(o.pods, 20), 5, 1, 10*time.Second, 3*time.Second
		o.widths = widths{4, 8}
	}
	var err error
	o.bin, err = filepath.Abs(o.bin)
	return o, err
}

// bench is one run.
type bench struct {
	opt   options
	node  *host
	bare  *bare
	calm  calm
	table table
}

// phase is one kind of figure. The pods that it leaves are the next one's.
type phase struct {
	name string
	do   func(context.Context) error
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	opt, err := parse(args)
	if err != nil {
		return err
	}
	b := &bench{opt: opt, calm: calm{limit: opt.calm}}
	if b.node, err = newHost(opt.bin); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.node.clean(context.WithoutCancel(ctx))) }()
	if err := b.node.start(ctx); err != nil {
		return err
	}
	if b.bare, err = newBare(ctx, b.node); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.bare.close(context.WithoutCancel(ctx))) }()
	b.table.begin(b.node)
	phases := []phase{
		{"start", b.startOneByOne}, {"restart", b.restartOneByOne}, {"", b.removeAll},
		{"burst", b.startAtOnce}, {"", b.removeAll},
		{"rest", b.restEmpty}, {"rest", b.restHalf}, {"rest", b.restFull},
		{"takeover", b.takeOver},
	}
	only := strings.Split(opt.only, ",")
	for _, p := range phases {
		if opt.only != "" && p.name != "" && !slices.Contains(only, p.name) {
			continue
		}
		if err := p.do(ctx); err != nil {
			return fmt.Errorf("measure %s: %w", p.name, err)
		}
	}
	return b.tell(out)
}

// tell prints the table, and writes it where -out says.
func (b *bench) tell(out io.Writer) error {
	text := b.table.markdown(b.calm)
	if _, err := io.WriteString(out, text); err != nil || b.opt.out == "" {
		return err
	}
	return os.WriteFile(b.opt.out, []byte(text), 0o644)
}

// note says on standard error how far the run is.
func note(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
}
