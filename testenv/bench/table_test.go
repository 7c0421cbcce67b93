package main

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestSeries(t *testing.T) {
	var s series
	if got := s.median(); got != 0 {
		t.Errorf("median of nothing: %v", got)
	}
	for _, ms := range []int{40, 10, 30, 20} {
		s.add(time.Duration(ms) * time.Millisecond)
	}
	for part, want := range map[float64]float64{0: 10, 0.5: 25, 0.9: 37, 1: 40} {
		if got := s.at(part); math.Abs(got-want) > 1e-9 {
			t.Errorf("at %v: %v, want %v", part, got, want)
		}
	}
}

func TestTraceReadsTheAgentsLog(t *testing.T) {
	log, err := os.Create(filepath.Join(t.TempDir(), "agent.log"))
	if err != nil {
		t.Fatal(err)
	}
	log.WriteString("time=x msg=\"the pod runs\" queued=9s total=9s\n")
	b := &bench{node: &host{log: log}}
	mark, err := b.node.mark()
	if err != nil {
		t.Fatal(err)
	}
	log.WriteString(`time=x level=INFO msg="the pod runs" pod=default/a queued=2ms sandbox=- start=1.5s total=1.6s
time=x level=INFO msg="started a container" pod=default/a start=7s
time=x level=INFO msg="the pod runs" pod=default/b queued=4ms sandbox=100ms start=1.5s total=1.7s
`)
	if err := b.trace(mark, "in a test"); err != nil {
		t.Fatal(err)
	}
	want := "medians in ms of 2 pods; the image is looked for while the sandbox is made): queued 3.0, sandbox 100.0, image 0.0, create 0.0, start 1500.0, total 1650.0."
	if got := strings.Join(b.table.notes, ""); !strings.Contains(got, want) {
		t.Errorf("trace says %q, want %q in it", got, want)
	}
}
