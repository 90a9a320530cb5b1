// Package config reads aran.yaml, the environment and flags into typed sections.
//
// It knows no section: app hands it pointers to structs that hold the defaults, and it fills in what
// the operator said. An unknown key is an error that names the nearest known one; nothing is ignored.
// Later sources win: defaults, file, environment, flags.
package config

import (
	"encoding"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Section is one top-level key of the file. Into points to a struct with `yaml` and `doc` tags
// that holds the defaults; a Check method on it is called when everything is read.
type Section struct {
	Name string
	Doc  string
	Into any
}

// Source is where settings come from.
type Source struct {
	File    string            // path of aran.yaml; empty: none
	Env     []string          // NAME=value, as os.Environ returns them
	Flags   map[string]string // key → value
	Aliases map[string]string // variable → key, for names that others chose (OPENAI_API_KEY)
	Ignore  []string          // prefixes of ARAN_ variables that are not settings
}

// Environ returns the process's environment.
func Environ() []string { return os.Environ() }

// Setting is one key, for reference pages and printing.
type Setting struct {
	Key     string
	Env     string
	Type    string
	Doc     string
	Default string
	field   reflect.Value
}

const maxFile = 1 << 20

// Load fills the sections. All problems found are returned together.
func Load(src Source, sections []Section) error {
	settings := Settings(sections)
	var errs []error
	if src.File != "" {
		errs = append(errs, loadFile(src.File, settings, sections)...)
	}
	errs = append(errs, loadEnv(src, settings)...)
	for _, key := range sortedKeys(src.Flags) {
		s := find(settings, key)
		if s == nil {
			errs = append(errs, unknown("flag", key, keys(settings)))
			continue
		}
		if err := set(s.field, src.Flags[key]); err != nil {
			errs = append(errs, fmt.Errorf("flag for %s: %w", key, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, sec := range sections {
		if c, ok := sec.Into.(interface{ Check() error }); ok {
			errs = append(errs, c.Check())
		}
	}
	return errors.Join(errs...)
}

func loadEnv(src Source, settings []Setting) (errs []error) {
	byEnv := map[string]*Setting{}
	var names []string
	for i := range settings {
		byEnv[settings[i].Env] = &settings[i]
		names = append(names, settings[i].Env)
	}
	for name, key := range src.Aliases {
		if s := find(settings, key); s != nil {
			byEnv[name] = s
			if strings.HasPrefix(name, "ARAN_") {
				names = append(names, name)
			}
		}
	}
	env := slices.Clone(src.Env)
	slices.Sort(env)
	for _, line := range env {
		name, value, _ := strings.Cut(line, "=")
		s, known := byEnv[name]
		switch {
		case known && value == "":
			// An empty variable is how shells and compose files say "not set".
		case known:
			if err := set(s.field, value); err != nil {
				errs = append(errs, fmt.Errorf("environment variable %s (%s): %w", name, s.Key, err))
			}
		case strings.HasPrefix(name, "ARAN_") && !slices.ContainsFunc(src.Ignore, func(p string) bool { return strings.HasPrefix(name, p) }):
			errs = append(errs, unknown("environment variable", name, names))
		}
	}
	return errs
}

func loadFile(path string, settings []Setting, sections []Section) []error {
	info, err := os.Stat(path)
	if err != nil {
		return []error{fmt.Errorf("config file: %w", err)}
	}
	if info.Size() > maxFile {
		return []error{fmt.Errorf("config file %s: %d bytes; at most %d", path, info.Size(), maxFile)}
	}
	b, err := os.ReadFile(path) //nolint:gosec // the operator's own file
	if err != nil {
		return []error{fmt.Errorf("config file: %w", err)}
	}
	return Parse(path, b, settings, sections)
}

// Parse reads the text of a file into the settings; name is for messages.
func Parse(name string, text []byte, settings []Setting, sections []Section) []error {
	f, err := parser.ParseBytes(text, 0)
	if err != nil {
		return []error{fmt.Errorf("%s: %s", name, oneLine(err))}
	}
	if len(f.Docs) > 1 {
		return []error{fmt.Errorf("%s: one YAML document is expected, not %d", name, len(f.Docs))}
	}
	if len(f.Docs) == 0 || f.Docs[0].Body == nil {
		return nil
	}
	w := walker{name: name, settings: settings}
	for _, s := range sections {
		w.groups = append(w.groups, s.Name)
	}
	for _, s := range settings {
		parts := strings.Split(s.Key, ".")
		for i := 1; i < len(parts); i++ {
			w.groups = append(w.groups, strings.Join(parts[:i], "."))
		}
	}
	w.walk("", f.Docs[0].Body)
	return w.errs
}

type walker struct {
	name     string
	settings []Setting
	groups   []string // keys that hold other keys
	errs     []error
}

func (w *walker) fail(n ast.Node, format string, args ...any) {
	line := 0
	if t := n.GetToken(); t != nil && t.Position != nil {
		line = t.Position.Line
	}
	w.errs = append(w.errs, fmt.Errorf("%s:%d: %w", w.name, line, fmt.Errorf(format, args...)))
}

func (w *walker) walk(prefix string, n ast.Node) {
	var values []*ast.MappingValueNode
	switch m := n.(type) {
	case *ast.MappingNode:
		values = m.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{m}
	case *ast.NullNode:
		return
	case *ast.CommentGroupNode:
		return
	default:
		w.fail(n, "%s holds settings of its own; a single value is not expected here", strings.TrimSuffix(prefix, "."))
		return
	}
	for _, v := range values {
		key := prefix + v.Key.GetToken().Value
		if s := find(w.settings, key); s != nil {
			if err := decode(v.Value, s.field); err != nil {
				w.fail(v, "%s: %s", key, oneLine(err))
			}
			continue
		}
		if slices.Contains(w.groups, key) {
			w.walk(key+".", v.Value)
			continue
		}
		w.fail(v, "%w", unknown("key", key, append(keys(w.settings), w.groups...)))
	}
}

func decode(n ast.Node, into reflect.Value) error {
	if n.Type() == ast.NullType {
		return nil
	}
	return yaml.NodeToValue(n, into.Addr().Interface(), yaml.Strict())
}

// set parses a value as YAML would, but takes text as it is for strings and secrets.
func set(field reflect.Value, value string) error {
	if u, ok := reflect.TypeAssert[encoding.TextUnmarshaler](field.Addr()); ok {
		return u.UnmarshalText([]byte(value))
	}
	if field.Kind() == reflect.String {
		field.SetString(value)
		return nil
	}
	if field.Kind() == reflect.Slice && !strings.HasPrefix(value, "[") {
		value = "[" + value + "]"
	}
	if err := yaml.UnmarshalWithOptions([]byte(value), field.Addr().Interface(), yaml.Strict()); err != nil {
		return fmt.Errorf("%q is not a %s", value, typeName(field.Type()))
	}
	return nil
}

// oneLine drops the source excerpt that the YAML library appends: it may show a secret beside the error.
func oneLine(err error) string {
	line, _, _ := strings.Cut(yaml.FormatError(err, false, false), "\n")
	return strings.TrimSpace(line)
}
