package guard

import (
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"aran/service/guard/detect"
	"aran/service/guard/outgoing"
	"aran/service/guard/pii"
)

// Rehearsal is an answer that is judged without a service: nothing is recorded.
type Rehearsal struct {
	Canaries     []string
	Instructions []string
	Hosts        []string
	Boundaries   []outgoing.Boundary
	Given        map[string]string // values that the user gave, by their pseudonyms
	Action       map[string]string // for kinds; others are redacted
}

// Outcome is what became of it.
type Outcome struct {
	Released string
	Verdict  string
	Held     int // the most characters that were held back behind a piece
	Findings []detect.Finding
}

// Answer judges an answer as a caller does who gets it in pieces.
func (t Rehearsal) Answer(pieces ...string) Outcome {
	boundaries, err := outgoing.Compile(t.Boundaries)
	if err != nil {
		panic(err)
	}
	rules := answerRules{
		hosts: t.Hosts, boundaries: boundaries, private: func(text string) []detect.Finding { return withoutLinks(pii.Find(text)) }, leak: outgoing.Limits{Words: 24, Share: 0.6},
		weigh: func(_ string, found []detect.Finding) ruling {
			out := ruling{verdict: Allow}
			for _, f := range found {
				act := Redact
				if a := t.Action[f.Kind]; a != "" {
					act = a
				}
				if rank(act) > rank(out.verdict) {
					out.verdict = act
				}
				if act == Redact {
					out.cut = append(out.cut, f)
				}
			}
			return out
		},
	}
	marks, instructions := outgoing.NewMarks(t.Canaries), (*outgoing.Instructions)(nil)
	if len(t.Instructions) > 0 {
		instructions = outgoing.NewInstructions(t.Instructions)
	}
	back := restorer(nobody{})
	if len(t.Given) > 0 {
		back = given(t.Given)
	}
	out := Outcome{Verdict: Allow}
	hold := ""
	for i, p := range pieces {
		before := out.Released
		if len(before) > 4096 {
			before = before[len(before)-4096:]
			for !utf8.RuneStart(before[0]) {
				before = before[1:]
			}
		}
		r := newReader(rules, marks, back, before, told{instructions: instructions, limits: rules.leak})
		text := hold + p
		done := r.read(text, i == len(pieces)-1)
		if rank(r.verdict) > rank(out.Verdict) {
			out.Verdict = r.verdict
		}
		out.Findings = append(out.Findings, r.findings...)
		if r.verdict == Block {
			return out
		}
		out.Released += r.released.String()
		hold = text[done:]
		out.Held = max(out.Held, utf8.RuneCountInString(hold))
	}
	return out
}

// given is a restorer that spells pseudonyms in one way only.
type given map[string]string

func (g given) Restore(text string, final bool) (release, hold string) {
	var pairs []string
	cut := len(text)
	for _, p := range slices.Sorted(maps.Keys(g)) {
		pairs = append(pairs, p, g[p])
		for n := 1; n < len(p) && !final; n++ {
			if strings.HasSuffix(text, p[:n]) {
				cut = min(cut, len(text)-n)
			}
		}
	}
	return strings.NewReplacer(pairs...).Replace(text[:cut]), text[cut:]
}

func (g given) Pseudonym(s string) bool { return g[s] != "" }

func (g given) Known(value string) bool {
	return slices.Contains(slices.Collect(maps.Values(g)), value)
}
