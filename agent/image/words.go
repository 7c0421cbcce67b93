package image

import (
	"fmt"
	"regexp"
	"strings"
)

// noise is what gRPC and the runtime put before the registry's own words.
// Every pattern is matched at the text's start, again and again.
var noise = []*regexp.Regexp{
	regexp.MustCompile(`^rpc error: code = \w+ desc = `),
	regexp.MustCompile(`^(failed to )?(look at|pull and unpack|pull|resolve|unpack) (image|reference) "?[^\s"]+"?: `),
	regexp.MustCompile(`^failed to (copy|do request|authorize|resolve image|fetch anonymous token|fetch oauth token): `),
}

// cause reduces a runtime's error about ref to what the registry, or the way
// to it, had to say.
func cause(ref string, err error) string {
	text := strings.TrimSpace(err.Error())
	for again := true; again; {
		again = false
		for _, re := range noise {
			if rest := text[len(re.FindString(text)):]; rest != text && rest != "" {
				text, again = rest, true
			}
		}
		// containerd's "not found" names the image once more.
		if head, rest, ok := strings.Cut(text, ": "); ok && rest != "" && strings.HasSuffix(head, ref) && !strings.Contains(head, " ") {
			text, again = rest, true
		}
	}
	return text
}

// pullError puts a failed pull into words. problem is what was wrong with
// the credentials file, "" if nothing: a pull that worked without it does
// not need to mention it.
func pullError(ref, full string, err error, problem string) *Error {
	text, reason := cause(full, err), ErrImagePull
	if rest, ok := strings.CutPrefix(text, RegistryUnavailable); ok {
		reason = RegistryUnavailable
		text = "the registry is unavailable" + rest
	}
	msg := fmt.Sprintf("pull image %q: %s", ref, text)
	if problem != "" {
		msg += " (" + problem + ")"
	}
	return &Error{reason, msg, err}
}
