package node

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.yaml")
	text := "root: /srv/p\nnode-name: from-file\npod-cidr: [10.9.0.0/24, \"fd09::/64\"]\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := parse("pinnace agent", []string{"--config", file, "--node-name", "from-flag"}, &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	if c.Root != "/srv/p" || c.NodeName != "from-flag" || c.Pods.String() != "10.9.0.0/24,fd09::/64" || c.Run != "/run/pinnace" {
		t.Errorf("parsed %+v", c)
	}
}

func TestParseRefuses(t *testing.T) {
	dir := t.TempDir()
	file := func(text string) string {
		f := filepath.Join(dir, strconv.Itoa(len(text))+"c.yaml")
		if err := os.WriteFile(f, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return f
	}
	for _, tc := range []struct {
		args []string
		say  []string // all of them
	}{
		{[]string{"--root", "relative"}, []string{"--root", "absolute"}},
		{[]string{"--root", "/"}, []string{"--root"}},
		{[]string{"--run", "/" + strings.Repeat("x", 80)}, []string{"--run", "sockets"}},
		{[]string{"--node-name", "Not_A_Name"}, []string{"--node-name", "Not_A_Name"}},
		{[]string{"--pod-cidr", "10.0.0.0"}, []string{"pod-cidr", "10.0.0.0"}},
		{[]string{"--network", "calico"}, []string{"--network", "pinnace or cni"}},
		{[]string{"--network", "cni"}, []string{"--network cni", "--cri-endpoint"}},
		{[]string{"--cri-endpoint", "/run/x.sock"}, []string{"--cri-endpoint", "unix:///"}},
		{[]string{"--cgroup-root", "a/b"}, []string{"--cgroup-root"}},
		{[]string{"--log-level", "loud"}, []string{"--log-level", "debug"}},
		{[]string{"--root", "relative", "--network", "x"}, []string{"--root", "--network"}},
		{[]string{"--nonsense"}, []string{"nonsense"}},
		{[]string{"extra"}, []string{"extra"}},
		{[]string{"--config", "/nonexistent"}, []string{"read config", "/nonexistent"}},
		{[]string{"--config", file("rooot: /x\n")}, []string{"c.yaml", "rooot", "no such key"}},
		{[]string{"--config", file("root: [\n")}, []string{"c.yaml"}},
	} {
		_, err := parse("pinnace agent", tc.args, &bytes.Buffer{})
		if err == nil {
			t.Errorf("%v: accepted", tc.args)
			continue
		}
		for _, want := range tc.say {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%v: %q does not say %q", tc.args, err, want)
			}
		}
	}
}

func TestInstance(t *testing.T) {
	id := (&Config{Root: "/var/lib/pinnace"}).Instance()
	if len(id) != 7 || id != (&Config{Root: "/var/lib/pinnace/"}).Instance() {
		t.Errorf("instance %q, or another one with a slash", id)
	}
	if id == (&Config{Root: "/srv/other"}).Instance() {
		t.Error("two roots have one instance")
	}
}

func TestMain_commands(t *testing.T) {
	for _, tc := range []struct {
		args string
		code int
		say  string
	}{
		{"", 0, "pinnace agent"},
		{"--help", 0, "pinnace cleanup"},
		{"version", 0, "pinnace "},
		{"agent --help", 0, "--manifests DIR"},
		{"agent --root x", 2, "absolute"},
		{"dance", 2, `no command "dance"`},
		{"status --run /nonexistent", 1, "is the agent running"},
		{"status -o xml", 2, "must be json"},
	} {
		var out bytes.Buffer
		if code := Main(context.Background(), strings.Fields(tc.args), &out, &out); code != tc.code || !strings.Contains(out.String(), tc.say) {
			t.Errorf("pinnace %s: code %d, want %d; output lacks %q:\n%s", tc.args, code, tc.code, tc.say, out.String())
		}
	}
}

// FuzzConfigFile: a config file may be refused, and must not crash.
func FuzzConfigFile(f *testing.F) {
	f.Add("root: /srv\npod-cidr: [10.0.0.0/8]\n")
	f.Add("root: {a: b}\n")
	f.Add("- x\n")
	f.Fuzz(func(t *testing.T, text string) {
		file := filepath.Join(t.TempDir(), "c.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := parse("pinnace agent", []string{"--config", file}, &bytes.Buffer{})
		if (c == nil) == (err == nil) && err == nil {
			t.Error("neither a configuration nor an error")
		}
	})
}
