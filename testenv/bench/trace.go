package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// mark is a place in the agent's log.
func (n *host) mark() (int64, error) {
	fi, err := os.Stat(n.log.Name())
	if err != nil {
		return 0, err
	}
	return fi.Size(), nil
}

// trace tells where the time of the starts since mark went: the agent logs a
// line per pod with the length of each phase.
func (b *bench) trace(mark int64, when string) error {
	f, err := os.Open(b.node.log.Name())
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Seek(mark, io.SeekStart); err != nil {
		return err
	}
	phases := []string{"queued", "sandbox", "image", "create", "start", "total"}
	times := map[string]*series{}
	for _, p := range phases {
		times[p] = &series{}
	}
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		if !strings.Contains(sc.Text(), `msg="the pod runs"`) {
			continue
		}
		for _, word := range strings.Fields(sc.Text()) {
			key, value, _ := strings.Cut(word, "=")
			d, err := time.ParseDuration(value)
			if s := times[key]; s != nil && err == nil {
				s.add(d)
			}
		}
	}
	words := []string{}
	for _, p := range phases {
		words = append(words, fmt.Sprintf("%s %.1f", p, times[p].median()))
	}
	b.table.notes = append(b.table.notes, fmt.Sprintf("The agent's own trace, %s (medians in ms of %d pods; the image is looked for while the sandbox is made): %s.",
		when, len(*times["total"]), strings.Join(words, ", ")))
	return sc.Err()
}

// pluginOf makes of a CNI configuration list what the runtime hands to its
// first plugin.
func pluginOf(list []byte) ([]byte, error) {
	var l struct {
		Version string           `json:"cniVersion"`
		Name    string           `json:"name"`
		Plugins []map[string]any `json:"plugins"`
	}
	if err := json.Unmarshal(list, &l); err != nil || len(l.Plugins) == 0 {
		return nil, fmt.Errorf("read CNI configuration: %w", err)
	}
	l.Plugins[0]["cniVersion"], l.Plugins[0]["name"] = l.Version, l.Name
	return json.Marshal(l.Plugins[0])
}
