package house

import (
	"bytes"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the generated documents instead of comparing them")

const root = "../../.."

// sourceFile is one hand-written or generated Go file of the module.
type sourceFile struct {
	path string // slash-separated, relative to the root
	pkg  string // directory
	test bool
	ast  *ast.File
	fset *token.FileSet
	text string
}

func sources(t *testing.T) []sourceFile {
	t.Helper()
	var out []sourceFile
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && p != root && (strings.HasPrefix(name, ".") || name == "bin" || name == "testdata") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") {
			return nil
		}
		text, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, p, text, parser.ParseComments)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		out = append(out, sourceFile{path: rel, pkg: filepath.ToSlash(filepath.Dir(rel)), test: strings.HasSuffix(name, "_test.go"), ast: f, fset: fset, text: string(text)})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 20 {
		t.Fatalf("found only %d Go files below %s: the walk is broken", len(out), root)
	}
	return out
}

// mayImport says for each layer which other layers it may use; a layer may always use itself.
var mayImport = map[string][]string{
	"datamodel": {},
	"store":     {},
	"configs":   {"datamodel"}, // the built-in device profiles
	"bridge":    {"datamodel", "store"},
	"cwmp":      {"bridge", "datamodel", "store"},
	"usp":       {"bridge", "datamodel", "store"},
	"cmd":       {"bridge", "configs", "cwmp", "datamodel", "store", "usp"},
}

func layer(pkg string) string { first, _, _ := strings.Cut(pkg, "/"); return first }

func TestImportsPointDownwards(t *testing.T) {
	for _, f := range sources(t) {
		from := layer(f.pkg)
		allowed, known := mayImport[from]
		if !known {
			t.Errorf("%s: %q is not a layer of the house; see docs/decisions before adding a top-level folder", f.path, from)
			continue
		}
		for _, imp := range f.ast.Imports {
			path, err := strconv.Unquote(imp.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			to, inside := strings.CutPrefix(path, "twinspan/")
			if !inside || layer(to) == from {
				continue
			}
			ok := false
			for _, a := range allowed {
				ok = ok || a == layer(to)
			}
			if !ok {
				t.Errorf("%s: imports twinspan/%s; %s may only use %v", f.path, to, from, allowed)
			}
		}
	}
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	comments := map[string]int{}
	for _, f := range sources(t) {
		if f.test || strings.HasSuffix(f.ast.Name.Name, "_test") {
			continue
		}
		if _, ok := comments[f.pkg]; !ok {
			comments[f.pkg] = 0
		}
		if f.ast.Doc != nil && !strings.HasPrefix(f.ast.Doc.Text(), "Code generated") {
			comments[f.pkg]++
		}
	}
	for pkg, n := range comments {
		if n == 0 {
			t.Errorf("%s: no package comment", pkg)
		}
		if n > 1 {
			t.Errorf("%s: %d package comments, want one", pkg, n)
		}
	}
}

func TestOnlyProgramsEndTheProcess(t *testing.T) {
	for _, f := range sources(t) {
		if f.test || layer(f.pkg) == "cmd" || f.ast.Name.Name == "main" {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			x, ok := sel.X.(*ast.Ident)
			if !ok {
				return true
			}
			call := x.Name + "." + sel.Sel.Name
			if call == "os.Exit" || strings.HasPrefix(call, "log.Fatal") || strings.HasPrefix(call, "log.Panic") {
				t.Errorf("%s: %s outside cmd", f.fset.Position(n.Pos()), call)
			}
			return true
		})
	}
}

func goOutput(t *testing.T, env []string, args ...string) string {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out)
}

// banned must not be linked into the agent: the first four switch dead-code elimination off or belong to tests, the
// rest is paid for by every device without need.
var banned = []string{
	"text/template", "html/template", "testing", "net/http/pprof", "google.golang.org/grpc", "go.opentelemetry.io",
	"google.golang.org/protobuf/proto", "google.golang.org/protobuf/reflect", "google.golang.org/protobuf/runtime", "google.golang.org/protobuf/internal/impl",
	"github.com/mochi-mqtt", "twinspan/cwmp/acs", "twinspan/datamodel/schemagen", "twinspan/datamodel/providertest", "twinspan/usp/mtp/mtptest", "twinspan/store/storetest",
}

func TestAgentLinksNothingItMustNotPayFor(t *testing.T) {
	for _, dep := range strings.Fields(goOutput(t, []string{"CGO_ENABLED=0"}, "list", "-deps", "-tags", "nethttpomithttp2", "./cmd/twinspan")) {
		for _, b := range banned {
			if dep == b || strings.HasPrefix(dep, b+"/") {
				t.Errorf("cmd/twinspan links %s", dep)
			}
		}
	}
}

func TestAgentDependencies(t *testing.T) {
	list := goOutput(t, []string{"CGO_ENABLED=0"}, "list", "-deps", "-tags", "nethttpomithttp2", "-f", "{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}}{{end}}{{end}}", "./cmd/twinspan")
	seen := map[string]bool{}
	for _, line := range strings.Split(list, "\n") {
		if line = strings.TrimSpace(line); line != "" {
			seen[line] = true
		}
	}
	var lines []string
	for l := range seen {
		lines = append(lines, "- "+l)
	}
	sort.Strings(lines)
	compare(t, "docs/dependencies.md", "# Modules linked into the agent\n\nMade by `go test ./cmd/internal/house -run TestAgentDependencies -update`; a new line here is paid for by every device.\n\n"+strings.Join(lines, "\n")+"\n")
}

// maxAgentBytes is the budget of the stripped amd64 agent.
const maxAgentBytes = 12_000_000

func TestAgentSize(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "twinspan")
	// The flags are the Makefile's, so that what is weighed is what is shipped.
	cmd := exec.Command("make", "-s", "agent", "OUT="+bin, "LDEXTRA=-dumpdep")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH=amd64")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("build: %v\n%.2000s", err, out)
	}
	if n := bytes.Count(out, []byte("<ReflectMethod>")); n != 0 {
		i := bytes.Index(out, []byte("<ReflectMethod>"))
		t.Errorf("%d uses of reflect methods by name switch dead-code elimination off, the first near %q", n, out[max(0, i-200):i])
	}
	st, err := os.Stat(bin)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("agent: %d bytes", st.Size())
	if st.Size() > maxAgentBytes {
		t.Errorf("agent is %d bytes, budget %d", st.Size(), maxAgentBytes)
	}
}

// compare checks a generated document, or writes it with -update.
func compare(t *testing.T, name, want string) {
	t.Helper()
	path := filepath.Join(root, filepath.FromSlash(name))
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (write it with -update)", err)
	}
	if string(got) != want {
		t.Errorf("%s is out of date: go test ./cmd/internal/house -update, then read the difference", name)
	}
}
