package agent

import (
	"context"
	"errors"
	"testing"
)

// A full lane holds up its own kind only, and a place that is given back is free.
func TestLanesAreApart(t *testing.T) {
	l := newLanes(1)
	done, err := l.sandboxes.begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.containers.begin(t.Context()); err != nil {
		t.Errorf("a container waits for a sandbox: %v", err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.sandboxes.begin(over); !errors.Is(err, context.Canceled) {
		t.Errorf("a second sandbox began in a lane of one: %v", err)
	}
	done()
	if _, err := l.sandboxes.begin(t.Context()); err != nil {
		t.Errorf("the place was not given back: %v", err)
	}
}
