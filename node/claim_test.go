package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestClaim(t *testing.T) {
	dir := t.TempDir()
	config := func(root, run string) *Config {
		return &Config{Root: filepath.Join(dir, root), Run: filepath.Join(dir, run)}
	}
	first := config("a", "a-run")
	if err := os.MkdirAll(filepath.Join(first.Root, "images"), 0o755); err != nil { // prepared
		t.Fatal(err)
	}
	release, err := first.own()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := config("a", "a-run").own(); err == nil || !strings.Contains(err.Error(), "another agent") {
		t.Errorf("two agents in one folder: %v", err)
	}
	release()
	if release, err = config("a", "a-run").own(); err != nil {
		t.Fatalf("the next agent: %v", err)
	}
	release()
	full := filepath.Join(dir, "full")
	if err := os.MkdirAll(filepath.Join(full, "precious"), 0o755); err != nil {
		t.Fatal(err)
	}
	other := config("a", "a-run")
	other.CRIEndpoint = "unix:///run/x.sock"
	for say, c := range map[string]*Config{
		"belongs to the agent of --root " + first.Root: config("b", "a-run"),
		"was started with":     config("a", "b-run"),
		"run `pinnace cleanup": other,
		"holds precious":       config("full", "c-run"),
		"--run " + full:        config("c", "full"),
	} {
		if _, err := c.own(); err == nil || !strings.Contains(err.Error(), say) {
			t.Errorf("root %s, run %s: %v; want %q", c.Root, c.Run, err, say)
		}
	}
	if entries, _ := os.ReadDir(full); len(entries) != 1 {
		t.Errorf("a refused folder was written to: %v", entries)
	}
}

func TestCleanupReadsTheClaim(t *testing.T) {
	dir := t.TempDir()
	agent := &Config{
		Root: filepath.Join(dir, "root"), Run: filepath.Join(dir, "run"),
		CRIEndpoint: "unix:///run/x.sock", Network: "cni", CgroupRoot: "/pods",
	}
	release, err := agent.own()
	if err != nil {
		t.Fatal(err)
	}
	release()
	cleanup := &Config{Root: agent.Root, Run: "/run/pinnace"}
	was, err := cleanup.claimed()
	if err != nil {
		t.Fatal(err)
	}
	if cleanup.adopt(was); cleanup.claim() != agent.claim() {
		t.Errorf("cleanup would clean %+v, the agent was %+v", cleanup.claim(), agent.claim())
	}
	// A root that somebody emptied is known by the run folder.
	if err := os.RemoveAll(agent.Root); err != nil {
		t.Fatal(err)
	}
	emptied := &Config{Root: agent.Root, Run: agent.Run}
	if was, err := emptied.claimed(); err != nil || was != agent.claim() {
		t.Errorf("after the root was emptied: %+v, %v", was, err)
	}
	stranger := &Config{Root: filepath.Join(dir, "other"), Run: agent.Run}
	if _, err := stranger.claimed(); err == nil || !strings.Contains(err.Error(), agent.Root) {
		t.Errorf("another root with this run folder: %v", err)
	}
}
