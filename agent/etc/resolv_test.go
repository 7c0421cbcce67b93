package etc_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pinnace/agent/etc"
)

func TestParseResolv(t *testing.T) {
	tests := []struct {
		name, text string
		want       etc.Resolv
		err        string
	}{
		{name: "nothing"},
		{name: "all of it", text: `# generated
; by hand
nameserver 192.0.2.53
  nameserver fe80::1%eth0  # the router

search example.com. . lab.example.com
options ndots:1 rotate
options ndots:3
sortlist 192.0.2.0
nonsense`,
			want: etc.Resolv{Servers: []string{"192.0.2.53", "fe80::1%eth0"}, Searches: []string{"example.com", "lab.example.com"},
				Options: []string{"ndots:3", "rotate"}}},
		{name: "the last search wins", text: "search a b\nsearch c\n", want: etc.Resolv{Searches: []string{"c"}}},
		{name: "an empty search ends it", text: "search a b\nsearch\n"},
		{name: "domain is a search", text: "domain a\n", want: etc.Resolv{Searches: []string{"a"}}},
		{name: "search after domain", text: "domain a b\nsearch c d\n", want: etc.Resolv{Searches: []string{"c", "d"}}},
		{name: "no final newline, carriage returns", text: "nameserver 192.0.2.1\r\nnameserver 192.0.2.2",
			want: etc.Resolv{Servers: []string{"192.0.2.1", "192.0.2.2"}}},
		{name: "no address", text: "\nnameserver\n", err: "line 2: nameserver without an address"},
		{name: "endless", text: strings.Repeat("x", 70<<10), err: "longer than 64 KiB"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := etc.ParseResolv(strings.NewReader(tt.text))
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("got %v; want %q", err, tt.err)
				}
				return
			}
			if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
}

// FuzzParseResolv: what was read, written out again, reads the same.
func FuzzParseResolv(f *testing.F) {
	f.Add("nameserver 192.0.2.53\nsearch a b.\noptions ndots:5 ndots:1 rotate\n")
	f.Add("domain x\n# nameserver 1\n;\nnameserver\t::1 rest\r\n")
	f.Add("search .. .\noptions : :a a: a\n")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := etc.ParseResolv(strings.NewReader(text))
		if err != nil {
			return
		}
		var b strings.Builder
		for _, s := range got.Servers {
			b.WriteString("nameserver " + s + "\n")
		}
		b.WriteString("search " + strings.Join(got.Searches, " ") + "\n")
		b.WriteString("options " + strings.Join(got.Options, " ") + "\n")
		again, err := etc.ParseResolv(strings.NewReader(b.String()))
		if err != nil {
			t.Fatalf("%q became %q: %v", text, b.String(), err)
		}
		if diff := cmp.Diff(got, again); diff != "" {
			t.Errorf("%q became %q (-first +second):\n%s", text, b.String(), diff)
		}
		for _, list := range [][]string{got.Servers, got.Searches, got.Options} {
			for _, w := range list {
				if w == "" || strings.ContainsAny(w, " \t\n") {
					t.Errorf("%q has the word %q", text, w)
				}
			}
		}
	})
}
