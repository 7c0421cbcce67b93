package pinnace

import (
	"path"
	"strconv"
	"strings"
	"testing"
)

// edges is the drawing of the house: which package may import which of ours,
// and why. A package without a row imports none of ours.
var edges = map[string]map[string]string{
	"cmd/pinnace": {
		"node": "the one call that the program makes",
	},
	"node": {
		"agent":          "started here, fed with pods",
		"agent/...":      "the parts that are handed to the agent",
		"cri":            "dialled here, handed to the agent",
		"network":        "started here; the hook's server",
		"network/hook":   "put where the runtime looks",
		"containerd":     "started here when no runtime is given",
		"agent/manifest": "files to pods",
	},
	"agent": {
		"agent/...": "the nouns that its steps act on",
		"cri":       "observed types and pure conversions",
	},
	"agent/plan": {
		"cri": "observed types",
	},
	"agent/image": {
		"cri": "observed types",
	},
	"agent/probe": {
		"cri": "what a command left behind, and that it took too long",
	},
	"network": {
		"network/hook":  "its tests ask the hook as a runtime does",
		"network/lease": "which address belongs to which sandbox",
		"network/rule":  "the text of the packet rules",
	},
	"containerd": {
		"containerd/archive": "reading image files",
	},
}

// foreign names, by package, what must never be linked in: the boundary is
// worth more than the convenience.
var foreign = map[string][]string{
	"agent":           {"github.com/vishvananda/netlink", "google.golang.org/grpc", "os/exec"},
	"agent/plan":      {"os", "os/exec", "net", "google.golang.org/grpc", "log/slog", "github.com/vishvananda/netlink"},
	"network":         {"k8s.io/", "google.golang.org/grpc"},
	"containerd":      {"k8s.io/"},
	"cmd/pinnace-cni": {"k8s.io/", "google.golang.org/grpc", "github.com/vishvananda/netlink", "net/http", "log/slog"},
	"cri":             {"github.com/vishvananda/netlink", "os/exec"},
}

// free may import anything of ours and be imported by tests alone.
func free(pkg string) bool {
	return pkg == "." || pkg == "testenv" || strings.HasPrefix(pkg, "testenv/")
}

func drawn(from, to string) bool {
	row := edges[from]
	if _, ok := row[to]; ok {
		return true
	}
	for dir := to; dir != "."; dir = path.Dir(dir) {
		if _, ok := row[dir+"/..."]; ok {
			return true
		}
	}
	return false
}

func TestImports(t *testing.T) {
	for _, s := range sources(t) {
		for _, imp := range s.file.Imports {
			p, err := strconv.Unquote(imp.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			checkForeign(t, s, p)
			to, ours := strings.CutPrefix(p, "pinnace/")
			if !ours || free(s.pkg()) || to == s.pkg() {
				continue
			}
			if s.test && (free(to) || drawn(s.pkg(), to)) {
				continue
			}
			if free(to) {
				t.Errorf("%s: product code imports %s", s.path, to)
			} else if !drawn(s.pkg(), to) {
				t.Errorf("%s: the edge %s -> %s is not drawn", s.path, s.pkg(), to)
			}
		}
	}
}

func checkForeign(t *testing.T, s source, p string) {
	t.Helper()
	if s.test {
		return
	}
	for _, word := range foreign[s.pkg()] {
		if p == word || strings.HasSuffix(word, "/") && strings.HasPrefix(p, word) ||
			strings.Contains(word, ".") && strings.HasPrefix(p, word+"/") {
			t.Errorf("%s: %s must not import %s", s.path, s.pkg(), p)
		}
	}
}

// TestEveryEdgeHasAReason keeps the drawing readable.
func TestEveryEdgeHasAReason(t *testing.T) {
	for from, row := range edges {
		for to, why := range row {
			if len(strings.Fields(why)) < 2 {
				t.Errorf("edge %s -> %s has no reason", from, to)
			}
		}
	}
}
