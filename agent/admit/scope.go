package admit

import (
	"fmt"
	"strings"
)

// Scope writes the table for readers: a Markdown list per verdict. The
// documentation holds it verbatim, and a test compares.
func Scope() string {
	titles := []struct {
		verdict Verdict
		title   string
	}{
		{Honoured, "Honoured: does what the Kubernetes API documents"},
		{Harmless, "Harmless: nothing here for it to act on"},
		{Warned, "Accepted with a warning: has no effect"},
		{Refused, "Refused: the file's verdict says so"},
	}
	var b strings.Builder
	b.WriteString("Init containers are judged as containers. `[]` stands for each item of a list, `{}` for each value of a map.\n")
	for _, t := range titles {
		fmt.Fprintf(&b, "\n### %s\n\n", t.title)
		for _, r := range Rules() {
			if r.Verdict != t.verdict {
				continue
			}
			fmt.Fprintf(&b, "- `%s`", r.Path)
			if r.Case != "" {
				fmt.Fprintf(&b, " (%s)", r.Case)
			}
			if r.Says != "" {
				fmt.Fprintf(&b, ": %s", r.Says)
			}
			b.WriteByte('\n')
		}
	}
	return b.String()
}
