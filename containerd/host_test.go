package containerd

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/api/events"
	"github.com/containerd/containerd/api/types"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

func TestParseVersion(t *testing.T) {
	for text, want := range map[string]version{
		"containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u3\n": {1, 6},
		"containerd github.com/containerd/containerd v1.7.2 0cae528\n":                  {1, 7},
		"containerd github.com/containerd/containerd/v2 2.4.2 \n":                       {2, 4},
		"containerd containerd.io 2.10.0-rc.1 abc\n":                                    {2, 10},
	} {
		if got, err := parseVersion(text); err != nil || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "containerd", "runc version 1.1.5", "containerd x 1", "containerd x 99999.1.1 "} {
		if got, err := parseVersion(text); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func TestNewTellsWhatIsMissing(t *testing.T) {
	_, err := New(Config{Binary: filepath.Join(t.TempDir(), "containerd")})
	if err == nil || !strings.Contains(err.Error(), "find containerd") || !strings.Contains(err.Error(), "apt install") {
		t.Errorf("got %v", err)
	}
	if path, err := lookIn([]string{t.TempDir()}, "runc"); err == nil {
		t.Errorf("runc in an empty folder: %s", path)
	}
}

func TestCommand(t *testing.T) {
	d := &Daemon{cfg: Config{Root: "/r", Instance: "p1"}, binary: binary{Path: "/usr/bin/containerd"}}
	bare := []string{"/usr/bin/containerd", "--config", "/r/config.toml"}
	if got := d.command(false); !slices.Equal(got, bare) {
		t.Errorf("without systemd: %q", got)
	}
	got := d.command(true)
	if len(got) < 4 || got[0] != "systemd-run" || !slices.Equal(got[len(got)-4:], append([]string{"--"}, bare...)) {
		t.Errorf("with systemd: %q", got)
	}
	if i := slices.Index(got, "--unit"); i < 0 || !strings.HasPrefix(got[i+1], "pinnace-containerd-p1-") {
		t.Errorf("unit: %q", got)
	}
}

func TestSearchPath(t *testing.T) {
	t.Setenv("PATH", "/usr/bin:relative:/opt/x")
	got := searchPath("/opt/ctr/containerd")
	if got[0] != "/opt/ctr" || got[1] != "/usr/bin" || got[2] != "/opt/x" || slices.Contains(got, "relative") || !slices.Contains(got, "/usr/sbin") {
		t.Errorf("got %q", got)
	}
}

func TestLacksSysResource(t *testing.T) {
	for status, want := range map[string]bool{
		"Name:\tx\nCapEff:\t000001ffffffffff\n": false,
		"Name:\tx\nCapEff:\t000001fffeffffff\n": true,
		"CapEff:\t0000000000000000\n":           true,
		"CapEff:\tno number\n":                  false,
		"":                                      false,
	} {
		if got := lacksSysResource(status); got != want {
			t.Errorf("%q: %t", status, got)
		}
	}
}

func TestAdvice(t *testing.T) {
	runc := `rpc error: code = Unknown desc = failed to create containerd task: OCI runtime create failed: unable to start container process: can't get final child's PID from pipe: EOF: unknown`
	if got := Advice(runc); !strings.Contains(got, "restrict_oom_score_adj") {
		t.Errorf("got %q", got)
	}
	if got := Advice("no such image"); got != "" {
		t.Errorf("got %q", got)
	}
}

func TestParseStat(t *testing.T) {
	line := "42 (a) b (c) S 7 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 2"
	if got, err := parseStat(line); err != nil || got != (stat{"S", 7, 98765}) {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, bad := range []string{"", "42 (a", "42 (a) S 1 2"} {
		if got, err := parseStat(bad); err == nil {
			t.Errorf("%q: %+v", bad, got)
		}
	}
}

// A process is ended by its name for good: another start time is another one.
func TestProcess(t *testing.T) {
	cmd := exec.Command("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1000 & wait $!; done")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.SysProcAttr = ownGroup()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer killGroup(cmd.Process.Pid)
	if _, err := out.Read(make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	p, err := lookProcess(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := (process{p.PID, p.Start + 1}).end(t.Context(), time.Second); err != nil {
		t.Errorf("end one that is gone: %v", err)
	}
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := p.wait(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("wait on one that lives: %v", err)
	}
	if err := p.end(t.Context(), 50*time.Millisecond); err != nil { // it ignores SIGTERM
		t.Error(err)
	}
	if _, err := lookProcess(p.PID); !errors.Is(err, errGone) {
		t.Errorf("after its end: %v", err)
	}
}

func TestMountsBelow(t *testing.T) {
	const info = `1 0 0:1 / / rw - ext4 /dev/sda rw
2 1 0:2 / /srv/a rw - tmpfs tmpfs rw
3 2 0:3 / /srv/a/x rw - tmpfs tmpfs rw
4 2 0:4 / /srv/ab rw - tmpfs tmpfs rw
5 3 0:5 / /srv/a/x/with\040space\134 rw - tmpfs tmpfs rw
`
	if got, want := mountsBelow(info, "/srv/a"), []string{"/srv/a/x", `/srv/a/x/with space\`}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestShimSocket(t *testing.T) {
	for raw, want := range map[string]string{
		"unix:///run/containerd/s/abc":                                              "/run/containerd/s/abc",
		`{"version":3,"address":"unix:///run/containerd/s/abc","protocol":"ttrpc"}`: "/run/containerd/s/abc",
		"unix:///run/containerd/s/../../../etc/passwd":                              "",
		"/etc/passwd": "",
		"":            "",
	} {
		if got := shimSocket([]byte(raw)); got != want {
			t.Errorf("%q: %q, want %q", raw, got, want)
		}
	}
}

func TestOpenLogSetsBigOneAside(t *testing.T) {
	path := filepath.Join(t.TempDir(), "containerd.log")
	for round := range 2 {
		if err := os.WriteFile(path, bytes.Repeat([]byte("x\n"), logLimit/2+1), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := openLog(path)
		if err != nil {
			t.Fatal(err)
		}
		info, err := f.Stat()
		f.Close()
		if err != nil || info.Size() != 0 {
			t.Errorf("round %d: %d bytes, %v", round, info.Size(), err)
		}
	}
	if info, err := os.Stat(path + ".1"); err != nil || info.Size() <= logLimit {
		t.Errorf("set aside: %v", err)
	}
}

func TestLastLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if got := lastLines(path, 3); got != "" {
		t.Errorf("without a file: %q", got)
	}
	text := strings.Repeat("filler\n", 1000) + "one\ntwo\nthree\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := lastLines(path, 2); got != "two | three" {
		t.Errorf("got %q", got)
	}
}

func TestEnding(t *testing.T) {
	envelope := func(name string, m proto.Message) *types.Envelope {
		raw, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return &types.Envelope{Event: &anypb.Any{TypeUrl: name, Value: raw}}
	}
	for want, e := range map[string]*types.Envelope{
		"exit": envelope("containerd.events.TaskExit", &events.TaskExit{ContainerID: "exit", ID: "exit", Pid: 5}),
		"oom":  envelope("type.googleapis.com/containerd.events.TaskOOM", &events.TaskOOM{ContainerID: "oom"}),
		"":     envelope("containerd.events.TaskExit", &events.TaskExit{ContainerID: "exec", ID: "an-exec", Pid: 6}),
	} {
		if got := ending(e); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if got := ending(&types.Envelope{}); got != "" {
		t.Errorf("an empty event: %q", got)
	}
}

// FuzzRecord: whatever stands in the two record files, they are read as
// nothing or as what they say, and never believed beyond that.
func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"process":{"pid":7,"start":9},"boot":"b","binary":{"path":"/x"},"version":{"Major":2,"Minor":1},"config":"c"}`))
	f.Add([]byte(`{"process":{"pid":-1}}`))
	f.Add([]byte(`{"a.tar":{"size":1,"mtime":2,"images":{"x":"y"}}}`))
	f.Add([]byte(`null`))
	f.Add([]byte(`{"a.tar":nul`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if r := parseRecord(raw); r != (record{}) && r.Process.PID <= 1 {
			t.Errorf("believed pid %d", r.Process.PID)
		}
		for name, l := range parseLoaded(raw) {
			if l.covers(l, nil) {
				t.Errorf("%s: taken for loaded with nothing there", name)
			}
		}
	})
}

func FuzzParseStat(f *testing.F) {
	f.Add("1 (x) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 2")
	f.Add("1 ())) S")
	f.Fuzz(func(t *testing.T, line string) {
		if st, err := parseStat(line); err == nil && st.state == "" {
			t.Errorf("%q: no state", line)
		}
		mountsBelow(line, "/x")
		shimSocket([]byte(line))
	})
}
