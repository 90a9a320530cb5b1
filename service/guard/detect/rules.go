// Package detect finds instructions in text that is only data, by rules that people can read.
//
// It is pure: no clock, no network, no state. Every function takes linear time (RE2), whatever the text.
package detect

import (
	_ "embed"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"golang.org/x/text/unicode/norm"

	"aran/service/guard/canon"
)

// Finding is one reason. Start and End are byte offsets into the text that was given.
type Finding struct {
	Kind  string // injection, jailbreak, secret, canary, link, pii.email, …
	Rule  string
	Score float64 // 0 to 1
	Start int
	End   int
	Why   string // one sentence for people, without the text itself
}

// Apart sorts findings and drops those that overlap an earlier one.
func Apart(all []Finding) []Finding {
	slices.SortStableFunc(all, func(a, b Finding) int { return a.Start - b.Start })
	out := all[:0]
	end := 0
	for _, f := range all {
		if f.Start >= end {
			out = append(out, f)
			end = f.End
		}
	}
	return out
}

// Origin says where a text came from.
type Origin string

// Origins.
const (
	User     Origin = "user"
	Document Origin = "document"
	Tool     Origin = "tool"
	Output   Origin = "output"
)

// Rule is one entry of rules.yaml.
type Rule struct {
	ID      string   `yaml:"id"`
	Kind    string   `yaml:"kind"`
	Weight  float64  `yaml:"weight"`
	Near    []string `yaml:"near"`
	Match   []string `yaml:"match"`
	Origins []Origin `yaml:"origins"` // empty: user, document, tool
	Yes     []string `yaml:"yes"`
	No      []string `yaml:"no"`

	match []*regexp.Regexp
}

//go:embed rules.yaml
var rulesFile []byte

// Rules is a compiled rule set. Safe for concurrent use.
type Rules struct{ rules []Rule }

// Builtin compiles the rules that come with the program.
func Builtin() (*Rules, error) { return Compile(rulesFile) }

// Compile reads a rule file.
func Compile(file []byte) (*Rules, error) {
	var rules []Rule
	if err := yaml.UnmarshalWithOptions(file, &rules, yaml.Strict()); err != nil {
		return nil, fmt.Errorf("rules: %w", err)
	}
	for i := range rules {
		r := &rules[i]
		if r.ID == "" || r.Kind == "" || r.Weight <= 0 || r.Weight > 1 || len(r.Match) == 0 || len(r.Near) == 0 {
			return nil, fmt.Errorf("rule %q: id, kind, weight (0 to 1), near and match are needed", r.ID)
		}
		if len(r.Origins) == 0 {
			r.Origins = []Origin{User, Document, Tool}
		}
		for n := range r.Near {
			r.Near[n] = canon.Fold(r.Near[n])
		}
		for _, m := range r.Match {
			re, err := regexp.Compile(norm.NFKC.String(m))
			if err != nil {
				return nil, fmt.Errorf("rule %s: %w", r.ID, err)
			}
			r.match = append(r.match, re)
		}
	}
	return &Rules{rules}, nil
}

// All lists the rules.
func (rs *Rules) All() []Rule { return slices.Clone(rs.rules) }

// Scan finds instructions in a text of an origin, in its plain form and in what it hides in codes.
func (rs *Rules) Scan(s string, origin Origin) []Finding { return rs.ScanLayers(canon.Layers(s), origin) }

// ScanLayers is Scan for who has the layers already. The rule of a finding in a hidden layer ends with how it was hidden:
// "override.ignore+base64".
func (rs *Rules) ScanLayers(layers []canon.Layer, origin Origin) (out []Finding) {
	for _, l := range layers {
		found := rs.scan(l.Text, origin)
		for i := range found {
			if l.How != "" {
				found[i].Rule += "+" + l.How
			}
		}
		out = append(out, found...)
	}
	return out
}

func (rs *Rules) scan(t canon.Text, origin Origin) (out []Finding) {
	for _, r := range rs.rules {
		if !slices.Contains(r.Origins, origin) || !slices.ContainsFunc(r.Near, func(n string) bool { return strings.Contains(t.Plain, n) }) {
			continue
		}
		for _, re := range r.match {
			if m := re.FindStringIndex(t.Plain); m != nil {
				start, end := t.Span(m[0], m[1])
				out = append(out, Finding{Kind: r.Kind, Rule: r.ID, Score: r.Weight, Start: start, End: end})
				break
			}
		}
	}
	return out
}

// Combine makes one score of several findings of instructions (noisy-or). Two matches of one rule count once.
func Combine(findings []Finding) float64 {
	rest := 1.0
	seen := map[string]bool{}
	for _, f := range findings {
		id, _, _ := strings.Cut(f.Rule, "+")
		if (f.Kind == "injection" || f.Kind == "jailbreak") && !seen[id] {
			seen[id] = true
			rest *= 1 - f.Score
		}
	}
	return 1 - rest
}
