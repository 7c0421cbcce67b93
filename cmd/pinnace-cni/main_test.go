package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	good := `{"cniVersion":"1.0.0","name":"pinnace","type":"pinnace-cni","socket":"/nowhere/net.sock"}`
	for name, c := range map[string]struct {
		argv0, command, stdin string
		exit                  int
		want                  string
	}{
		"no configuration":   {"pinnace-cni", "ADD", "", 1, `"code":6`},
		"no socket":          {"pinnace-cni", "ADD", `{"cniVersion":"1.0.0"}`, 1, `"code":7`},
		"another version":    {"pinnace-cni", "ADD", `{"cniVersion":"1.1.0","socket":"/x"}`, 1, `"code":1`},
		"unknown command":    {"pinnace-cni", "MEND", good, 1, `"code":4`},
		"endless":            {"pinnace-cni", "ADD", strings.Repeat(" ", stdinLimit+1), 1, "longer than"},
		"no namespace":       {"pinnace-cni", "ADD", good, 1, `"code":4`},
		"DEL, nobody there":  {"pinnace-cni", "DEL", good, 0, ""},
		"DEL, broken":        {"pinnace-cni", "DEL", "{", 0, ""},
		"DEL, old version":   {"pinnace-cni", "DEL", `{"cniVersion":"0.1.0"}`, 0, ""},
		"STATUS":             {"pinnace-cni", "STATUS", good, 1, `"code":50`},
		"CHECK":              {"pinnace-cni", "CHECK", good, 0, ""},
		"VERSION":            {"pinnace-cni", "VERSION", "", 0, `"supportedVersions":["1.0.0"]`},
		"loopback":           {"loopback", "ADD", `{"cniVersion":"1.0.0"}`, 0, `"name":"lo"`},
		"loopback, DEL":      {"loopback", "DEL", `{"cniVersion":"0.3.1"}`, 0, ""},
		"loopback, ancient":  {"loopback", "ADD", `{"cniVersion":"0.1.0"}`, 1, `"code":1`},
		"loopback, versions": {"loopback", "VERSION", "", 0, `"0.3.1"`},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			exit := run(c.argv0, environment{Command: c.command, Container: "a", Netns: "/nowhere/ns", IfName: "eth0"},
				strings.NewReader(c.stdin), &out)
			if exit != c.exit || !strings.Contains(out.String(), c.want) || c.want == "" && out.Len() > 0 {
				t.Errorf("exit %d, wrote %s; want %d and %q", exit, &out, c.exit, c.want)
			}
		})
	}
}

func FuzzStdin(f *testing.F) {
	f.Add("ADD", []byte(`{"cniVersion":"1.0.0","socket":"/nowhere"}`))
	f.Add("DEL", []byte(`{"cniVersion":"1.0.0","socket":"/nowhere","x":[{}]}`))
	f.Add("CHECK", []byte(`[1,2]`))
	f.Add("", []byte("\xff"))
	f.Fuzz(func(t *testing.T, command string, stdin []byte) {
		if bytes.Contains(stdin, []byte("/")) && !bytes.Contains(stdin, []byte("/nowhere")) {
			t.Skip("might name a real socket")
		}
		for _, argv0 := range []string{"pinnace-cni", "loopback"} {
			var out bytes.Buffer
			exit := run(argv0, environment{Command: command, Netns: "/nowhere/ns"}, bytes.NewReader(stdin), &out)
			if exit != 0 && exit != 1 {
				t.Errorf("exit %d", exit)
			}
			if command == "DEL" && (exit != 0 || out.Len() > 0) {
				t.Errorf("DEL: exit %d, wrote %s", exit, &out)
			}
			if out.Len() > 0 && !json.Valid(out.Bytes()) {
				t.Errorf("wrote no JSON: %s", &out)
			}
		}
	})
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"failed":false,"output":{"ips":[]}}`))
	f.Add([]byte(`{"failed":true,"output":{"cniVersion":"1.0.0","code":100,"msg":"no"}}`))
	f.Add([]byte(`{"failed":true}`))
	f.Add([]byte(``))
	f.Fuzz(func(t *testing.T, raw []byte) {
		out, err := parseAnswer(raw)
		if err == nil && len(out) > 0 && !json.Valid(out) {
			t.Errorf("passes on no JSON: %s", out)
		}
		if err != nil && err.Error() == "" && !bytes.Contains(raw, []byte("code")) {
			t.Errorf("an error without words for %s", raw)
		}
	})
}
