// Package threat reads docs/threat-model.yaml and draws its page.
//
// The model is the source: the page and its data-flow picture are generated, and the tests here
// fail when a threat names a test that does not exist, or when something is served that has no entry.
package threat

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

// Model is the whole file.
type Model struct {
	Assets     []Thing    `yaml:"assets"`
	Actors     []Thing    `yaml:"actors"`
	Boundaries []Boundary `yaml:"boundaries"`
	Parts      []Part     `yaml:"parts"`
	Flows      []Flow     `yaml:"flows"`
	Entries    []Entry    `yaml:"entries"`
	Threats    []Threat   `yaml:"threats"`
}

// Thing is an asset or an actor.
type Thing struct {
	ID    string `yaml:"id"`
	Title string `yaml:"title"`
	Note  string `yaml:"note"`
}

// Boundary is a line that data crosses from one trust to another.
type Boundary struct {
	ID    string `yaml:"id"`
	Title string `yaml:"title"`
	Note  string `yaml:"note"`
}

// Part is a box of the picture: a service, a store, or something outside, inside one boundary.
type Part struct {
	ID       string `yaml:"id"`
	Title    string `yaml:"title"`
	Boundary string `yaml:"boundary"`
	Shape    string `yaml:"shape"` // box (default), store, person
}

// Flow is an arrow.
type Flow struct {
	From string `yaml:"from"`
	To   string `yaml:"to"`
	What string `yaml:"what"`
}

// Entry is a way in: routes (`POST /api/v1/keys`) or events, and the threats that were thought through for them.
type Entry struct {
	Routes  []string `yaml:"routes"`
	Events  []string `yaml:"events"`
	Threats []string `yaml:"threats"`
}

// Threat is one thing that can go wrong.
type Threat struct {
	ID         string   `yaml:"id"`
	Service    string   `yaml:"service"`
	Title      string   `yaml:"title"`
	Stride     string   `yaml:"stride"` // S, T, R, I, D, E
	LLM        string   `yaml:"llm"`    // OWASP LLM Top 10 2025: LLM01 … LLM10
	Severity   string   `yaml:"severity"`
	Mitigation string   `yaml:"mitigation"`
	Tests      []string `yaml:"tests"` // "service/user TestX"
	Open       string   `yaml:"open"`  // why it is not covered yet
}

// Load reads the model; unknown keys are errors.
func Load(path string) (Model, error) {
	b, err := os.ReadFile(path) //nolint:gosec // a file of this repository
	if err != nil {
		return Model{}, fmt.Errorf("threat model: %w", err)
	}
	var m Model
	if err := yaml.UnmarshalWithOptions(b, &m, yaml.Strict()); err != nil {
		return Model{}, fmt.Errorf("threat model: %w", err)
	}
	return m, nil
}

// Problems lists what is inconsistent. exists says whether a test ("package TestName") is there.
func (m Model) Problems(exists func(pkg, name string) bool) (out []string) {
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	boundaries, parts, ids := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, b := range m.Boundaries {
		boundaries[b.ID] = true
	}
	for _, p := range m.Parts {
		parts[p.ID] = true
		if !boundaries[p.Boundary] {
			say("part %s lies in boundary %q, which is not there", p.ID, p.Boundary)
		}
	}
	for _, f := range m.Flows {
		if !parts[f.From] || !parts[f.To] {
			say("flow %s → %s: both ends must be parts", f.From, f.To)
		}
	}
	for _, t := range m.Threats {
		if ids[t.ID] {
			say("threat %s is there twice", t.ID)
		}
		ids[t.ID] = true
		m.checkThreat(t, parts, exists, say)
	}
	for _, e := range m.Entries {
		if len(e.Threats) == 0 {
			say("entry %v %v names no threat", e.Routes, e.Events)
		}
		for _, id := range e.Threats {
			if !ids[id] {
				say("entry %v %v names threat %s, which is not there", e.Routes, e.Events, id)
			}
		}
	}
	return out
}

func (m Model) checkThreat(t Threat, parts map[string]bool, exists func(pkg, name string) bool, say func(string, ...any)) {
	if !parts[t.Service] {
		say("threat %s: service %q is not a part", t.ID, t.Service)
	}
	if len(t.Stride) != 1 || !strings.Contains("STRIDE", t.Stride) {
		say("threat %s: stride %q is not one of S, T, R, I, D, E", t.ID, t.Stride)
	}
	if t.LLM != "" && !slices.Contains([]string{"LLM01", "LLM02", "LLM03", "LLM04", "LLM05", "LLM06", "LLM07", "LLM08", "LLM09", "LLM10"}, t.LLM) {
		say("threat %s: %q is not in the OWASP LLM Top 10", t.ID, t.LLM)
	}
	if !slices.Contains([]string{"low", "medium", "high", "critical"}, t.Severity) {
		say("threat %s: severity %q", t.ID, t.Severity)
	}
	if t.Mitigation == "" {
		say("threat %s has no mitigation", t.ID)
	}
	if len(t.Tests) == 0 && t.Open == "" {
		say("threat %s names no test and is not marked open", t.ID)
	}
	for _, name := range t.Tests {
		pkg, test, _ := strings.Cut(name, " ")
		if !exists(pkg, test) {
			say("threat %s names the test %q, which does not exist", t.ID, name)
		}
	}
}

// HasRoute reports whether a served route has an entry. Patterns are compared as they are registered.
func (m Model) HasRoute(route string) bool {
	return slices.ContainsFunc(m.Entries, func(e Entry) bool { return slices.Contains(e.Routes, route) })
}

// HasEvent reports whether an event type has an entry.
func (m Model) HasEvent(event string) bool {
	return slices.ContainsFunc(m.Entries, func(e Entry) bool { return slices.Contains(e.Events, event) })
}
