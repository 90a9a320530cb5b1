package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"golang.org/x/net/publicsuffix"
)

// Bounds of a document.
const (
	MaxDocument   = 256 << 10 // bytes, as YAML or JSON
	maxList       = 256
	maxBoundaries = 64
	maxPhrases    = 64 // of a boundary
	maxPhrase     = 200
	maxPattern    = 500
	maxSchemas    = 8
	maxSchema     = 100_000
	maxText       = 2_000
)

// Error names the field that can't be used, by its dotted path in the document, and what to do about it.
type Error struct{ Field, Why string }

// Error is one line: the field, then why.
func (e *Error) Error() string { return e.Field + ": " + e.Why }

func bad(field, format string, args ...any) error {
	return &Error{field, fmt.Sprintf(format, args...)}
}

// Parse reads a document, YAML or JSON, and checks it. An unknown field is an error.
func Parse(text []byte) (Policy, error) {
	var p Policy
	if len(text) > MaxDocument {
		return p, bad("policy", "it has %d bytes; at most %d are taken", len(text), MaxDocument)
	}
	if err := yaml.UnmarshalWithOptions(text, &p, yaml.Strict()); err != nil {
		line, _, _ := strings.Cut(yaml.FormatError(err, false, false), "\n")
		return Policy{}, bad("policy", "%s", strings.TrimSpace(line))
	}
	if err := p.Check(); err != nil {
		return Policy{}, err
	}
	return p, nil
}

// Check returns an *Error for the first field that can't be used. Fields that are not set pass.
func (p Policy) Check() error {
	checks := []func() error{
		p.checkThresholds,
		func() error { return p.Input.check("input") },
		func() error { return p.Document.check("document") },
		func() error { return p.Output.check("output") },
		func() error { return oneOf("anonymise", p.Anonymise, Never, Providers, Always) },
		func() error { return eachOf("pii.packs", p.PII.Packs, "in", "eu", "us") },
		func() error { return eachOf("layers", p.Layers, Rules, Compact, Embeddings, Judge) },
		p.checkLayers,
		p.checkHosts,
		p.checkBoundaries,
		func() error { return p.Tools.Always.check("tools.always") },
		func() error { return p.Tools.AfterUntrusted.check("tools.after_untrusted") },
		p.checkSchemas,
	}
	for _, check := range checks {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (p Policy) checkThresholds() error {
	for _, t := range []struct {
		name string
		Threshold
	}{{"user", p.Thresholds.User}, {"document", p.Thresholds.Document}, {"tool", p.Thresholds.Tool}} {
		at := "thresholds." + t.name
		switch {
		case !(t.Block >= 0 && t.Block <= 1): // so that NaN is refused too
			return bad(at+".block", "%v is no probability: use more than 0, at most 1", t.Block)
		case !(t.Flag >= 0 && t.Flag <= 1):
			return bad(at+".flag", "%v is no probability: use more than 0, at most 1", t.Flag)
		case t.Block != 0 && t.Flag > t.Block:
			return bad(at+".flag", "%v is above %s.block (%v): nothing would be flagged", t.Flag, at, t.Block)
		}
	}
	return nil
}

func (a Actions) check(side string) error {
	for _, c := range classes(&a) {
		allowed := []string{Allow, Flag, Redact, Block}
		if c.name == "injection" {
			allowed = []string{Allow, Flag, Block} // a text that gives instructions is not mended by removing a part
		}
		if err := oneOf(side+"."+c.name, *c.value, allowed...); err != nil {
			return err
		}
	}
	if len(a.Kinds) > maxList {
		return bad(side+".kinds", "%d kinds; at most %d", len(a.Kinds), maxList)
	}
	for _, k := range slices.Sorted(maps.Keys(a.Kinds)) {
		if !kindName.MatchString(k) {
			return bad(side+".kinds", "%q is no kind: write it as pii.card, or pii.in.* for a group", k)
		}
		if err := oneOf(side+".kinds."+k, a.Kinds[k], Allow, Flag, Redact, Block); err != nil {
			return err
		}
		if a.Kinds[k] == "" {
			return bad(side+".kinds."+k, "say allow, flag, redact or block")
		}
	}
	return nil
}

var (
	kindName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,40}(\.[a-z0-9_]{1,40}){0,4}(\.\*)?$`)
	hostName = regexp.MustCompile(`^(\*\.)?[a-z0-9]([a-z0-9-]{0,62})(\.[a-z0-9]([a-z0-9-]{0,62}))*$`)
	ruleName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}$`)
	toolName = regexp.MustCompile(`^[A-Za-z0-9_.:/*-]{1,200}$`)
)

func (p Policy) checkLayers() error {
	if p.Layers != nil && !slices.Contains(p.Layers, Rules) {
		return bad("layers", "rules is missing: it can't be left out")
	}
	return nil
}

func (p Policy) checkHosts() error {
	if len(p.AllowHosts) > maxList {
		return bad("allow_hosts", "%d hosts; at most %d", len(p.AllowHosts), maxList)
	}
	for i, h := range p.AllowHosts {
		if len(h) > 253 || !hostName.MatchString(h) || h == "*" {
			return bad(fmt.Sprintf("allow_hosts[%d]", i), "%.80q is no host: write it as docs.example.org (lower case, no scheme, no path), or *.example.org", h)
		}
		if below, wild := strings.CutPrefix(h, "*."); wild {
			if suffix, listed := publicsuffix.PublicSuffix(below); suffix == below && (listed || strings.Contains(below, ".")) {
				return bad(fmt.Sprintf("allow_hosts[%d]", i), "anybody can have a host below %.80q: name the domain too, as in *.example.%s", below, below)
			}
		}
	}
	return nil
}

func (p Policy) checkBoundaries() error {
	if len(p.Boundaries) > maxBoundaries {
		return bad("boundaries", "%d of them; at most %d", len(p.Boundaries), maxBoundaries)
	}
	seen := map[string]bool{}
	for i, b := range p.Boundaries {
		at := fmt.Sprintf("boundaries[%d]", i)
		switch {
		case !ruleName.MatchString(b.Name):
			return bad(at+".name", "%.80q: use up to 64 letters, digits, spaces, dots, dashes and underscores", b.Name)
		case seen[b.Name]:
			return bad(at+".name", "%q is there twice", b.Name)
		case len(b.Phrases) == 0 && len(b.Patterns) == 0 && b.Description == "":
			return bad(at, "it has no phrases, patterns or description: nothing could cross it")
		case len(b.Phrases) > maxPhrases || len(b.Patterns) > maxPhrases:
			return bad(at, "at most %d phrases and %d patterns", maxPhrases, maxPhrases)
		case len(b.Description) > maxText:
			return bad(at+".description", "%d bytes; at most %d", len(b.Description), maxText)
		}
		seen[b.Name] = true
		if err := oneOf(at+".on", b.On, OnInput, OnOutput, OnBoth); err != nil {
			return err
		}
		if err := oneOf(at+".action", b.Action, Allow, Flag, Redact, Block); err != nil {
			return err
		}
		for n, s := range b.Phrases {
			if strings.TrimSpace(s) == "" || len(s) > maxPhrase {
				return bad(fmt.Sprintf("%s.phrases[%d]", at, n), "use 1 to %d bytes that are not all spaces", maxPhrase)
			}
		}
		for n, s := range b.Patterns {
			if err := CheckPattern(s); err != nil {
				return bad(fmt.Sprintf("%s.patterns[%d]", at, n), "%s", err)
			}
		}
	}
	return nil
}

// CheckPattern says why a pattern (RE2) can't be used: it does not parse, is too long, or matches the empty text and so everything.
func CheckPattern(s string) error {
	if s == "" || len(s) > maxPattern {
		return fmt.Errorf("use 1 to %d bytes", maxPattern)
	}
	re, err := regexp.Compile(s)
	if err != nil {
		return fmt.Errorf("it is no RE2 pattern: %w", err)
	}
	if re.MatchString("") {
		return errors.New("it matches the empty text, and so every text")
	}
	return nil
}

func (r ToolRules) check(at string) error {
	for _, l := range []struct {
		name  string
		names []string
	}{{"allow", r.Allow}, {"ask", r.Ask}, {"deny", r.Deny}} {
		if len(l.names) > maxList {
			return bad(at+"."+l.name, "%d names; at most %d", len(l.names), maxList)
		}
		for i, n := range l.names {
			if !toolName.MatchString(n) {
				return bad(fmt.Sprintf("%s.%s[%d]", at, l.name, i), "%.80q is no name of a tool: use letters, digits and _ . : / -, and * for anything", n)
			}
		}
	}
	return nil
}

func (p Policy) checkSchemas() error {
	if len(p.Schemas) > maxSchemas {
		return bad("schemas", "%d of them; at most %d", len(p.Schemas), maxSchemas)
	}
	for i, s := range p.Schemas {
		var object map[string]any
		if len(s) > maxSchema || json.Unmarshal([]byte(s), &object) != nil {
			return bad(fmt.Sprintf("schemas[%d]", i), "it is no JSON object of up to %d bytes", maxSchema)
		}
	}
	return nil
}

func oneOf(field, value string, allowed ...string) error {
	if value == "" || slices.Contains(allowed, value) {
		return nil
	}
	last := len(allowed) - 1
	return bad(field, "%.40q: use %s or %s", value, strings.Join(allowed[:last], ", "), allowed[last])
}

func eachOf(field string, values []string, allowed ...string) error {
	for i, v := range values {
		if v == "" || !slices.Contains(allowed, v) {
			return bad(fmt.Sprintf("%s[%d]", field, i), "%.40q: use %s", v, strings.Join(allowed, ", "))
		}
	}
	return nil
}
