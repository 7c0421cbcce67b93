package logs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

const ts = "2030-01-02T03:04:05.123456789Z"

func record(stream, tag, text string) string {
	return ts + " " + stream + " " + tag + " " + text + "\n"
}

func logFile(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "0.log")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTail(t *testing.T) {
	long := strings.Repeat("x", 16<<10)
	var many strings.Builder
	for i := range 5000 {
		many.WriteString(record("stdout", "F", fmt.Sprintf("line %d", i)))
	}
	for _, c := range []struct {
		name, log string
		n         int
		limit     int64
		want      string
	}{
		{"empty", "", 5, 100, ""},
		{"fewer lines than asked", record("stdout", "F", "a"), 5, 100, "a\n"},
		{"last lines of both streams", record("stdout", "F", "a") + record("stderr", "F", "b") + record("stdout", "F", "c"), 2, 100, "b\nc\n"},
		{"empty lines count", record("stdout", "F", "a") + record("stdout", "F", "") + record("stdout", "F", ""), 2, 100, "\n\n"},
		{"parts are one line", record("stdout", "F", "a") + record("stdout", "P", "b1 ") + record("stdout", "P", "b2 ") + record("stdout", "F", "b3"), 1, 100, "b1 b2 b3\n"},
		{"parts stay together", record("stdout", "P", "out1 ") + record("stderr", "F", "err") + record("stdout", "F", "out2"), 5, 100, "err\nout1 out2\n"},
		{"died in mid-line", record("stdout", "F", "a") + record("stdout", "P", "half"), 5, 100, "a\nhalf"},
		{"died in mid-record", record("stdout", "F", "a") + ts + " std", 5, 100, "a\n"},
		{"no newline at the end", strings.TrimSuffix(record("stdout", "F", "a"), "\n"), 5, 100, "a\n"},
		{"further tags", record("stdout", "F:x", "a"), 5, 100, "a\n"},
		{"spaces are text", record("stdout", "F", "  a  b "), 5, 100, "  a  b \n"},
		{"foreign lines are left out", "hello\n" + record("stdout", "F", "a") + record("stdin", "F", "b") + record("stdout", "Q", "c") + "\n", 5, 100, "a\n"},
		{"limit cuts the front", record("stdout", "F", "abcdef"), 5, 4, "def\n"},
		{"limit keeps characters whole", record("stdout", "F", "ää"), 5, 4, "ä\n"},
		{"beyond the first window", many.String(), 2000, 1 << 20, strings.Join(linesFrom(3000, 5000), "")},
		{"a line longer than a window", record("stdout", "P", long) + record("stdout", "P", long) + record("stdout", "F", "end"), 1, 1 << 20, long + long + "end\n"},
		{"nothing asked", record("stdout", "F", "a"), 0, 100, ""},
	} {
		got, err := Tail(logFile(t, c.log), c.n, c.limit)
		if err != nil || string(got) != c.want {
			t.Errorf("%s: %d bytes %.80q, %v; want %d bytes %.80q", c.name, len(got), got, err, len(c.want), c.want)
		}
	}
	if _, err := Tail(filepath.Join(t.TempDir(), "none"), 1, 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent file: %v", err)
	}
}

func linesFrom(from, to int) []string {
	var out []string
	for i := from; i < to; i++ {
		out = append(out, fmt.Sprintf("line %d\n", i))
	}
	return out
}

func FuzzTail(f *testing.F) {
	f.Add([]byte(record("stdout", "F", "a")+record("stderr", "P", "b")), 2, int64(10))
	f.Add([]byte(ts+" stdout F"), 1, int64(1))
	f.Add([]byte("\n\n \xff stdout P: \xff"), 80, int64(2048))
	f.Fuzz(func(t *testing.T, raw []byte, n int, limit int64) {
		got, err := Tail(logFile(t, string(raw)), n, limit)
		if err != nil {
			t.Fatal(err)
		}
		if int64(len(got)) > max(0, limit) {
			t.Errorf("%d bytes, limit %d", len(got), limit)
		}
		if lines := bytes.Count(bytes.TrimSuffix(got, []byte("\n")), []byte("\n")); len(got) > 0 && lines >= n {
			t.Errorf("%d lines, asked for %d", lines+1, n)
		}
		if utf8.Valid(raw) && !utf8.Valid(got) {
			t.Error("a character was cut")
		}
	})
}
