package agentproc

import (
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"
)

// stray is the id of something that the runtime no longer lists: the kernel
// takes its link and routes down in its own time.
var stray = regexp.MustCompile(`[0-9a-f]{64}`)

// restLimit bounds the wait for the kernel.
const restLimit = 10 * time.Second

// Rest is the inventory once nothing moves: the same three times in a row,
// without a file that is half written or a link that is on its way out. What
// does not come to rest in time is returned as it is, for the comparison to
// tell of it.
func (n *Node) Rest(tb testing.TB) Inventory {
	tb.Helper()
	last, same := n.Inventory(tb), 0
	_ = eventually(restLimit, func() error {
		now := n.Inventory(tb)
		same++
		if now.Diff(last) != "" || now.moving() {
			same = 0
		}
		if last = now; same < 2 {
			return errors.New("it moves")
		}
		return nil
	})
	return last
}

func (inv Inventory) moving() bool {
	for _, lines := range inv {
		for _, line := range lines {
			if stray.MatchString(line) || strings.HasSuffix(line, ".new") {
				return true
			}
		}
	}
	return false
}
