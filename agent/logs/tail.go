package logs

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"unicode/utf8"
)

// maxWindow bounds how much of a log's end is read at all.
const maxWindow = 1 << 20

// Tail returns the text of the last n lines of a log in CRI format, both
// streams as they were written, and of that no more than the last limit
// bytes. Lines that the runtime wrote in parts are joined; what is not in
// the format is left out.
func Tail(path string, n int, limit int64) ([]byte, error) {
	text, err := tail(path, n, limit)
	if err != nil {
		return nil, fmt.Errorf("read end of log: %w", err)
	}
	return text, nil
}

func tail(path string, n int, limit int64) ([]byte, error) {
	if n <= 0 || limit <= 0 {
		return nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	for window := int64(16 << 10); ; window *= 2 {
		window = min(window, st.Size(), maxWindow)
		raw := make([]byte, window)
		got, err := f.ReadAt(raw, st.Size()-window)
		if err != nil && err != io.EOF { // EOF: somebody cut the file meanwhile
			return nil, err
		}
		raw = raw[:got]
		whole := window == st.Size()
		if !whole { // the first record is cut
			raw = raw[bytes.IndexByte(raw, '\n')+1:]
		}
		text, sure := lastLines(raw, n)
		if sure || whole || window == maxWindow || int64(len(text)) > limit {
			return lastBytes(text, limit), nil
		}
	}
}

// lastLines parses records and returns the text of the last n lines. A line
// is complete with its record of tag F, or where the log ends; parts of one
// stream's line are kept together whatever the other stream says in between.
// It is sure of them when none is the first of its stream, whose beginning
// may lie before raw.
func lastLines(raw []byte, n int) (text []byte, sure bool) {
	var done [][]byte
	pending, first := map[string][]byte{}, map[string]int{}
	finish := func(stream string, line []byte) {
		if _, seen := first[stream]; !seen {
			first[stream] = len(done)
		}
		done = append(done, line)
		delete(pending, stream)
	}
	for record := range bytes.Lines(raw) {
		stream, partial, content, ok := parse(record)
		if !ok {
			continue
		}
		line := append(pending[stream], content...)
		if partial {
			pending[stream] = line
		} else {
			finish(stream, append(line, '\n'))
		}
	}
	for _, stream := range []string{"stdout", "stderr"} {
		if line, ok := pending[stream]; ok {
			finish(stream, line)
		}
	}
	from := max(0, len(done)-n)
	sure = from > 0
	for _, i := range first {
		sure = sure && i < from
	}
	return bytes.Join(done[from:], nil), sure
}

// parse takes a record apart: "<RFC 3339 time> <stdout|stderr> <tags> <text>".
// Tags are separated by colons, the first one says whether the line is
// partial (P) or full (F).
func parse(record []byte) (stream string, partial bool, text []byte, ok bool) {
	record, _ = bytes.CutSuffix(record, []byte("\n"))
	when, rest, ok1 := bytes.Cut(record, []byte(" "))
	name, rest, ok2 := bytes.Cut(rest, []byte(" "))
	tags, text, ok3 := bytes.Cut(rest, []byte(" "))
	if !ok1 || !ok2 || !ok3 || len(when) == 0 {
		return "", false, nil, false
	}
	tag, _, _ := bytes.Cut(tags, []byte(":"))
	stream = string(name)
	switch {
	case stream != "stdout" && stream != "stderr":
		return "", false, nil, false
	case string(tag) == "P":
		return stream, true, text, true
	case string(tag) == "F":
		return stream, false, text, true
	}
	return "", false, nil, false
}

// lastBytes cuts text from the front to limit, and on to where a character
// starts.
func lastBytes(text []byte, limit int64) []byte {
	if int64(len(text)) <= limit {
		return text
	}
	text = text[int64(len(text))-limit:]
	for i := 0; i < min(len(text), utf8.UTFMax); i++ {
		if utf8.RuneStart(text[i]) {
			return text[i:]
		}
	}
	return text
}
