package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"aran/app"
)

const (
	module       = "aran"
	pipelinesDir = "deploy/pipelines"
)

// pipelines makes the file by which each service is tested, built and rolled alone, from what the service is built from.
func pipelines(ctx context.Context) (files, error) {
	imports, err := moduleImports(ctx)
	if err != nil {
		return nil, err
	}
	wired, err := wiring("app")
	if err != nil {
		return nil, err
	}
	out := files{}
	for _, name := range app.Names() {
		from, err := builtFrom(name, imports, wired[name])
		if err != nil {
			return nil, err
		}
		out[filepath.Join(pipelinesDir, name+".yaml")] = pipeline(name, from)
	}
	return out, leftOver(pipelinesDir, out)
}

// moduleImports lists, for each package of the module, which others it imports; tests are left out.
func moduleImports(ctx context.Context) (map[string][]string, error) {
	b, err := exec.CommandContext(ctx, "go", "list", "-tags", "grpcnotrace", "-json=ImportPath,Imports", "./...").Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	out := map[string][]string{}
	for d := json.NewDecoder(bytes.NewReader(b)); ; {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return out, nil
		} else if err != nil {
			return nil, err
		}
		for _, i := range p.Imports {
			if strings.HasPrefix(i, module+"/") {
				out[p.ImportPath] = append(out[p.ImportPath], i)
			}
		}
		if out[p.ImportPath] == nil {
			out[p.ImportPath] = []string{}
		}
	}
}

// builtFrom lists the packages that a service's process is built from: the program and its start, which every process has,
// without the other services that they know; the service; what app wires it with; and all that these import.
func builtFrom(service string, imports map[string][]string, wired []string) ([]string, error) {
	own := module + "/service/" + service
	if imports[own] == nil {
		return nil, fmt.Errorf("there is no package %s", own)
	}
	found := map[string]bool{}
	var follow func(p string)
	follow = func(p string) {
		if found[p] || imports[p] == nil {
			return
		}
		found[p] = true
		for _, i := range imports[p] {
			follow(i)
		}
	}
	for _, p := range []string{module + "/app", module + "/cmd/aran"} {
		found[p] = true
		for _, i := range imports[p] {
			if strings.HasPrefix(i, module+"/platform/") || i == module+"/config" {
				follow(i)
			}
		}
	}
	for p := range imports {
		if p == own || strings.HasPrefix(p, own+"/") {
			follow(p)
		}
	}
	for _, p := range wired {
		follow(p)
	}
	return slices.Sorted(maps.Keys(found)), nil
}

// wiring reads, for each row of app's table, which packages of services and contracts its build function uses, in itself and
// in the functions of app that it calls.
func wiring(dir string) (map[string][]string, error) {
	w := wires{functions: map[string]wire{}, builds: map[string]string{}, constants: map[string]string{}}
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return nil, err
		}
		w.read(f)
	}
	out := map[string][]string{}
	for name, build := range w.builds {
		found, seen := map[string]bool{}, map[string]bool{}
		for _, other := range w.builds {
			seen[other] = other != build // the table that says who may call whom names them all
		}
		w.follow(build, found, seen)
		out[name] = slices.Sorted(maps.Keys(found))
	}
	for _, name := range app.Names() {
		if out[name] == nil {
			return nil, fmt.Errorf("%s: the table's row of %s has no build function that can be read", dir, name)
		}
	}
	return out, nil
}

type wire struct {
	packages []string // imported ones that it names
	calls    []string // functions and methods of app
}

type wires struct {
	functions map[string]wire
	builds    map[string]string // service to build function
	constants map[string]string
}

func (w *wires) read(f *ast.File) {
	named := map[string]string{}
	for _, i := range f.Imports {
		path, err := strconv.Unquote(i.Path.Value)
		if err != nil || !strings.HasPrefix(path, module+"/") {
			continue
		}
		name := path[strings.LastIndexByte(path, '/')+1:]
		if i.Name != nil {
			name = i.Name.Name
		}
		named[name] = path
	}
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			w.function(d, named)
		case *ast.GenDecl:
			w.constant(d)
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if c, ok := n.(*ast.CompositeLit); ok {
			w.row(c)
		}
		return true
	})
}

func (w *wires) constant(d *ast.GenDecl) {
	for _, s := range d.Specs {
		v, ok := s.(*ast.ValueSpec)
		if !ok || d.Tok != token.CONST {
			continue
		}
		for i, name := range v.Names {
			if i < len(v.Values) {
				w.constants[name.Name] = w.text(v.Values[i])
			}
		}
	}
}

// text of a string or of a constant of this package.
func (w *wires) text(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		if s, err := strconv.Unquote(e.Value); err == nil {
			return s
		}
	case *ast.Ident:
		return w.constants[e.Name]
	}
	return ""
}

func (w *wires) row(c *ast.CompositeLit) {
	var name, build string
	for _, e := range c.Elts {
		kv, ok := e.(*ast.KeyValueExpr)
		if !ok {
			return
		}
		key, ok := kv.Key.(*ast.Ident)
		if !ok {
			return
		}
		switch key.Name {
		case "name":
			name = w.text(kv.Value)
		case "build":
			if f, ok := kv.Value.(*ast.Ident); ok {
				build = f.Name
			}
		}
	}
	if name != "" && build != "" {
		w.builds[name] = build
	}
}

// function notes what a function of app uses. Methods stand under their receiver's type and name; of the variables only the
// receiver and parameters of app's own types, and p.app, are followed, which is how app is written.
func (w *wires) function(d *ast.FuncDecl, named map[string]string) {
	types := map[string]string{}
	note := func(l *ast.FieldList) (last string) {
		if l == nil {
			return ""
		}
		for _, f := range l.List {
			t := f.Type
			if s, ok := t.(*ast.StarExpr); ok {
				t = s.X
			}
			if id, ok := t.(*ast.Ident); ok {
				last = id.Name
				for _, n := range f.Names {
					types[n.Name] = id.Name
				}
			}
		}
		return last
	}
	name := d.Name.Name
	if t := note(d.Recv); t != "" {
		name = t + "." + name
	}
	note(d.Type.Params)
	var use wire
	ast.Inspect(d, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && types[x.Name] == "" && named[x.Name] != "" {
				use.packages = append(use.packages, named[x.Name])
			}
			if t := owner(n.X, types); t != "" {
				use.calls = append(use.calls, t+"."+n.Sel.Name)
			}
		case *ast.Ident:
			use.calls = append(use.calls, n.Name)
		}
		return true
	})
	w.functions[name] = use
}

// owner is the type of app that an expression has: a variable's, or that of the fields app and cfg.
func owner(e ast.Expr, types map[string]string) string {
	switch e := e.(type) {
	case *ast.Ident:
		return types[e.Name]
	case *ast.SelectorExpr:
		switch t := owner(e.X, types); {
		case t == "parts" && e.Sel.Name == "app":
			return "App"
		case t == "App" && e.Sel.Name == "cfg":
			return "Config"
		}
	}
	return ""
}

func (w *wires) follow(name string, found, seen map[string]bool) {
	f, ok := w.functions[name]
	if !ok || seen[name] {
		return
	}
	seen[name] = true
	for _, p := range f.packages {
		found[p] = true
	}
	for _, c := range f.calls {
		w.follow(c, found, seen)
	}
}
