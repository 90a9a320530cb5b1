// Package detect finds instructions in text that is only data, by rules that people can read.
//
// A rule is a row of word lists with gaps, in a data file with examples for and against and a sentence that says why. All rules
// are held against a text at once: each word is looked up one time, and only rules of which every word list was met go on.
// It is pure: no clock, no network, no state. Every function takes linear time, whatever the text.
package detect

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/goccy/go-yaml"

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

// Rule is one entry of a rule file.
type Rule struct {
	ID      string   `yaml:"id"`
	Kind    string   `yaml:"kind"`
	Weight  float64  `yaml:"weight"`  // 0 to 1; several rules combine as noisy-or
	Why     string   `yaml:"why"`     // a sentence for people
	Say     []string `yaml:"say"`     // phrases: see rules/en.yaml
	Unless  []string `yaml:"unless"`  // phrases near which it does not count
	Near    []string `yaml:"near"`    // plain words: match is tried only around them
	Match   []string `yaml:"match"`   // RE2, for what is no words
	Origins []Origin `yaml:"origins"` // empty: user, document, tool
	Yes     []string `yaml:"yes"`
	No      []string `yaml:"no"`

	say, unless []phrase
	match       []*regexp.Regexp
}

// file is a rule file.
type file struct {
	Words map[string][]string `yaml:"words"` // lists by name, shared by all files
	Rules []Rule              `yaml:"rules"`
}

//go:embed rules/*.yaml
var builtin embed.FS

// Rules is a compiled rule set. Safe for concurrent use.
type Rules struct {
	rules   []Rule
	vocab   vocabulary
	scratch sync.Pool
}

// Builtin compiles the rules that come with the program.
func Builtin() (*Rules, error) { return With(nil) }

// With compiles the rules that come with the program and those in the *.yaml files of a folder (nil for none), which may use the
// same word lists and add rules of their own.
func With(folder fs.FS) (*Rules, error) {
	var files [][]byte
	for _, from := range []fs.FS{builtin, folder} {
		if from == nil {
			continue
		}
		for _, pattern := range []string{"*.yaml", "rules/*.yaml"} {
			names, err := fs.Glob(from, pattern)
			if err != nil {
				return nil, fmt.Errorf("list rule files: %w", err)
			}
			for _, name := range names {
				b, err := fs.ReadFile(from, name)
				if err != nil {
					return nil, fmt.Errorf("read rule file %s: %w", name, err)
				}
				files = append(files, b)
			}
		}
	}
	return Compile(files...)
}

// Compile reads rule files. They share their word lists; ids and names of lists are unique.
func Compile(files ...[]byte) (*Rules, error) {
	rs := &Rules{}
	lists := map[string][]string{}
	for _, b := range files {
		var f file
		if err := yaml.UnmarshalWithOptions(b, &f, yaml.Strict()); err != nil {
			return nil, fmt.Errorf("rules: %w", err)
		}
		for name, list := range f.Words {
			if _, twice := lists[name]; twice || strings.ToUpper(name) != name {
				return nil, fmt.Errorf("word list %s: its name is upper case, and there is one of each", name)
			}
			lists[name] = list
		}
		rs.rules = append(rs.rules, f.Rules...)
	}
	rs.vocab = newVocabulary(lists)
	seen := map[string]bool{}
	for i := range rs.rules {
		r := &rs.rules[i]
		if seen[r.ID] {
			return nil, fmt.Errorf("rule %s: there are two", r.ID)
		}
		seen[r.ID] = true
		if err := rs.compile(r); err != nil {
			return nil, fmt.Errorf("rule %q: %w", r.ID, err)
		}
	}
	if err := rs.vocab.freeze(); err != nil {
		return nil, err
	}
	rs.scratch.New = func() any { return rs.vocab.scratch() }
	return rs, nil
}

func (rs *Rules) compile(r *Rule) (err error) {
	if r.ID == "" || r.Kind == "" || r.Why == "" || r.Weight <= 0 || r.Weight > 1 || len(r.Say)+len(r.Match) == 0 || len(r.Match) > 0 != (len(r.Near) > 0) {
		return errors.New("id, kind, why, weight (0 to 1) and say are needed, or near and match")
	}
	if len(r.Origins) == 0 {
		r.Origins = []Origin{User, Document, Tool}
	}
	if r.say, err = rs.vocab.phrases(r.Say); err != nil {
		return err
	}
	if r.unless, err = rs.vocab.phrases(r.Unless); err != nil {
		return err
	}
	for n := range r.Near {
		r.Near[n] = canon.Fold(r.Near[n])
	}
	for _, m := range r.Match {
		re, err := regexp.Compile(m)
		if err != nil {
			return fmt.Errorf("match: %w", err)
		}
		r.match = append(r.match, re)
	}
	return nil
}

// All lists the rules.
func (rs *Rules) All() []Rule { return slices.Clone(rs.rules) }

// Scan finds instructions in a text of an origin, in its plain form and in what it hides in codes.
func (rs *Rules) Scan(s string, origin Origin) []Finding {
	return rs.ScanLayers(canon.Layers(s), origin)
}

// ScanLayers is Scan for who has the layers already. The rule of a finding in a hidden layer ends with how it was hidden:
// "override.ignore+base64". What the text says openly is not found again in its layers.
func (rs *Rules) ScanLayers(layers []canon.Layer, origin Origin) (out []Finding) {
	open := map[string]bool{}
	for _, l := range layers {
		for _, f := range rs.scan(l.Text, origin) {
			if open[f.Rule] {
				continue
			}
			open[f.Rule] = true
			if l.How != "" {
				f.Rule += "+" + l.How
				f.Why += " It was hidden (" + l.How + ")."
			}
			out = append(out, f)
		}
	}
	return out
}

const (
	before, after = 200, 300 // bytes around a near word in which match is tried
	mostTries     = 8
)

func (rs *Rules) scan(t canon.Text, origin Origin) (out []Finding) {
	s := rs.scratch.Get().(*scratch) //nolint:forcetypeassert // nothing else is put there
	defer rs.scratch.Put(s)
	s.read(t.Plain)
	for i := range rs.rules {
		r := &rs.rules[i]
		if !slices.Contains(r.Origins, origin) {
			continue
		}
		start, end, ok := r.find(s, t.Plain)
		if !ok {
			continue
		}
		from, to := t.Span(start, end)
		out = append(out, Finding{Kind: r.Kind, Rule: r.ID, Score: r.Weight, Start: from, End: to, Why: r.Why})
	}
	return out
}

// find gives the first place in a plain text that a rule speaks of.
func (r *Rule) find(s *scratch, text string) (start, end int, ok bool) {
	for i := range r.say {
		for _, m := range s.match(&r.say[i]) {
			if !s.excused(r.unless, m) {
				return int(s.tokens[m.start].start), int(s.tokens[m.end].end), true
			}
		}
	}
	for _, near := range r.Near {
		at := 0
		for range mostTries {
			i := strings.Index(text[at:], near)
			if i < 0 {
				break
			}
			at += i
			from, to := window(text, at-before, at+after)
			for _, re := range r.match {
				if m := re.FindStringIndex(text[from:to]); m != nil {
					return from + m[0], from + m[1], true
				}
			}
			at += len(near)
		}
	}
	return 0, 0, false
}

// window cuts at spaces, so that no word at its edge is half.
func window(text string, from, to int) (int, int) {
	from, to = max(0, from), min(len(text), to)
	if i := strings.LastIndexByte(text[:from], ' '); i >= 0 && from-i < before {
		from = i + 1
	} else if from > 0 {
		for from < to && text[from] != ' ' {
			from++
		}
	}
	for to < len(text) && to > from && text[to] != ' ' {
		to--
	}
	return from, to
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
