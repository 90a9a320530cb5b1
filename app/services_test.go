package app

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestCallsAreAcyclic holds because each service comes after those that it calls.
func TestCallsAreAcyclic(t *testing.T) {
	seen := []string{}
	for _, s := range table() {
		for _, c := range s.calls {
			if !slices.Contains(seen, c) {
				t.Errorf("%s calls %s, which does not stand before it", s.name, c)
			}
		}
		if slices.Contains(seen, s.name) {
			t.Errorf("%s is there twice", s.name)
		}
		seen = append(seen, s.name)
	}
	if table()[0].name != identity || len(table()[0].calls) > 0 {
		t.Error("the identity authority comes first and calls nobody")
	}
}

func TestCallersComeFromTheTable(t *testing.T) {
	if got := callers("guard"); !slices.Equal(got, []string{"search", "chat"}) {
		t.Errorf("callers of guard: %v", got)
	}
	if got := callers("chat"); len(got) != 0 {
		t.Errorf("callers of chat: %v; it is reached through its Public handler only", got)
	}
	if got := callers(identity); len(got) != len(table()) {
		t.Errorf("callers of %s: %v, want everybody", identity, got)
	}
	if mayCall("guard", "chat") == nil || mayCall("chat", "guard") != nil {
		t.Error("mayCall does not follow the table")
	}
}

func TestChoose(t *testing.T) {
	for _, c := range []struct {
		names []string
		want  string
	}{
		{[]string{"infer", "user"}, "user infer"},
		{[]string{"gatway"}, `no service "gatway"`},
		{[]string{"user", "search"}, "search calls guard"},
		{[]string{"infer"}, "infer calls user"},
		{Names(), strings.Join(Names(), " ")},
	} {
		rows, err := Default().choose(c.names)
		var got []string
		for _, r := range rows {
			got = append(got, r.name)
		}
		said := strings.Join(got, " ")
		if err != nil {
			said = err.Error()
		}
		if !strings.Contains(said, c.want) {
			t.Errorf("choose(%v) = %q, want %q", c.names, said, c.want)
		}
	}
}

// What a service subscribes to by work is in the table, so that others are kept from it.
func TestWorkSubscriptionsAreInTheTable(t *testing.T) {
	for _, s := range table() {
		var works []string
		files, err := filepath.Glob(filepath.Join("..", "service", s.name, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatal(s.name, err)
		}
		for _, path := range files {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if name := workName(n); name != "" {
					works = append(works, name)
				}
				return true
			})
		}
		slices.Sort(works)
		if !slices.Equal(works, slices.Sorted(slices.Values(s.works))) {
			t.Errorf("%s subscribes to work as %v; the table says %v", s.name, works, s.works)
		}
	}
}

// workName is the name in a literal bus.Work; "?" when it is no constant.
func workName(n ast.Node) string {
	lit, ok := n.(*ast.CompositeLit)
	if !ok {
		return ""
	}
	typ, ok := lit.Type.(*ast.SelectorExpr)
	if !ok || typ.Sel.Name != "Work" {
		return ""
	}
	if pkg, ok := typ.X.(*ast.Ident); !ok || pkg.Name != "bus" {
		return ""
	}
	for _, e := range lit.Elts {
		if kv, ok := e.(*ast.KeyValueExpr); ok && kv.Key.(*ast.Ident).Name == "Name" { //nolint:forcetypeassert // of a struct
			if v, ok := kv.Value.(*ast.BasicLit); ok {
				return strings.Trim(v.Value, `"`)
			}
		}
	}
	return "?"
}
