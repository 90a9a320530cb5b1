package config

import (
	"encoding"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Settings lists every key of the sections with its present value as the default.
func Settings(sections []Section) []Setting {
	var out []Setting
	for _, s := range sections {
		out = appendFields(out, s.Name, reflect.ValueOf(s.Into).Elem())
	}
	return out
}

func appendFields(out []Setting, prefix string, v reflect.Value) []Setting {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if !f.IsExported() || name == "-" || name == "" {
			continue // set by app, not by the operator
		}
		key := prefix + "." + name
		if isGroup(v.Field(i)) {
			out = appendFields(out, key, v.Field(i))
			continue
		}
		out = append(out, Setting{
			Key: key, Env: "ARAN_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_")),
			Type: typeName(f.Type), Doc: f.Tag.Get("doc"), Default: text(v.Field(i)), field: v.Field(i),
		})
	}
	return out
}

// isGroup tells a struct of settings from a struct that is one value (a secret).
func isGroup(v reflect.Value) bool {
	if v.Kind() != reflect.Struct {
		return false
	}
	_, value := reflect.TypeAssert[encoding.TextUnmarshaler](v.Addr())
	return !value
}

func typeName(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[time.Duration]():
		return "duration (as 5s, 2m, 1h)"
	case reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()):
		return "secret (a value, env:NAME or file:PATH)"
	}
	switch t.Kind() {
	case reflect.Slice:
		return "list of " + typeName(t.Elem())
	case reflect.Map:
		return "map of " + typeName(t.Elem())
	case reflect.Bool:
		return "true or false"
	case reflect.Float32, reflect.Float64:
		return "number"
	case reflect.Int, reflect.Int32, reflect.Int64:
		return "whole number"
	case reflect.Struct:
		return "group"
	default:
		return t.Kind().String()
	}
}

func text(v reflect.Value) string {
	if v.Kind() == reflect.Map && v.Len() == 0 || v.Kind() == reflect.Slice && v.Len() == 0 {
		return ""
	}
	return fmt.Sprint(v.Interface())
}

// Print writes the effective settings as YAML-like lines; secrets show as ***.
func Print(w io.Writer, sections []Section) error {
	for _, s := range Settings(sections) {
		if _, err := fmt.Fprintf(w, "%s: %s\n", s.Key, s.Default); err != nil {
			return fmt.Errorf("print settings: %w", err)
		}
	}
	return nil
}

// Reference writes a Markdown page of all settings.
func Reference(w io.Writer, sections []Section) error {
	var b strings.Builder
	b.WriteString("# Settings\n\nEvery setting of `aran.yaml`, with its environment variable. Later sources win: defaults, file, environment, flags.\nA secret may be a reference: `env:NAME` or `file:/path`.\n")
	for _, sec := range sections {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n| key | environment | type | default | meaning |\n|---|---|---|---|---|\n", sec.Name, sec.Doc)
		for _, s := range Settings([]Section{sec}) {
			fmt.Fprintf(&b, "| `%s` | `%s` | %s | %s | %s |\n", s.Key, s.Env, s.Type, code(s.Default), strings.ReplaceAll(s.Doc, "|", "\\|"))
		}
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write reference: %w", err)
	}
	return nil
}

func code(s string) string {
	if s == "" {
		return ""
	}
	return "`" + strings.ReplaceAll(s, "|", "\\|") + "`"
}

func keys(settings []Setting) []string {
	out := make([]string, len(settings))
	for i, s := range settings {
		out[i] = s.Key
	}
	return out
}

func find(settings []Setting, key string) *Setting {
	for i := range settings {
		if settings[i].Key == key {
			return &settings[i]
		}
	}
	return nil
}

func sortedKeys(m map[string]string) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

func unknown(what, name string, known []string) error {
	best, dist := "", len(name)/2+1
	for _, k := range known {
		if d := distance(name, k); d < dist {
			best, dist = k, d
		}
	}
	if best == "" {
		return fmt.Errorf("unknown %s %q; `aran config docs` lists them all", what, name)
	}
	return fmt.Errorf("unknown %s %q; did you mean %q?", what, name, best)
}

// distance is how many edits, or swaps of neighbours, turn a into b (optimal string alignment).
func distance(a, b string) int {
	prev2, prev := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(prev[j]+1, row[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], prev2[j-2]+1)
			}
		}
		prev2, prev = prev, row
	}
	return prev[len(b)]
}
