package rule

import (
	"bytes"
	"context"
	"flag"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pinnace/testenv/netns"
)

var update = flag.Bool("update", false, "write the goldens anew")

// cases are the goldens' inputs; the file is named for the case.
func cases() map[string]Config {
	parse := func(all ...string) (out []netip.Prefix) {
		for _, s := range all {
			out = append(out, netip.MustParsePrefix(s))
		}
		return out
	}
	return map[string]Config{
		"ipv4":    {Instance: "p7f3a2c", Pods: parse("10.85.0.0/23")},
		"dual":    {Instance: "p7f3a2c", Pods: parse("10.85.0.0/23", "fd85::/64")},
		"cluster": {Instance: "a", Pods: parse("fd85:0:0:2::/64", "10.85.2.0/23"), Cluster: parse("10.85.0.0/16", "fd85::/48", "172.16.0.0/12")},
		"longest": {Instance: "abcdefgh", Pods: parse("10.85.0.0/30")},
	}
}

// text renders both families as a person would read them: the transaction,
// then the jumps as commands.
func text(cfg Config) string {
	var b strings.Builder
	for _, v4 := range []bool{true, false} {
		rs := compile(cfg, v4, masks{randomFully: true})
		b.WriteString("-- " + toolName(v4) + "-restore --noflush --\n" + rs.render())
		for _, j := range rs.jumps {
			spec := strings.Replace(strings.Join(j.spec(), " "), j.comment, `"`+j.comment+`"`, 1)
			b.WriteString("-- " + toolName(v4) + " --\n-t " + j.table + " -I " + j.from + " 1 " + spec + "\n")
		}
	}
	return b.String()
}

func TestGolden(t *testing.T) {
	for name, cfg := range cases() {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join("testdata", name+".txtar")
			got := text(cfg)
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("rendered\n%s\nwant\n%s", got, want)
			}
			for line := range strings.Lines(got) {
				if c, ok := strings.CutPrefix(line, ":"); ok && strings.Index(c, " ") > 28 {
					t.Errorf("chain name too long for iptables: %s", line)
				}
			}
		})
	}
}

// TestJudge lets the host's own tools read every golden, and asks that what
// they print back is what was written: else each start would write again.
func TestJudge(t *testing.T) {
	netns.Run(t, func(t *testing.T) {
		for name, cfg := range cases() {
			for _, v4 := range []bool{true, false} {
				f := open(t, v4)
				rs := compile(cfg, v4, masks{randomFully: true})
				cmd := exec.Command(f.tool+"-restore", "--test", "--noflush")
				cmd.Stdin = strings.NewReader(rs.render())
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("%s: %s refuses: %v: %s", name, f.tool, err, out)
				}
				for i, want := range []bool{len(rs.chains) > 0, false} {
					if changed, err := f.set(t.Context(), rs); err != nil || changed != want {
						t.Errorf("%s: %s: set %d changed something: %v, %v", name, f.tool, i, changed, err)
					}
				}
				if err := f.remove(everyRule(cfg.Instance, v4)); err != nil {
					t.Errorf("%s: %s: %v", name, f.tool, err)
				}
			}
		}
	})
}

// TestApply walks through configurations on top of rules of other people,
// and finds those alone in the end.
func TestApply(t *testing.T) {
	netns.Run(t, func(t *testing.T) {
		foreign := "*nat\n:PIN-other-POST - [0:0]\n-A POSTROUTING -m comment --comment \"pinnace other\" -j PIN-other-POST\nCOMMIT\n" +
			"*filter\n:FORWARD DROP [0:0]\n-A FORWARD -i docker0 -j ACCEPT\nCOMMIT\n"
		for _, tool := range []string{"iptables", "ip6tables"} {
			load(t, tool, foreign)
		}
		before := dump(t)
		all := cases()
		var log bytes.Buffer
		logger := slog.New(slog.NewTextHandler(&log, nil))
		for i, name := range []string{"dual", "dual", "ipv4", "dual"} {
			if err := Apply(t.Context(), all[name], logger); err != nil {
				t.Fatal(err)
			}
			got := dump(t)
			if has := strings.Contains(got, "-s fd85::/64 -g PIN-p7f3a2c-EGRESS"); has != (name == "dual") {
				t.Errorf("step %d, %s: IPv6 rules there: %v\n%s", i, name, has, got)
			}
			if n := strings.Count(got, "-j PIN-p7f3a2c-POST"); n != len(all[name].Pods) {
				t.Errorf("step %d, %s: %d jumps", i, name, n)
			}
			if !strings.HasPrefix(jumps(t), "-A FORWARD -m comment --comment \"pinnace p7f3a2c\" -j PIN-p7f3a2c-FWD") {
				t.Errorf("step %d: the jump is not first:\n%s", i, jumps(t))
			}
		}
		// first IPv4, first IPv6, and IPv6 again after it was removed
		if n := strings.Count(log.String(), "set rules"); n != 3 {
			t.Errorf("rules were set %d times, want 3:\n%s", n, &log)
		}
		for range 2 {
			if err := Remove("p7f3a2c", logger); err != nil {
				t.Fatal(err)
			}
		}
		if after := dump(t); after != before {
			t.Errorf("left behind\n%s\nwas before\n%s", after, before)
		}
	})
}

// TestHeal finds what somebody flushed, changed or half removed.
func TestHeal(t *testing.T) {
	netns.Run(t, func(t *testing.T) {
		cfg := cases()["dual"]
		apply := func() string {
			t.Helper()
			if err := Apply(t.Context(), cfg, slog.New(slog.DiscardHandler)); err != nil {
				t.Fatal(err)
			}
			return dump(t)
		}
		want := apply()
		for _, args := range []string{
			"-t nat -F", "-t nat -F PIN-p7f3a2c-EGRESS", "-F FORWARD", "-A PIN-p7f3a2c-FWD -j DROP",
			"-t nat -I PIN-p7f3a2c-POST 1 -j RETURN", "-D FORWARD 1",
		} {
			out, err := exec.Command("iptables", strings.Fields(args)...).CombinedOutput()
			if err != nil {
				t.Fatalf("iptables %s: %v: %s", args, err, out)
			}
			if dump(t) == want {
				t.Fatalf("iptables %s changed nothing", args)
			}
			if got := apply(); got != want {
				t.Errorf("after iptables %s:\n%s\nwant\n%s", args, got, want)
			}
		}
	})
}

func TestMissingTool(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	err := Apply(context.Background(), cases()["ipv4"], slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "find iptables") || !strings.Contains(err.Error(), "install the package iptables") {
		t.Errorf("without iptables: %v", err)
	}
	if err := Remove("p7f3a2c", slog.New(slog.DiscardHandler)); err != nil {
		t.Errorf("remove without iptables: %v", err)
	}
}

func open(t *testing.T, v4 bool) *filter {
	t.Helper()
	f, err := openFilter(v4)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func load(t *testing.T, tool, text string) {
	t.Helper()
	cmd := exec.Command(tool + "-restore")
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s-restore: %v: %s", tool, err, out)
	}
}

// dump is everything both tools show, without counters and comments.
func dump(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, tool := range []string{"iptables", "ip6tables"} {
		for _, table := range []string{"nat", "filter"} {
			out, err := exec.Command(tool, "-t", table, "-S").CombinedOutput()
			if err != nil {
				t.Fatalf("%s: %v: %s", tool, err, out)
			}
			lines := strings.Split(string(out), "\n")
			slices.Sort(lines) // chains come in the order of their creation
			b.WriteString(tool + " " + table + "\n" + strings.Join(lines, "\n") + "\n")
		}
	}
	return b.String()
}

func jumps(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("iptables", "-S", "FORWARD").CombinedOutput()
	if err != nil {
		t.Fatalf("iptables: %v: %s", err, out)
	}
	_, rules, _ := strings.Cut(string(out), "\n")
	return rules
}
