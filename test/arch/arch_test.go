// Package arch_test holds the rules of the repository's structure as plain tests.
//
// What may import what, where SQL and the environment may be touched, and which words a service
// does not know. A rule that only people check is a rule that breaks.
package arch_test

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	module = "aran"
	root   = "../.."
)

// mayImport lists, for each layer, the layers it may reach directly. A service never appears in
// another service's list: services meet in api/gen.
var mayImport = map[string][]string{
	"api":      {"api"},
	"platform": {"platform", "api"},
	"config":   {"platform/secret"},
	"service":  {"platform", "api"},
	"app":      {"service", "platform", "api", "config", "app"},
	"cmd":      {"app", "config", "platform", "service", "api", "client", "cmd"},
	"client":   {},
	"test":     {"app", "config", "platform", "service", "api", "test", "cmd", "client"},
	"examples": {"client"},
}

// topLevel is the layout; a new folder needs a decision note and a line here.
var topLevel = []string{"api", "app", "client", "cmd", "config", "console", "deploy", "docs", "examples", "platform", "service", "test", "tools"}

type pkg struct {
	ImportPath, Dir, Doc                        string
	GoFiles, Imports, TestImports, XTestImports []string
	Error                                       *struct{ Err string }
}

func packages(t *testing.T) (out []pkg) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Dir,Doc,GoFiles,Imports,TestImports,XTestImports,Error", "./...")
	cmd.Dir = root
	b, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for d := json.NewDecoder(strings.NewReader(string(b))); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return out
		} else if err != nil {
			t.Fatal(err)
		}
		out = append(out, p)
	}
}

func TestImports(t *testing.T) {
	for _, p := range packages(t) {
		for _, imp := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
			if why := refused(p.ImportPath, imp); why != "" {
				t.Errorf("%s may not import %s: %s", short(p.ImportPath), short(imp), why)
			}
		}
	}
}

// refused says why a package may not import another, or nothing.
func refused(from, imp string) string {
	if from != imp && short(imp) == "service/guard/corpus" && first(from) != "test" {
		return "training data stays out of the program"
	}
	if !strings.HasPrefix(imp, module+"/") || from == imp || sameUnit(from, imp) {
		return ""
	}
	allowed, known := mayImport[first(from)]
	if !known {
		return "the folder has no layer"
	}
	ok := slices.ContainsFunc(allowed, func(a string) bool { return short(imp) == a || strings.HasPrefix(short(imp), a+"/") })
	switch {
	case !ok:
		return "the layers forbid it"
	case first(from) == "platform" && serviceContract.MatchString(short(imp)):
		return "platform knows no service's contract"
	case first(from) != "cmd" && short(imp) == "cmd/aran-llama":
		return "native code stays in its own program"
	}
	return ""
}

var serviceContract = regexp.MustCompile(`^api/gen/aran/`)

func TestRefusedFindsPlantedImports(t *testing.T) {
	for _, c := range []struct {
		from, imp string
		refused   bool
	}{
		{"aran/service/chat", "aran/service/search", true},
		{"aran/service/chat", "aran/service/chat/prompt", false},
		{"aran/service/chat", "aran/app", true},
		{"aran/service/chat", "aran/config", true},
		{"aran/platform/rpc", "aran/service/user", true},
		{"aran/platform/rpc", "aran/api/gen/aran/user/v1", true},
		{"aran/service/chat", "aran/api/gen/aran/user/v1", false},
		{"aran/config", "aran/platform/store", true},
		{"aran/config", "aran/platform/secret", false},
		{"aran/app", "aran/service/user", false},
		{"aran/elsewhere", "aran/platform/run", true},
		{"aran/service/guard", "aran/service/guard/corpus", true},
		{"aran/cmd/aran", "aran/service/guard/corpus", true},
		{"aran/test/train/guard", "aran/service/guard/corpus", false},
	} {
		if got := refused(c.from, c.imp) != ""; got != c.refused {
			t.Errorf("%s importing %s: refused %v, want %v", c.from, c.imp, got, c.refused)
		}
	}
}

func TestPackageComments(t *testing.T) {
	for _, p := range packages(t) {
		if first(p.ImportPath) == "api" || len(p.GoFiles) == 0 {
			continue
		}
		if p.Doc == "" {
			t.Errorf("%s has no package comment", short(p.ImportPath))
		}
	}
}

func TestNames(t *testing.T) {
	for _, p := range packages(t) {
		for part := range strings.SplitSeq(short(p.ImportPath), "/") {
			if slices.Contains([]string{"util", "utils", "common", "helpers", "base", "types", "models", "manager", "pkg", "misc"}, part) {
				t.Errorf("%s: a package is named for what it owns", short(p.ImportPath))
			}
		}
	}
	entries, err := filepath.Glob(root + "/*/")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		name := filepath.Base(e)
		if !slices.Contains(topLevel, name) && !slices.Contains([]string{"bin", "dist", "aran-data"}, name) && !strings.HasPrefix(name, ".") {
			t.Errorf("top-level folder %s is not in the layout", name)
		}
	}
}

// source is one of our Go files, with its path from the repository's root.
type source struct {
	path string
	file *ast.File
	set  *token.FileSet
}

func sources(t *testing.T) (out []source) {
	t.Helper()
	set := token.NewFileSet()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel := strings.TrimPrefix(path, root+"/")
		if d.IsDir() {
			if rel == "api/gen" || rel == "tools" || strings.HasPrefix(d.Name(), ".") && path != root || d.Name() == "testdata" || d.Name() == "node_modules" {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(rel, ".go") {
			return nil
		}
		f, err := parser.ParseFile(set, path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		out = append(out, source{rel, f, set})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

var statement = regexp.MustCompile(`(?s)^\s*(SELECT\s.+\sFROM\s|INSERT\s+(OR\s+\w+\s+)?INTO\s|UPDATE\s+\w+\s+SET\s|DELETE\s+FROM\s|CREATE\s+(TABLE|INDEX|UNIQUE)|PRAGMA\s|WITH\s+\w+\s+AS\s*\()`)

// mayHoldSQL: platform/store, a service's store files, and tests.
func mayHoldSQL(path string) bool {
	name := filepath.Base(path)
	return strings.HasPrefix(path, "platform/store/") || strings.HasSuffix(name, "_test.go") || name == "store.go" || strings.HasPrefix(name, "store_")
}

func TestSQLLivesInStoreFiles(t *testing.T) {
	for _, s := range sources(t) {
		if mayHoldSQL(s.path) {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING && statement.MatchString(strings.Trim(lit.Value, "`\"")) {
				t.Errorf("%s: SQL outside a store file: %.60s", s.set.Position(lit.Pos()), lit.Value)
			}
			return true
		})
	}
	if !statement.MatchString("SELECT id FROM user_key") || statement.MatchString("Select a model from the list") {
		t.Error("the rule does not tell SQL from prose")
	}
}

func TestOnlyConfigAndSecretReadTheEnvironment(t *testing.T) {
	for _, s := range sources(t) {
		if strings.HasPrefix(s.path, "config/") || strings.HasPrefix(s.path, "platform/secret/") || s.path == "platform/fault/point_faults.go" || strings.HasSuffix(s.path, "_test.go") || strings.HasPrefix(s.path, "test/") {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := sel.X.(*ast.Ident); ok && (x.Name == "os" || x.Name == "syscall") && slices.Contains([]string{"Getenv", "LookupEnv", "Environ", "ExpandEnv"}, sel.Sel.Name) {
				t.Errorf("%s: %s.%s: only config and platform/secret read the environment", s.set.Position(sel.Pos()), x.Name, sel.Sel.Name)
			}
			return true
		})
	}
}

var modeWords = regexp.MustCompile(`(?i)\b(in-process|inprocess|in process|single.?process|monolith|split mode|embedded mode|all-in-one|aran up|aran run)\b`)

func TestServicesDoNotKnowTheirShape(t *testing.T) {
	for _, s := range sources(t) {
		if !strings.HasPrefix(s.path, "service/") {
			continue
		}
		for _, g := range s.file.Comments {
			if w := modeWords.FindString(g.Text()); w != "" {
				t.Errorf("%s: a service does not know the word %q", s.set.Position(g.Pos()), w)
			}
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if w := modeWords.FindString(lit.Value); w != "" {
					t.Errorf("%s: a service does not know the word %q", s.set.Position(lit.Pos()), w)
				}
			}
			return true
		})
	}
}

const (
	longestFile    = 600
	longestPackage = 4500
)

// longer are packages that grew past that and are to be divided: search's jobs and collections share its tables with
// ingestion and retrieval, which a division has to part first; guard's policies, pseudonyms and reports share its verdicts.
var longer = map[string]int{"service/search": 8200, "service/guard": 6000}

func TestSizes(t *testing.T) {
	lines := map[string]int{}
	for _, s := range sources(t) {
		if strings.HasSuffix(s.path, "_test.go") {
			continue
		}
		n := s.set.File(s.file.Pos()).LineCount()
		lines[filepath.Dir(s.path)] += n
		if n > longestFile {
			t.Errorf("%s has %d lines; at most %d", s.path, n, longestFile)
		}
	}
	for dir, n := range lines {
		if most := max(longestPackage, longer[filepath.ToSlash(dir)]); n > most {
			t.Errorf("%s has %d lines; at most %d", dir, n, most)
		}
	}
}

func short(p string) string { return strings.TrimPrefix(p, module+"/") }

func first(p string) string {
	f, _, _ := strings.Cut(short(p), "/")
	return f
}

// sameUnit reports whether both packages sit in one service (service/chat and service/chat/x).
func sameUnit(a, b string) bool {
	as, bs := strings.Split(short(a), "/"), strings.Split(short(b), "/")
	return len(as) > 1 && len(bs) > 1 && as[0] == "service" && as[0] == bs[0] && as[1] == bs[1]
}
