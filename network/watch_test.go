package network

import (
	"context"
	"strings"
	"testing"
	"time"

	"pinnace/testenv/netns"
)

// TestWatchHeals: routes that somebody else flushes come back without a
// restart, as after systemd-networkd's own.
func TestWatchHeals(t *testing.T) {
	netns.Run(t, func(t *testing.T) {
		n, _ := serve(t, testConfig(t))
		add(t, n, "sandbox", netns.New(t, "pod"))
		before := kernel(t)
		for _, cmd := range []string{"ip route flush proto 112", "ip -6 route flush proto 112"} {
			args := strings.Fields(cmd)
			run(t, args[0], args[1:]...)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			tick := time.NewTicker(50 * time.Millisecond)
			for difference(before, kernel(t)) != "" && ctx.Err() == nil {
				select {
				case <-ctx.Done():
				case <-tick.C:
				}
			}
			tick.Stop()
			cancel()
			if diff := difference(before, kernel(t)); diff != "" {
				t.Errorf("ten seconds after %s:\n%s", cmd, diff)
			}
		}
	})
}
