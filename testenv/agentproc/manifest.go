package agentproc

import (
	"os"
	"path/filepath"
	"testing"
)

// Write puts a manifest into the folder in one step, by rename.
func (n *Node) Write(tb testing.TB, name, text string) {
	tb.Helper()
	tmp := filepath.Join(n.Dir, name+".new")
	if err := os.WriteFile(tmp, []byte(text), 0o644); err != nil {
		tb.Fatal(err)
	}
	if err := os.Rename(tmp, filepath.Join(n.Manifests, name)); err != nil {
		tb.Fatal(err)
	}
}

// Remove takes a manifest away.
func (n *Node) Remove(tb testing.TB, name string) {
	tb.Helper()
	if err := os.Remove(filepath.Join(n.Manifests, name)); err != nil {
		tb.Fatal(err)
	}
}
