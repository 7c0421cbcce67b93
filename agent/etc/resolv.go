package etc

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxResolv bounds the file that is read.
const maxResolv = 64 << 10

// Resolv is a resolv.conf.
type Resolv struct {
	Servers, Searches, Options []string
}

// ParseResolv reads a resolv.conf as the resolver does: servers add up, the
// last search or domain line wins, of an option given twice the later counts.
// Lines that it does not know it passes over.
func ParseResolv(r io.Reader) (Resolv, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxResolv+1))
	if err != nil {
		return Resolv{}, fmt.Errorf("read resolv.conf: %w", err)
	}
	if len(text) > maxResolv {
		return Resolv{}, errors.New("read resolv.conf: longer than 64 KiB")
	}
	var out Resolv
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		switch words[0] {
		case "nameserver":
			if len(words) < 2 {
				return Resolv{}, fmt.Errorf("read resolv.conf: line %d: nameserver without an address", n)
			}
			out.Servers = append(out.Servers, words[1])
		case "search":
			out.Searches = domains(words[1:])
		case "domain":
			out.Searches = domains(words[1:min(2, len(words))])
		case "options":
			out.Options = setOptions(out.Options, words[1:])
		}
	}
	return out, nil
}

// domains spells search domains one way, without final dots; the root
// itself is not worth a search.
func domains(words []string) []string {
	var out []string
	for _, w := range words {
		if w = strings.TrimRight(w, "."); w != "" {
			out = append(out, w)
		}
	}
	return out
}

// setOptions adds options of the form name or name:value; one of the same
// name takes the place of the earlier.
func setOptions(options, more []string) []string {
	for _, o := range more {
		name, _, _ := strings.Cut(o, ":")
		set := false
		for i, old := range options {
			if oldName, _, _ := strings.Cut(old, ":"); oldName == name {
				options[i], set = o, true
			}
		}
		if !set {
			options = append(options, o)
		}
	}
	return options
}
