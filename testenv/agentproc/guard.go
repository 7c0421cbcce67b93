package agentproc

import (
	"os/exec"
	"syscall"
	"testing"
)

// guard starts a process that cleans up after a test process that was killed
// (a panic, a timeout) and had no chance to. It stays in the test's
// namespaces, so that they last until all is clean.
func guard(tb testing.TB, n *Node) {
	tb.Helper()
	cmd := exec.Command("/bin/sh", append([]string{"-c", guardScript, n.Dir, binary("pinnace")}, n.args("cleanup")...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	alive, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { // registered first, so it is the last
		alive.Close()
		if err := cmd.Wait(); err != nil {
			tb.Errorf("guard of %s: %v", n.Dir, err)
		}
	})
}

// guardScript waits for the end of its input. It knows processes by the
// folder in their command line, and what runs in containers by its parent.
const guardScript = `
read -r _
[ -d "$0" ] || exit 0
mine() {
	for p in $(grep -l -a -F -e "$0/" /proc/[0-9]*/cmdline 2>/dev/null); do
		p=${p%/cmdline} p=${p#/proc/}
		[ "$p" = "$$" ] || echo "$p"
	done
}
for p in $(mine); do
	case $(tr '\0' ' ' <"/proc/$p/cmdline") in *"/pinnace agent "*) kill -9 "$p" ;; esac
done
timeout 60 "$@" >/dev/null 2>&1
for round in 1 2; do
	for p in $(mine); do
		kill -9 $(cat "/proc/$p"/task/*/children 2>/dev/null) "$p" 2>/dev/null
	done
done
awk -v d="$0/" 'index($5, d) == 1 { print $5 }' /proc/self/mountinfo | sort -r | while read -r m; do umount -l "$m"; done
rm -rf --one-file-system "$0"
`
