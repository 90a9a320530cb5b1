package guard

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"aran/service/guard/detect"
	"aran/service/guard/policy"
)

// ruling is what a policy makes of an observation.
type ruling struct {
	verdict string
	score   float64
	why     string           // without the policy's name
	decided *detect.Finding  // nil: the score of the whole
	bar     float64          // threshold that decided; 0: a finding did
	cut     []detect.Finding // to be taken out of the text
}

// rule applies a policy to an observation. spared are findings that an allow-list names: of them only what the floor says about
// secrets, marks and instructions counts, and about what crosses a boundary of its own.
func rule(p, floor policy.Policy, o observation, spared func(detect.Finding) bool) ruling {
	actions, least := sideOf(p, o.origin), sideOf(floor, o.origin)
	r := ruling{verdict: Allow, score: o.score}
	t := thresholdOf(p, o.origin)
	if o.origin != detect.Output {
		act := cmp.Or(actions.Injection, Allow)
		switch {
		case t.Block > 0 && o.score >= t.Block:
			r.verdict, r.bar = act, t.Block
		case t.Flag > 0 && o.score >= t.Flag && rank(act) >= rank(Flag):
			r.verdict, r.bar = Flag, t.Flag
		}
	}
	for i, f := range o.findings {
		if policy.Class(f.Kind) == "injection" {
			continue // the score speaks for all of them
		}
		act := actionFor(p, o.origin, f)
		if spared != nil && spared(f) {
			full := act
			act = Allow
			switch {
			case f.Kind == "topic" && len(boundariesOf(floor, o.origin, f.Rule)) > 0:
				act = cmp.Or(actionFor(floor, o.origin, f), full)
			case slices.Contains([]string{"secret", "canary", "leakage"}, policy.Class(f.Kind)):
				act = least.For(f.Kind)
			}
		}
		if rank(act) <= rank(Allow) {
			continue
		}
		r.score = max(r.score, f.Score)
		if rank(act) > rank(r.verdict) {
			r.verdict, r.bar, r.decided = act, 0, &o.findings[i]
		}
		if act == Redact {
			r.cut = append(r.cut, f)
		}
	}
	r.why = r.reason(o, t)
	return r
}

func (r ruling) reason(o observation, t policy.Threshold) string {
	did := map[string]string{Allow: "allowed", Flag: "flagged", Redact: "redacted", Block: "blocked"}[r.verdict]
	switch {
	case r.decided != nil:
		return fmt.Sprintf("%s: %s found by rule %s", did, r.decided.Kind, r.decided.Rule)
	case r.bar > 0:
		s := fmt.Sprintf("%s: score %.2f ≥ %.2f", did, o.score, r.bar)
		f := strongest(o.findings)
		if f != nil && speaker(*f) == "rule "+f.Rule { // of rules, one that is shown
			f = strongest(listed(o.findings))
		}
		if f != nil {
			s += ", most by " + speaker(*f)
		}
		return s
	case o.origin == detect.Output:
		return did + ": nothing found that the policy acts on"
	}
	return fmt.Sprintf("%s: score %.2f < %.2f, and nothing else found that the policy acts on", did, o.score, cmp.Or(min(t.Flag, t.Block), t.Block))
}

// strongest is the finding of an attack with the highest score.
func strongest(all []detect.Finding) (best *detect.Finding) {
	for i, f := range all {
		if policy.Class(f.Kind) == "injection" && (best == nil || f.Score > best.Score) {
			best = &all[i]
		}
	}
	return best
}

// speaker names who made a finding of an attack.
func speaker(f detect.Finding) string {
	switch f.Rule {
	case policy.Compact, policy.Embeddings:
		return "the classifier"
	case policy.Judge:
		return "the judge"
	}
	return "rule " + f.Rule
}

func sideOf(p policy.Policy, o detect.Origin) policy.Actions {
	switch o {
	case detect.Output:
		return p.Output
	case detect.Document, detect.Tool:
		return p.Document
	case detect.User:
	}
	return p.Input
}

func thresholdOf(p policy.Policy, o detect.Origin) policy.Threshold {
	switch o {
	case detect.Document:
		return p.Thresholds.Document
	case detect.Tool:
		return p.Thresholds.Tool
	case detect.User, detect.Output:
	}
	return p.Thresholds.User
}

// decide makes the verdict on a text of what was found in it: by policy, then by what the allow-list spares.
func (s *Service) decide(text string, o observation, book *rulebook, now time.Time) Result {
	verdict := s.weigh(text, o, book, now)
	r := Result{
		Verdict: verdict.verdict, Score: verdict.score, Layers: o.layers, Findings: o.findings, Policy: book.name,
		Why:    fmt.Sprintf("%s (policy %s)", verdict.why, book.by(verdict, o.origin)),
		attack: o.score,
	}
	if r.Verdict == Redact {
		r.Redacted = redact(text, verdict.cut)
	}
	return r
}

// weigh applies the policy and the allow-list.
func (s *Service) weigh(text string, o observation, book *rulebook, now time.Time) ruling {
	floor := s.cfg.Floor
	verdict := rule(book.policy, floor, o, nil)
	if verdict.verdict != Allow {
		if e := s.exempt(text, o, book, now); e.any() {
			milder := o
			milder.score = e.score
			if again := rule(book.policy, floor, milder, e.spared); rank(again.verdict) < rank(verdict.verdict) {
				verdict = again
				verdict.why += fmt.Sprintf("; without what allow-list entry %s spares it would be more", strings.Join(e.entries, ", "))
			}
		}
	}
	return verdict
}

// actionFor is what a policy says about a finding. A boundary may name an action of its own; of several boundaries with one name,
// which policies that hold together may have, the strictest says it.
func actionFor(p policy.Policy, o detect.Origin, f detect.Finding) string {
	all := sideOf(p, o).For(f.Kind)
	if f.Kind != "topic" {
		return all
	}
	list := boundariesOf(p, o, f.Rule)
	if len(list) == 0 {
		return all
	}
	act := cmp.Or(list[0].Action, all)
	for _, b := range list[1:] {
		if x := cmp.Or(b.Action, all); rank(x) > rank(act) {
			act = x
		}
	}
	return act
}

// boundariesOf are the boundaries of a name that look at texts of an origin.
func boundariesOf(p policy.Policy, o detect.Origin, name string) (out []policy.Boundary) {
	side := policy.OnInput
	if o == detect.Output {
		side = policy.OnOutput
	}
	for _, b := range p.Boundaries {
		if b.Name == name && b.Holds(side) {
			out = append(out, b)
		}
	}
	return out
}

// redact takes findings out of a text, and says what was there.
func redact(text string, cut []detect.Finding) string {
	var b strings.Builder
	last := 0
	for _, f := range detect.Apart(slices.Clone(cut)) {
		b.WriteString(text[last:f.Start])
		b.WriteString("[removed: " + strings.TrimPrefix(f.Kind, "pii.") + "]")
		last = f.End
	}
	b.WriteString(text[last:])
	return b.String()
}

// explain gives a finding that says nothing of its own a sentence.
func explain(f detect.Finding) string {
	if f.Why != "" {
		return f.Why
	}
	switch policy.Class(f.Kind) {
	case "injection":
		return fmt.Sprintf("Rule %s: it reads like an instruction to the model.", f.Rule)
	case "secret":
		return fmt.Sprintf("It has the form of a secret (%s).", f.Rule)
	case "pii", "contact", "indirect":
		return fmt.Sprintf("It has the form of personal data (%s).", f.Rule)
	case "links":
		return fmt.Sprintf("Shown, it could carry data to another host (%s).", f.Rule)
	case "canary":
		return "It is a mark that stands only in the instructions."
	}
	return fmt.Sprintf("Rule %s found %s.", f.Rule, f.Kind)
}
