// Package policy is the document that says what guard does about what it finds.
//
// A policy may be partial: what it leaves out comes from the policy below it (Over). Policies that hold together are
// combined by Strictest, which is never looser than any of them. The package is pure and keeps nothing.
package policy

import (
	"maps"
	"slices"
	"strings"
)

// What is done about a finding, from the mildest to the strictest. The same words are verdicts.
const (
	Allow  = "allow"
	Flag   = "flag"
	Redact = "redact"
	Block  = "block"
)

// Layers that look for instructions.
const (
	Rules      = "rules"
	Compact    = "compact"
	Embeddings = "embeddings"
	Judge      = "judge"
)

// When personal data is replaced by pseudonyms.
const (
	Never     = "never"
	Providers = "providers"
	Always    = "always"
)

// Policy is the document. A field that is not set leaves the matter to the policy below. The zero value sets nothing.
type Policy struct {
	Thresholds Thresholds `json:"thresholds,omitzero" yaml:"thresholds,omitempty"`
	Input      Actions    `json:"input,omitzero" yaml:"input,omitempty"`
	Document   Actions    `json:"document,omitzero" yaml:"document,omitempty"`
	Output     Actions    `json:"output,omitzero" yaml:"output,omitempty"`
	PII        PII        `json:"pii,omitzero" yaml:"pii,omitempty"`
	Anonymise  string     `json:"anonymise,omitempty" yaml:"anonymise,omitempty" doc:"when personal data is replaced by pseudonyms: never, providers (before a provider outside sees it) or always"`
	Layers     []string   `json:"layers,omitempty" yaml:"layers,omitempty" doc:"what looks for instructions: rules (always), compact, embeddings, judge"`
	AllowHosts []string   `json:"allow_hosts,omitzero" yaml:"allow_hosts,omitzero" doc:"hosts that images and links in answers may point to; *.example.org names all hosts below it"`
	Boundaries []Boundary `json:"boundaries,omitempty" yaml:"boundaries,omitempty" doc:"topics and limits of your own: name, on (input, output or both), phrases, patterns (RE2), description, action"`
	Tools      Tools      `json:"tools,omitzero" yaml:"tools,omitempty"`
	Schemas    []string   `json:"schemas,omitempty" yaml:"schemas,omitempty" doc:"JSON schemas (2020-12), each of which a whole answer must meet"`
}

// Thresholds are of each origin.
type Thresholds struct {
	User     Threshold `json:"user,omitzero" yaml:"user,omitempty"`
	Document Threshold `json:"document,omitzero" yaml:"document,omitempty"`
	Tool     Threshold `json:"tool,omitzero" yaml:"tool,omitempty"`
}

// Threshold holds probabilities that a text is an attack, above 0 and up to 1; flag is not above block.
type Threshold struct {
	Block float64 `json:"block,omitempty" yaml:"block,omitempty" doc:"probability of an attack from which the action for injections is taken, 0 to 1"`
	Flag  float64 `json:"flag,omitempty" yaml:"flag,omitempty" doc:"probability of an attack from which a text is flagged, 0 to 1"`
}

// Actions says what is done about each class of findings. For gives the action for a kind.
type Actions struct {
	Injection string            `json:"injection,omitempty" yaml:"injection,omitempty" doc:"instructions where they may not be, from the block threshold on: allow, flag or block"`
	Secret    string            `json:"secret,omitempty" yaml:"secret,omitempty" doc:"keys and other secrets: allow, flag, redact or block, as below"`
	PII       string            `json:"pii,omitempty" yaml:"pii,omitempty" doc:"card, bank account and identity numbers, and other personal data"`
	Contact   string            `json:"contact,omitempty" yaml:"contact,omitempty" doc:"e-mail addresses and telephone numbers"`
	Indirect  string            `json:"indirect,omitempty" yaml:"indirect,omitempty" doc:"what tells of a person only beside other data: URLs, addresses of machines, postcodes, places on the map, numbers of banks and firms"`
	Links     string            `json:"links,omitempty" yaml:"links,omitempty" doc:"images and links that could carry data away"`
	Canary    string            `json:"canary,omitempty" yaml:"canary,omitempty" doc:"marks of the instructions"`
	Leakage   string            `json:"leakage,omitempty" yaml:"leakage,omitempty" doc:"text that repeats the instructions"`
	HTML      string            `json:"html,omitempty" yaml:"html,omitempty" doc:"HTML and script that a page would run; redact neutralises it"`
	Code      string            `json:"code,omitempty" yaml:"code,omitempty" doc:"program text"`
	SQL       string            `json:"sql,omitempty" yaml:"sql,omitempty" doc:"SQL statements"`
	Topics    string            `json:"topics,omitempty" yaml:"topics,omitempty" doc:"boundaries that name no action of their own"`
	Kinds     map[string]string `json:"kinds,omitempty" yaml:"kinds,omitempty" doc:"actions for single kinds, before their class: pii.passport, or pii.in.* for all below it"`
}

// PII says which personal data is looked for.
type PII struct {
	Packs []string `json:"packs,omitempty" yaml:"packs,omitempty" doc:"countries whose numbers are looked for: in, eu, us; none: all"`
	Names bool     `json:"names,omitempty" yaml:"names,omitempty" doc:"look for names of persons, places and organisations as well, which is less certain"`
}

// Boundary is a rule of a tenant's own. A text that has one of the phrases (in plain form, whole words), or matches one of the
// patterns (RE2), crosses it. The description is for layers that understand it.
type Boundary struct {
	Name        string   `json:"name" yaml:"name"`
	On          string   `json:"on,omitempty" yaml:"on,omitempty"` // input, output or both; empty: output
	Phrases     []string `json:"phrases,omitempty" yaml:"phrases,omitempty"`
	Patterns    []string `json:"patterns,omitempty" yaml:"patterns,omitempty"`
	Description string   `json:"description,omitempty" yaml:"description,omitempty"`
	Action      string   `json:"action,omitempty" yaml:"action,omitempty"` // empty: Actions.Topics
}

// Where a boundary holds.
const (
	OnInput  = "input"
	OnOutput = "output"
	OnBoth   = "both"
)

// Holds reports whether a boundary looks at answers (output) or at what goes in.
func (b Boundary) Holds(side string) bool {
	return b.On == OnBoth || b.On == side || b.On == "" && side == OnOutput
}

// Tools limits the tools that a model may use: at all, and after its conversation has read text of untrusted origin. Where it says
// nothing, tools that only read go on after such text, and others are asked about (taint.Default).
type Tools struct {
	Always         ToolRules `json:"always,omitzero" yaml:"always,omitempty"`
	AfterUntrusted ToolRules `json:"after_untrusted,omitzero" yaml:"after_untrusted,omitempty"`
}

// ToolRules are patterns of tools' names, in which * stands for anything. Denied is what deny names, and, as soon as allow or
// ask is set, what neither of them names. Of allow and ask, allow goes first: `allow: ["search.*"]`, `ask: ["*"]` asks for all
// but searches. Nothing set allows everything.
type ToolRules struct {
	Allow []string `json:"allow,omitzero" yaml:"allow,omitzero" doc:"names of tools that may be used; * stands for anything"`
	Ask   []string `json:"ask,omitzero" yaml:"ask,omitzero" doc:"names of tools that a person must agree to each time"`
	Deny  []string `json:"deny,omitzero" yaml:"deny,omitzero" doc:"names of tools that may not be used"`
}

// What ToolRules say of a tool.
const (
	ToolAllowed = "allow"
	ToolAsk     = "ask"
	ToolDenied  = "deny"
)

// Decide says whether a tool may be used: ToolAllowed, ToolAsk or ToolDenied.
func (r ToolRules) Decide(tool string) string {
	named := func(patterns []string) bool {
		return slices.ContainsFunc(patterns, func(p string) bool { return Matches(p, tool) })
	}
	switch {
	case named(r.Deny):
		return ToolDenied
	case r.Allow == nil && r.Ask == nil, named(r.Allow):
		return ToolAllowed
	case named(r.Ask):
		return ToolAsk
	}
	return ToolDenied
}

// Matches reports whether a name matches a pattern in which * stands for any run of characters. Linear in the name for each *.
func Matches(pattern, name string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == name
	}
	if !strings.HasPrefix(name, parts[0]) {
		return false
	}
	name = name[len(parts[0]):]
	last := parts[len(parts)-1]
	for _, p := range parts[1 : len(parts)-1] {
		i := strings.Index(name, p)
		if i < 0 {
			return false
		}
		name = name[i+len(p):]
	}
	return strings.HasSuffix(name, last)
}

// Default blocks instructions, redacts secrets, numbers and links on the way out, flags numbers on the way in.
func Default() Policy {
	return Policy{
		Thresholds: Thresholds{User: Threshold{Block: 0.7, Flag: 0.4}, Document: Threshold{Block: 0.85, Flag: 0.7}, Tool: Threshold{Block: 0.85, Flag: 0.7}},
		Input: Actions{
			Injection: Block, Secret: Redact, PII: Flag, Contact: Allow, Indirect: Allow, Links: Allow, Canary: Block, Leakage: Flag,
			HTML: Allow, Code: Allow, SQL: Allow, Topics: Block,
		},
		Document: Actions{
			Injection: Block, Secret: Allow, PII: Allow, Contact: Allow, Indirect: Allow, Links: Allow, Canary: Allow, Leakage: Allow,
			HTML: Allow, Code: Allow, SQL: Allow, Topics: Flag,
		},
		Output: Actions{
			Injection: Allow, Secret: Redact, PII: Redact, Contact: Allow, Indirect: Allow, Links: Redact, Canary: Block, Leakage: Block,
			HTML: Redact, Code: Flag, SQL: Flag, Topics: Block,
		},
		PII:       PII{Packs: []string{"in", "eu", "us"}},
		Anonymise: Never, AllowHosts: []string{},
		Layers: []string{Rules, Compact},
	}
}

// Rank orders actions and verdicts: the highest wins. It is -1 for what is neither.
func Rank(action string) int { return slices.Index([]string{Allow, Flag, Redact, Block}, action) }

// Class is the field of Actions that a finding's kind belongs to, by its name in the document.
func Class(kind string) string {
	head, _, _ := strings.Cut(kind, ".")
	switch head {
	case "pii":
		if c := apart()[kind]; c != "" {
			return c
		}
		return "pii"
	case "link", "image", "links":
		return "links"
	case "leak", "leakage", "instructions":
		return "leakage"
	case "html", "script":
		return "html"
	case "topic", "topics", "boundary":
		return "topics"
	case "secret", "canary", "code", "sql":
		return head
	}
	return "injection"
}

// apart are kinds of personal data that have a class of their own.
func apart() map[string]string {
	return map[string]string{
		"pii.email": "contact", "pii.phone": "contact",
		"pii.url": "indirect", "pii.ip": "indirect", "pii.mac": "indirect", "pii.imei": "indirect", "pii.postcode": "indirect", "pii.coordinates": "indirect",
		"pii.ifsc": "indirect", "pii.routing": "indirect", "pii.ein": "indirect", "pii.npi": "indirect", "pii.vat": "indirect", "pii.gstin": "indirect", "pii.vehicle": "indirect",
	}
}

// For gives the action for a kind of finding: its own, that of the narrowest group that has one (pii.in.*), or that of its class.
// It is empty when the policy says nothing.
func (a Actions) For(kind string) string {
	if p := a.Kinds[kind]; p != "" {
		return p
	}
	for group := kind; ; {
		i := strings.LastIndexByte(group, '.')
		if i < 0 {
			break
		}
		group = group[:i]
		if p := a.Kinds[group+".*"]; p != "" {
			return p
		}
	}
	for _, c := range classes(&a) {
		if c.name == Class(kind) {
			return *c.value
		}
	}
	return ""
}

type class struct {
	name  string
	value *string
}

// classes lists the fields, by their names in the document, so that no rule about all of them forgets one.
func classes(a *Actions) []class {
	return []class{
		{"injection", &a.Injection},
		{"secret", &a.Secret},
		{"pii", &a.PII},
		{"contact", &a.Contact},
		{"indirect", &a.Indirect},
		{"links", &a.Links},
		{"canary", &a.Canary},
		{"leakage", &a.Leakage},
		{"html", &a.HTML},
		{"code", &a.Code},
		{"sql", &a.SQL},
		{"topics", &a.Topics},
	}
}

// Uses reports whether a layer looks for instructions.
func (p Policy) Uses(layer string) bool { return layer == Rules || slices.Contains(p.Layers, layer) }

// Host reports whether links and images may point to a host.
func (p Policy) Host(host string) bool {
	host = strings.ToLower(host)
	return slices.ContainsFunc(p.AllowHosts, func(h string) bool {
		below, wild := strings.CutPrefix(h, "*")
		return h == host || wild && strings.HasSuffix(host, below)
	})
}

// Over fills what p leaves out from a policy below it.
func (p Policy) Over(base Policy) Policy {
	out := p
	for _, t := range []struct{ mine, below *float64 }{
		{&out.Thresholds.User.Block, &base.Thresholds.User.Block},
		{&out.Thresholds.User.Flag, &base.Thresholds.User.Flag},
		{&out.Thresholds.Document.Block, &base.Thresholds.Document.Block},
		{&out.Thresholds.Document.Flag, &base.Thresholds.Document.Flag},
		{&out.Thresholds.Tool.Block, &base.Thresholds.Tool.Block},
		{&out.Thresholds.Tool.Flag, &base.Thresholds.Tool.Flag},
	} {
		if *t.mine == 0 {
			*t.mine = *t.below
		}
	}
	out.Input, out.Document, out.Output = p.Input.over(base.Input), p.Document.over(base.Document), p.Output.over(base.Output)
	if out.Anonymise == "" {
		out.Anonymise = base.Anonymise
	}
	for _, l := range []struct{ mine, below *[]string }{
		{&out.PII.Packs, &base.PII.Packs}, {&out.Layers, &base.Layers}, {&out.AllowHosts, &base.AllowHosts}, {&out.Schemas, &base.Schemas},
	} {
		if *l.mine == nil {
			*l.mine = *l.below
		}
	}
	out.PII.Names = p.PII.Names || base.PII.Names
	if out.Boundaries == nil {
		out.Boundaries = base.Boundaries
	}
	out.Tools.Always, out.Tools.AfterUntrusted = p.Tools.Always.over(base.Tools.Always), p.Tools.AfterUntrusted.over(base.Tools.AfterUntrusted)
	return out
}

func (a Actions) over(base Actions) Actions {
	below := classes(&base)
	for i, c := range classes(&a) {
		if *c.value == "" {
			*c.value = *below[i].value
		}
	}
	kinds := maps.Clone(base.Kinds)
	if kinds == nil && len(a.Kinds) > 0 {
		kinds = map[string]string{}
	}
	maps.Copy(kinds, a.Kinds)
	a.Kinds = kinds
	return a
}

// over takes rules as a whole: half of one set and half of another would mean what nobody wrote.
func (r ToolRules) over(base ToolRules) ToolRules {
	if r.Allow == nil && r.Ask == nil && r.Deny == nil {
		return base
	}
	return r
}
