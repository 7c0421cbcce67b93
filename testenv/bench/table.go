package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// series is measured times, in milliseconds.
type series []float64

func (s *series) add(d time.Duration) { *s = append(*s, float64(d)/float64(time.Millisecond)) }

// at is the value below which such a part of the series lies.
func (s series) at(part float64) float64 {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s))
	place := part * float64(len(sorted)-1)
	low := int(place)
	high := min(low+1, len(sorted)-1)
	return sorted[low] + (place-float64(low))*(sorted[high]-sorted[low])
}

func (s series) median() float64 { return s.at(0.5) }

func (s series) String() string {
	if len(s) < 10 {
		return fmt.Sprintf("%.0f ms (%.0f to %.0f, n=%d)", s.median(), s.at(0), s.at(1), len(s))
	}
	return fmt.Sprintf("%.0f ms (p10 %.0f, p90 %.0f, n=%d)", s.median(), s.at(0.1), s.at(0.9), len(s))
}

// table is what the run tells in the end.
type table struct {
	head  string
	rows  []string
	notes []string
}

// begin notes what machine this is.
func (t *table) begin(n *host) {
	var uts unix.Utsname
	kernel := "unknown"
	if unix.Uname(&uts) == nil {
		kernel = unix.ByteSliceToString(uts.Release[:])
	}
	t.head = fmt.Sprintf("%s. %d cores, Linux %s, %s, %s. Load when begun: %s.\n\n",
		time.Now().UTC().Format("2006-01-02"), runtime.NumCPU(), kernel,
		version("containerd"), version("runc"), load())
}

// version is the first line that a program says about its version.
func version(name string) string {
	path, err := exec.LookPath(name)
	if err != nil {
		path = filepath.Join("/usr/sbin", name)
	}
	out, err := exec.Command(path, "--version").Output()
	if err != nil {
		return name + " unknown"
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.ReplaceAll(line, "version ", "")
}

func load() string {
	raw, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(raw))[:3], " ")
}

// figure is one line of the table: what was measured, what beside it for
// comparison, what came out, and whether that is what it should be.
type figure struct {
	what, beside, measured, target string
	reached                        bool
}

func (t *table) row(f figure) {
	verdict := "**missed**"
	if f.reached {
		verdict = "reached"
	}
	note("%s: %s (%s): %s", f.what, f.measured, f.target, verdict)
	t.rows = append(t.rows, fmt.Sprintf("| %s | %s | %s | %s | %s |\n", f.what, f.beside, f.measured, f.target, verdict))
}

func (t *table) markdown(c calm) string {
	var b strings.Builder
	b.WriteString(t.head)
	b.WriteString("| what | beside it | measured | target | verdict |\n|---|---|---|---|---|\n")
	for _, r := range t.rows {
		b.WriteString(r)
	}
	for _, n := range t.notes {
		b.WriteString("\n" + n + "\n")
	}
	fmt.Fprintf(&b, "\nWaited %d times for a quiet machine, %d times in vain. Load in the end: %s.\n", c.waits, c.vain, load())
	return b.String()
}
