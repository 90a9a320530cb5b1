package policy

import (
	"maps"
	"math"
	"slices"
)

// Strictest combines two policies that hold together: the result is never looser than either. What one of them leaves out is
// up to the other.
func Strictest(a, b Policy) Policy {
	return Policy{
		Thresholds: Thresholds{
			User:     strictestThreshold(a.Thresholds.User, b.Thresholds.User),
			Document: strictestThreshold(a.Thresholds.Document, b.Thresholds.Document),
			Tool:     strictestThreshold(a.Thresholds.Tool, b.Thresholds.Tool),
		},
		Input: strictestActions(a.Input, b.Input), Document: strictestActions(a.Document, b.Document), Output: strictestActions(a.Output, b.Output),
		PII:        PII{Packs: union(a.PII.Packs, b.PII.Packs), Names: a.PII.Names || b.PII.Names},
		Anonymise:  higher([]string{"", Never, Providers, Always}, a.Anonymise, b.Anonymise),
		Layers:     union(a.Layers, b.Layers),
		AllowHosts: both(a.AllowHosts, b.AllowHosts),
		Boundaries: boundaries(a.Boundaries, b.Boundaries),
		Tools:      Tools{Always: strictestTools(a.Tools.Always, b.Tools.Always), AfterUntrusted: strictestTools(a.Tools.AfterUntrusted, b.Tools.AfterUntrusted)},
		Schemas:    union(a.Schemas, b.Schemas),
	}
}

// Looser names the fields in which p would allow what the floor does not: a policy that a tenant may not set.
// Fields that p leaves out are not looser, for they come from below and are held to the floor there.
func Looser(p, floor Policy) []string {
	var out []string
	note := func(field string, loose bool) {
		if loose {
			out = append(out, field)
		}
	}
	s := Strictest(p, floor)
	for _, t := range []struct {
		name       string
		mine, held Threshold
	}{{"user", p.Thresholds.User, s.Thresholds.User}, {"document", p.Thresholds.Document, s.Thresholds.Document}, {"tool", p.Thresholds.Tool, s.Thresholds.Tool}} {
		note("thresholds."+t.name+".block", t.mine.Block > t.held.Block)
		note("thresholds."+t.name+".flag", t.mine.Flag > t.held.Flag)
	}
	for _, side := range []struct {
		name       string
		mine, held Actions
	}{{"input", p.Input, s.Input}, {"document", p.Document, s.Document}, {"output", p.Output, s.Output}} {
		strict := classes(&side.held)
		for i, c := range classes(&side.mine) {
			note(side.name+"."+c.name, *c.value != "" && *c.value != *strict[i].value)
		}
		for _, k := range slices.Sorted(maps.Keys(side.mine.Kinds)) {
			note(side.name+".kinds."+k, side.mine.Kinds[k] != side.held.Kinds[k])
		}
	}
	note("anonymise", p.Anonymise != "" && p.Anonymise != s.Anonymise)
	for _, l := range []struct {
		name         string
		mine, strict []string
	}{{"pii.packs", p.PII.Packs, s.PII.Packs}, {"layers", p.Layers, s.Layers}} {
		note(l.name, l.mine != nil && len(l.mine) < len(l.strict))
	}
	note("allow_hosts", len(p.AllowHosts) > len(s.AllowHosts))
	for _, t := range []struct {
		name        string
		mine, floor ToolRules
	}{{"always", p.Tools.Always, floor.Tools.Always}, {"after_untrusted", p.Tools.AfterUntrusted, floor.Tools.AfterUntrusted}} {
		merged := strictestTools(t.mine, t.floor)
		lost := func(in ...[]string) func(string) bool {
			return func(name string) bool { return !slices.Contains(slices.Concat(in...), name) }
		}
		note("tools."+t.name+".allow", slices.ContainsFunc(t.mine.Allow, lost(merged.Allow)))
		note("tools."+t.name+".ask", slices.ContainsFunc(t.mine.Ask, lost(merged.Allow, merged.Ask)))
	}
	return out
}

func strictestThreshold(a, b Threshold) Threshold {
	return Threshold{Block: lower(a.Block, b.Block), Flag: lower(a.Flag, b.Flag)}
}

// lower is the smaller of two probabilities, of which 0 means that nothing is said.
func lower(a, b float64) float64 {
	if a == 0 || b == 0 {
		return math.Max(a, b)
	}
	return math.Min(a, b)
}

func higher(order []string, a, b string) string {
	return order[max(slices.Index(order, a), slices.Index(order, b), 0)]
}

func strictestActions(a, b Actions) Actions {
	order := []string{"", Allow, Flag, Redact, Block}
	out := a
	theirs := classes(&b)
	for i, c := range classes(&out) {
		*c.value = higher(order, *c.value, *theirs[i].value)
	}
	// A kind that one of them names falls under the other's group or class.
	out.Kinds = nil
	for _, kinds := range []map[string]string{a.Kinds, b.Kinds} {
		for k := range kinds {
			if out.Kinds == nil {
				out.Kinds = map[string]string{}
			}
			out.Kinds[k] = higher(order, a.For(k), b.For(k))
			if k == "pii.*" { // it covers several classes
				for x := range apart() {
					out.Kinds[x] = higher(order, a.For(x), b.For(x))
				}
			}
		}
	}
	return out
}

// union keeps nil when neither says anything.
func union(a, b []string) []string {
	var out []string
	for _, x := range slices.Concat(a, b) {
		if !slices.Contains(out, x) {
			out = append(out, x)
		}
	}
	return out
}

// both is what two lists of patterns allow, of which nil allows everything. A pattern stays when the other list has one that
// covers it: overlaps that neither covers are dropped, which is the stricter way.
func both(a, b []string) []string {
	if a == nil {
		return b
	}
	if b == nil {
		return a
	}
	covered := func(by []string) func(string) bool {
		return func(p string) bool {
			return slices.ContainsFunc(by, func(q string) bool { return Matches(q, p) })
		}
	}
	out := []string{}
	for _, side := range []struct{ of, by []string }{{a, b}, {b, a}} {
		for _, p := range side.of {
			if covered(side.by)(p) && !slices.Contains(out, p) {
				out = append(out, p)
			}
		}
	}
	return out
}

func boundaries(a, b []Boundary) []Boundary {
	out := slices.Clone(a)
	for _, x := range b {
		same := func(y Boundary) bool {
			return x.Name == y.Name && x.On == y.On && x.Action == y.Action && x.Description == y.Description &&
				slices.Equal(x.Phrases, y.Phrases) && slices.Equal(x.Patterns, y.Patterns)
		}
		if !slices.ContainsFunc(out, same) {
			out = append(out, x)
		}
	}
	return out
}

func strictestTools(a, b ToolRules) ToolRules {
	out := ToolRules{Deny: union(a.Deny, b.Deny)}
	open := func(r ToolRules) bool { return r.Allow == nil && r.Ask == nil }
	switch {
	case open(a):
		out.Allow, out.Ask = b.Allow, b.Ask
	case open(b):
		out.Allow, out.Ask = a.Allow, a.Ask
	default:
		// What both allow freely, and what both allow at least after asking.
		out.Allow = both(some(a.Allow), some(b.Allow))
		asked := both(some(slices.Concat(a.Allow, a.Ask)), some(slices.Concat(b.Allow, b.Ask)))
		out.Ask = slices.DeleteFunc(slices.Clone(asked), func(name string) bool { return slices.Contains(out.Allow, name) })
	}
	return out
}

// some is an empty list instead of none: once a set of rules is not open, a list that is missing names nothing.
func some(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}
