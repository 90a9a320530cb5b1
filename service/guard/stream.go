package guard

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"aran/platform/fault"
	"aran/service/guard/detect"
	"aran/service/guard/outgoing"
	"aran/service/guard/policy"
)

// Part is a part of an answer that is checked by itself.
type Part int

// Parts. A Call is JSON for a program, which no page shows: signs that would begin a tag are written as JSON escapes.
const (
	Text Part = iota
	Reasoning
	Call
)

// Answer is what of a model's answer is to be judged.
type Answer struct {
	Text         string // what is not released yet
	Final        bool   // no more follows
	Before       string // the end of what was released: 4,096 bytes, or all that there is
	Canaries     []string
	Instructions []string // texts that the answer must not repeat
	Prompts      []string // texts of which it must not repeat the most
	Collections  []string
	Conversation string // whose pseudonyms are put back
	Part         Part
	Schema       string // JSON schema that the whole answer must meet; then nothing is released before it is whole
}

// Checked is what of an answer may be shown, and what is to be sent again with the next piece.
type Checked struct {
	Verdict  string
	Release  string
	Hold     string
	Findings []detect.Finding
	Policy   string
}

// CheckOutput judges the part of an answer that is not released yet. Unless it is final, the end where something could still
// begin is held back, so that nothing is released in two halves that would have been removed as a whole: cutting an answer into
// pieces in any way releases the same text in total. Of ordinary text at most outgoing.Window characters are held back.
// A schema that can't be used is a fault of kind Invalid. Decisions are recorded before it returns.
func (s *Service) CheckOutput(ctx context.Context, a Answer) (Checked, error) {
	book, err := s.rulebook(ctx, Job{Collections: a.Collections})
	if err != nil {
		return Checked{}, err
	}
	var schemas []string
	if a.Part == Text {
		schemas = book.policy.Schemas
	}
	if a.Schema != "" {
		schemas = append(slices.Clip(schemas), a.Schema)
	}
	if err := s.usable(schemas, a.Before); err != nil {
		return Checked{}, err
	}
	if len(schemas) > 0 && !a.Final {
		return Checked{Verdict: Allow, Hold: a.Text, Policy: book.name}, nil
	}
	back := restorer(nobody{})
	if a.Conversation != "" {
		if back, err = s.Pseudonyms(ctx, a.Conversation); err != nil {
			return Checked{}, err
		}
	}
	now := time.Now()
	open := func(book *rulebook) *reader {
		rules := s.answerRules(book, now)
		r := newReader(rules, s.answers.marks.Marks(a.Canaries), back, a.Before,
			told{instructions: s.answers.leaks.Instructions(a.Instructions), limits: rules.leak},
			told{instructions: s.answers.leaks.Instructions(a.Prompts), limits: outgoing.Limits{Words: math.MaxInt32, Share: rules.leak.Share}}) // facts out of them may be told
		r.json = len(schemas) > 0 || a.Part == Call
		return r
	}
	r := open(book)
	done := r.read(a.Text, a.Final)
	if err := r.meets(a.Text, schemas, book.policy); err != nil {
		return Checked{}, err
	}
	out := Checked{Verdict: r.verdict, Release: r.released.String(), Hold: a.Text[done:], Findings: r.findings, Policy: book.name}
	if r.verdict == Block {
		out.Release, out.Hold = "", ""
	}
	if done == 0 && r.verdict == Allow {
		return out, nil // nothing was judged
	}
	res := r.result(book)
	res.collections = a.Collections
	if book.trial != nil {
		t := open(book.trial)
		t.read(a.Text[:done], true)
		res.trial, res.trialPolicy = t.verdict, book.trial.name
	}
	return out, s.record(ctx, []string{a.Text[:done]}, detect.Output, []Result{res})
}

// leaves judges a whole text on its way out, under a rulebook and under the one on trial.
func (s *Service) leaves(text string, book *rulebook, now time.Time) Result {
	read := func(book *rulebook) Result {
		r := newReader(s.answerRules(book, now), s.answers.marks.Marks(nil), nobody{}, "")
		r.read(text, true)
		res := r.result(book)
		if res.Verdict == Redact {
			res.Redacted = r.released.String()
		}
		// An allow-list may spare a text as a whole.
		if all := s.decide(text, observation{origin: detect.Output, findings: r.findings}, book, now); rank(all.Verdict) < rank(res.Verdict) {
			return all
		}
		return res
	}
	out := read(book)
	if t := book.trial; t != nil {
		out.trial, out.trialPolicy = read(t).Verdict, t.name
	}
	return out
}

// result is what became of what was read.
func (r *reader) result(book *rulebook) Result {
	w := r.ruling
	if w.why == "" {
		w = rule(book.policy, policy.Policy{}, observation{origin: detect.Output}, nil)
	}
	return Result{
		Verdict: r.verdict, Score: r.score, Findings: r.findings, Policy: book.name,
		Why: fmt.Sprintf("%s (policy %s)", w.why, book.by(w, detect.Output)),
	}
}

// usable says which schema can't be used, and that one needs the whole answer.
func (s *Service) usable(schemas []string, before string) error {
	if len(schemas) > 0 && before != "" {
		return fault.New(fault.Invalid, "invalid_schema", "A schema is checked on the whole answer, and a part of it was released before.")
	}
	for _, text := range schemas {
		sum := sha256.Sum256([]byte(text))
		key := string(sum[:])
		why, known := s.answers.schemas.Get(key)
		if !known {
			if _, err := outgoing.NewSchema(text); err != nil {
				why = err.Error()
			}
			s.answers.schemas.Put(key, why)
		}
		if why != "" {
			f := fault.New(fault.Invalid, "invalid_schema", "%s", strings.ToUpper(why[:1])+why[1:]+".")
			f.Fields = []fault.Field{{Path: "schema", Message: why}}
			return f
		}
	}
	return nil
}

// meets checks a whole answer: as the model gave it, and as it is released. What does not meet its schema can't be mended by
// taking something out: it is blocked, unless policy says allow or flag about the kind schema.
func (r *reader) meets(text string, schemas []string, p policy.Policy) error {
	if r.verdict == Block {
		return nil
	}
	act := cmp.Or(p.Output.Kinds["schema"], Block)
	if act == Redact {
		act = Block
	}
	for _, schema := range schemas {
		compiled, err := outgoing.NewSchema(schema)
		if err != nil {
			return err // it was usable before
		}
		found := compiled.Check(text)
		if len(found) == 0 && r.changed && len(compiled.Check(r.released.String())) > 0 {
			found = []detect.Finding{{Kind: "schema", Rule: "schema.redacted", Score: 1, End: len(text), Why: "Without what policy removes, the answer does not meet its schema."}}
		}
		if len(found) > 0 && rank(act) > rank(r.verdict) {
			r.verdict, r.score = act, 1
			r.ruling = ruling{verdict: act, score: 1, why: "the answer does not meet its schema", decided: &found[0]}
		}
		r.findings = append(r.findings, found...)
	}
	return nil
}

// answerRules are what a rulebook says about answers.
func (s *Service) answerRules(book *rulebook, now time.Time) answerRules {
	return answerRules{
		hosts: book.hosts(now), boundaries: book.limits(policy.OnOutput), leak: outgoing.Limits{Words: s.cfg.LeakWords, Share: s.cfg.LeakShare},
		private: func(text string) []detect.Finding {
			found := s.private(text, book.policy)
			if book.policy.Output.Kinds["pii.url"] == "" {
				found = withoutLinks(found)
			}
			return found
		},
		weigh: func(segment string, found []detect.Finding) ruling {
			return s.weigh(segment, observation{origin: detect.Output, findings: found}, book, now)
		},
	}
}

// withoutLinks leaves links to the check of addresses, which keeps them readable, unless policy speaks of them as personal data.
func withoutLinks(found []detect.Finding) []detect.Finding {
	return slices.DeleteFunc(found, func(f detect.Finding) bool { return f.Kind == "pii.url" })
}
