package cri

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// What an error of this package may be; ask with errors.Is.
var (
	// ErrNotFound: the runtime has no such sandbox, container or image.
	ErrNotFound = errors.New("not found")
	// ErrNoEvents: this runtime has no event stream (containerd before 1.7).
	ErrNoEvents = errors.New("the runtime has no container events")
	// ErrTimeout: the command ran longer than its timeout. It is a
	// context.DeadlineExceeded too.
	ErrTimeout = fmt.Errorf("command timed out: %w", context.DeadlineExceeded)
)

// errNoVerb: the runtime does not know the call.
var errNoVerb = errors.New("not implemented")

// noise is what gRPC puts around the runtime's words, often several times.
var noise = regexp.MustCompile(`rpc error: code = [A-Za-z]+(\(\d+\))? desc = `)

// fault is a runtime's answer: its own words, and what kind of error it is.
type fault struct {
	words string
	kind  error // nil when it is of none of the known kinds
}

func (f *fault) Error() string { return f.words }
func (f *fault) Unwrap() error { return f.kind }

func (v verb) name() string {
	if v.id == "" {
		return v.what
	}
	return v.what + " " + v.id
}

// fault tells a gRPC error as "verb object id: the runtime's words".
func (v verb) fault(err error) error {
	st, ok := status.FromError(err)
	if !ok {
		return fmt.Errorf("%s: %w", v.name(), err)
	}
	f := &fault{words: noise.ReplaceAllString(st.Message(), "")}
	switch st.Code() {
	case codes.NotFound:
		f.kind = ErrNotFound
	case codes.Unimplemented:
		f.kind = errNoVerb
	case codes.DeadlineExceeded:
		f.kind = context.DeadlineExceeded
	case codes.Canceled:
		f.kind = context.Canceled
	case codes.Unknown:
		// containerd 1.6 loses the code of some of its answers. The id must
		// be in it: an "executable file not found" is another matter.
		if v.id != "" && strings.Contains(f.words, v.id) && strings.HasSuffix(f.words, "not found") {
			f.kind = ErrNotFound
		}
	}
	if f.words == "" {
		f.words = strings.ToLower(st.Code().String())
	}
	return fmt.Errorf("%s: %w", v.name(), f)
}
