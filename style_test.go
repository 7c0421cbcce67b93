package pinnace

import (
	"bufio"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The shape gates. A soft limit may be passed by what the debt register
// below names with its reason; a hard limit by nothing.
const (
	funcSoft, funcHard   = 60, 100
	fileSoft, fileHard   = 300, 500
	ifaceSoft, ifaceHard = 4, 6
	maxParams            = 4 // beside ctx
	maxFields            = 15
	maxPackage           = 2000 // lines without tests
	maxMain              = 60
)

// debt is the register of exceptions: "file:name" to the reason why it stands.
var debt = map[string]string{}

// source is one parsed Go file of the project.
type source struct {
	path string // slash-separated, from the root
	file *ast.File
	fset *token.FileSet
	test bool
}

func (s source) lines(n ast.Node) int {
	return s.fset.Position(n.End()).Line - s.fset.Position(n.Pos()).Line + 1
}

func (s source) pkg() string { return path.Dir(s.path) }

// sources parses every Go file of the project, the tests included.
func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); p != "." && (strings.HasPrefix(name, ".") || name == "bin" || name == "testdata") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(p, ".go") {
			return nil
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, p, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		all = append(all, source{filepath.ToSlash(p), f, fset, strings.HasSuffix(p, "_test.go")})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 10 {
		t.Fatalf("only %d Go files found: the walk is broken", len(all))
	}
	return all
}

// exempt reports whether the register holds name, and marks it as used.
func exempt(used map[string]bool, file, name string) bool {
	key := file + ":" + name
	_, ok := debt[key]
	used[key] = used[key] || ok
	return ok
}

func TestShape(t *testing.T) {
	used := map[string]bool{}
	sizes := map[string]int{}
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		n := s.fset.File(s.file.Pos()).LineCount()
		sizes[s.pkg()] += n
		if n > fileHard || n > fileSoft && !exempt(used, s.path, "file") {
			t.Errorf("%s: %d lines; a file has at most %d", s.path, n, fileSoft)
		}
		ast.Inspect(s.file, func(node ast.Node) bool {
			switch d := node.(type) {
			case *ast.FuncDecl:
				checkFunc(t, s, d, used)
			case *ast.TypeSpec:
				checkType(t, s, d, used)
			}
			return true
		})
	}
	for pkg, n := range sizes {
		if n > maxPackage {
			t.Errorf("%s: %d lines; a package has at most %d: find the noun that wants out", pkg, n, maxPackage)
		}
	}
	for key := range debt {
		if !used[key] {
			t.Errorf("debt register: %s is no longer needed, strike it", key)
		}
	}
}

func checkFunc(t *testing.T, s source, d *ast.FuncDecl, used map[string]bool) {
	t.Helper()
	name, n := d.Name.Name, s.lines(d)
	limit := funcSoft
	if name == "main" {
		limit = maxMain
	}
	if n > funcHard || n > limit && !exempt(used, s.path, name) {
		t.Errorf("%s: %s has %d lines; at most %d", s.path, name, n, limit)
	}
	params := 0
	for _, f := range d.Type.Params.List {
		if sel, ok := f.Type.(*ast.SelectorExpr); ok && sel.Sel.Name == "Context" {
			continue
		}
		params += max(1, len(f.Names))
	}
	if params > maxParams && !exempt(used, s.path, name) {
		t.Errorf("%s: %s takes %d parameters beside ctx; at most %d", s.path, name, params, maxParams)
	}
}

func checkType(t *testing.T, s source, d *ast.TypeSpec, used map[string]bool) {
	t.Helper()
	switch typ := d.Type.(type) {
	case *ast.InterfaceType:
		n := len(typ.Methods.List)
		if n > ifaceHard || n > ifaceSoft && !exempt(used, s.path, d.Name.Name) {
			t.Errorf("%s: interface %s has %d methods; at most %d", s.path, d.Name.Name, n, ifaceSoft)
		}
	case *ast.StructType:
		n := 0
		for _, f := range typ.Fields.List {
			n += max(1, len(f.Names))
		}
		if n > maxFields && !exempt(used, s.path, d.Name.Name) {
			t.Errorf("%s: struct %s has %d fields; at most %d", s.path, d.Name.Name, n, maxFields)
		}
	}
}

// TestPackageDoc asks every package for its three sentences: what it owns,
// what it never does, how it is driven.
func TestPackageDoc(t *testing.T) {
	docs := map[string]string{}
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		docs[s.pkg()] += s.file.Doc.Text()
	}
	for pkg, doc := range docs {
		if len(strings.Fields(doc)) < 8 {
			t.Errorf("%s: the package comment is missing or says nothing", pkg)
		}
	}
}

// TestNoMutableState keeps package-level variables to what nothing assigns
// to: sentinel errors, compiled patterns, embedded files, tables.
func TestNoMutableState(t *testing.T) {
	type key struct{ pkg, name string }
	vars := map[key]string{}
	all := sources(t)
	for _, s := range all {
		if s.test {
			continue
		}
		for _, decl := range s.file.Decls {
			g, ok := decl.(*ast.GenDecl)
			if !ok || g.Tok != token.VAR {
				continue
			}
			for _, spec := range g.Specs {
				for _, id := range spec.(*ast.ValueSpec).Names {
					vars[key{s.pkg(), id.Name}] = s.path
				}
			}
		}
	}
	for _, s := range all {
		if s.test {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			var targets []ast.Expr
			switch st := n.(type) {
			case *ast.AssignStmt:
				if st.Tok != token.DEFINE {
					targets = st.Lhs
				}
			case *ast.IncDecStmt:
				targets = []ast.Expr{st.X}
			}
			for _, lhs := range targets {
				id := rootIdent(lhs)
				if id == nil || id.Obj != nil && id.Obj.Kind == ast.Var && !topLevel(s.file, id.Obj) {
					continue
				}
				if file, ok := vars[key{s.pkg(), id.Name}]; ok {
					t.Errorf("%s: assigns to the package-level variable %s of %s", s.path, id.Name, file)
				}
			}
			return true
		})
	}
}

// rootIdent is the variable that an assignment to e changes.
func rootIdent(e ast.Expr) *ast.Ident {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			return x
		case *ast.IndexExpr:
			e = x.X
		case *ast.SelectorExpr:
			e = x.X
		default:
			return nil
		}
	}
}

func topLevel(f *ast.File, obj *ast.Object) bool {
	return f.Scope.Lookup(obj.Name) == obj
}

// TestOneLockedThread keeps namespace work in one file.
func TestOneLockedThread(t *testing.T) {
	var files []string
	for _, s := range sources(t) {
		if s.test || strings.HasPrefix(s.path, "testenv/") {
			continue
		}
		found := false
		ast.Inspect(s.file, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok && sel.Sel.Name == "LockOSThread" {
				found = true
			}
			return true
		})
		if found {
			files = append(files, s.path)
		}
	}
	if len(files) > 1 {
		t.Errorf("runtime.LockOSThread stands in %v; it belongs into one file", files)
	}
}

// TestNoBareNolint and no time.Sleep in what ships: a wait has a reason and
// a signal.
func TestForbiddenWords(t *testing.T) {
	for _, s := range sources(t) {
		if s.path == "style_test.go" {
			continue
		}
		f, err := os.Open(s.path)
		if err != nil {
			t.Fatal(err)
		}
		sc := bufio.NewScanner(f)
		sc.Buffer(nil, 1<<20)
		for line := 1; sc.Scan(); line++ {
			text := sc.Text()
			if strings.Contains(text, "nolint") {
				t.Errorf("%s:%d: nolint", s.path, line)
			}
			if s.test {
				continue
			}
			for _, word := range []string{"time.Sleep(", "context.TODO(", "//go:linkname"} {
				if strings.Contains(text, word) {
					t.Errorf("%s:%d: %s in product code", s.path, line, strings.TrimRight(word, "("))
				}
			}
		}
		f.Close()
	}
}

// TestKubernetesOneVersion keeps every k8s.io module on one release.
func TestKubernetesOneVersion(t *testing.T) {
	raw, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(raw), "replace ") {
		t.Error("go.mod: has a replace line; the module must stay installable by version")
	}
	want := ""
	unversioned := []string{"k8s.io/klog/", "k8s.io/utils", "k8s.io/kube-openapi"}
	for line := range strings.Lines(string(raw)) {
		f := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "require "))
		if len(f) < 2 || !strings.HasPrefix(f[0], "k8s.io/") ||
			slices.ContainsFunc(unversioned, func(p string) bool { return strings.HasPrefix(f[0], p) }) {
			continue
		}
		minor := f[1][strings.Index(f[1], ".")+1:] // v1.37.2 and v0.37.2 are one release
		if want == "" {
			want = minor
		}
		if minor != want {
			t.Errorf("go.mod: %s is at %s, others at .%s", f[0], f[1], want)
		}
	}
	if want == "" {
		t.Error("go.mod: no k8s.io module found")
	}
}
