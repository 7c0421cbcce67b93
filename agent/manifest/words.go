package manifest

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// words says a validation's finding as a person would; the field's path
// stands before it.
func words(e *field.Error) string {
	e = &field.Error{Type: e.Type, Field: e.Field, BadValue: e.BadValue, Detail: pattern.ReplaceAllString(e.Detail, "")}
	body := e.ErrorBody()
	switch e.Type {
	case field.ErrorTypeForbidden:
		return e.Detail
	case field.ErrorTypeRequired:
		if e.Detail == "" {
			return "is missing"
		}
		return "is missing: " + e.Detail
	case field.ErrorTypeInvalid, field.ErrorTypeTypeInvalid:
		value, ok := strings.CutSuffix(strings.TrimPrefix(body, e.Type.String()+": "), ": "+e.Detail)
		if ok {
			return fmt.Sprintf("%s is not valid: %s", value, e.Detail)
		}
	case field.ErrorTypeNotSupported:
		return fmt.Sprintf("%q is not known here: %s", fmt.Sprint(e.BadValue), e.Detail)
	case field.ErrorTypeNotFound:
		return fmt.Sprintf("%q does not exist in this pod", fmt.Sprint(e.BadValue))
	case field.ErrorTypeDuplicate:
		return fmt.Sprintf("%q is given twice", fmt.Sprint(e.BadValue))
	}
	return body
}

var (
	// pattern is the part of a validation's sentence that no operator reads.
	pattern  = regexp.MustCompile(`, regex used for validation is '[^']*'`)
	yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)
	tabbed   = regexp.MustCompile(`(?m)^ *\t`)
	control  = regexp.MustCompile(`[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]`)
	unknown  = regexp.MustCompile(`unknown anchor '(.*)' referenced`)
)

// meant translates the YAML scanner's complaints. The first match counts.
var meant = []struct{ says, means string }{
	{"cannot start any token", "text that begins with @, ` or % needs quotes"},
	{"mapping values are not allowed", "a wrong indentation, or a second \": \" on one line; text with a colon needs quotes"},
	{"did not find expected key", "the indentation does not fit the lines above"},
	{"could not find expected ':'", "a line without its colon, or a wrong indentation"},
	{"did not find expected '-' indicator", "the items of a list do not line up"},
	{"did not find expected ',' or", "a [ or { is not closed"},
	{"did not find expected node content", "a value is missing between [ ] or { }"},
	{"found unexpected end of stream", "a quote is not closed"},
	{"found unknown escape character", "a \\ between double quotes begins an escape; use single quotes"},
	{"unknown anchor", "the alias names an anchor that is not there"},
	{"did not find expected <document start>", "a second document needs a line with ---"},
}

// syntax turns an error of the YAML scanner into a problem. The scanner counts
// lines roughly, or not at all; what can be found for sure is looked for.
func syntax(err error, text []byte) *Problem {
	says := err.Error()
	p := Problem{Line: 1}
	if m := yamlLine.FindStringSubmatch(says); m != nil {
		if n, err := strconv.Atoi(m[1]); err == nil {
			p.Line = min(max(n, 1), bytes.Count(text, []byte("\n"))+1)
		}
		says = says[len(m[0]):]
	}
	p.Reason = "is not YAML: " + says
	for _, m := range meant {
		if strings.Contains(says, m.says) {
			p.Reason = fmt.Sprintf("is not YAML: %s (%s)", m.means, says)
			break
		}
	}
	at := -1
	if m := unknown.FindStringSubmatch(says); m != nil {
		at = bytes.Index(text, []byte("*"+m[1]))
	} else if i := control.FindIndex(text); i != nil {
		at, p.Reason = i[0], "is not YAML: the file holds binary data"
	} else if i := invalid(text); i >= 0 {
		at, p.Reason = i, "is not YAML: the file is not UTF-8 text"
	} else if i := tabbed.FindIndex(text); i != nil {
		at, p.Reason = i[0], "is not YAML: the line is indented with a tab; use spaces"
	}
	if at >= 0 {
		p.Line = bytes.Count(text[:at], []byte("\n")) + 1
	}
	return &p
}

// invalid is where text ceases to be UTF-8, -1 for nowhere.
func invalid(text []byte) int {
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRune(text[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return -1
}
