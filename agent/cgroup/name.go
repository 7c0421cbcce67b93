package cgroup

import (
	"path"
	"strconv"
	"strings"
)

const podPrefix = "pod"

// escape makes a word fit for a slice's name, where a dash means nesting.
func escape(word string) string { return strings.ReplaceAll(word, "-", "_") }

// unescape is its inverse for pod UIDs, which have no underscores.
func unescape(word string) string { return strings.ReplaceAll(word, "_", "-") }

// slice is the systemd unit of a cgroup given by its parts: {"a", "b"} is
// "a-b.slice", which systemd keeps at a.slice/a-b.slice.
func slice(parts ...string) string {
	return strings.ReplaceAll(escape(strings.Join(parts, "/")), "/", "-") + ".slice"
}

// parts splits the configured root, "/a/b" into {"a", "b"}.
func parts(root string) []string {
	return strings.Split(strings.Trim(path.Clean("/"+root), "/"), "/")
}

// uidOf reads a pod's UID back from the name of its directory below the root.
func (t *Tree) uidOf(name string) (string, bool) {
	if !t.cfg.Systemd {
		uid, ok := strings.CutPrefix(name, podPrefix)
		return uid, ok && uid != ""
	}
	prefix := strings.TrimSuffix(slice(parts(t.cfg.Root)...), ".slice") + "-" + podPrefix
	rest, ok := strings.CutPrefix(name, prefix)
	uid, isSlice := strings.CutSuffix(rest, ".slice")
	return unescape(uid), ok && isSlice && uid != ""
}

// pageSize writes a huge page's size as the kernel names its files.
func pageSize(bytes int64) string {
	switch {
	case bytes >= 1<<30:
		return strconv.FormatInt(bytes>>30, 10) + "GB"
	case bytes >= 1<<20:
		return strconv.FormatInt(bytes>>20, 10) + "MB"
	}
	return strconv.FormatInt(bytes>>10, 10) + "KB"
}
