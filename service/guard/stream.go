package guard

import (
	"context"
	"crypto/sha256"
	"strings"

	"aran/platform/fault"
	"aran/service/guard/detect"
	"aran/service/guard/outgoing"
)

// Answer is what of a model's answer is to be judged.
type Answer struct {
	Text         string // what is not released yet
	Final        bool   // no more follows
	Before       string // the end of what was released: 4,096 bytes, or all that there is
	Canaries     []string
	Instructions []string // texts that the answer must not repeat
	Collections  []string
	Conversation string // whose pseudonyms are put back
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
	rules, err := s.answerRules(ctx, a.Collections)
	if err != nil {
		return Checked{}, err
	}
	back, err := s.restorer(ctx, a.Conversation)
	if err != nil {
		return Checked{}, err
	}
	schemas := rules.schemas
	if a.Schema != "" {
		schemas = append(schemas[:len(schemas):len(schemas)], a.Schema)
	}
	if err := s.usable(schemas, a.Before); err != nil {
		return Checked{}, err
	}
	if len(schemas) > 0 && !a.Final {
		return Checked{Verdict: Allow, Hold: a.Text, Policy: rules.name}, nil
	}
	r := newReader(rules, s.answers.marks.Marks(a.Canaries), s.answers.leaks.Instructions(a.Instructions), back, a.Before)
	r.json = len(schemas) > 0
	done := r.read(a.Text, a.Final)
	if r.verdict != Block {
		if err := r.meets(a.Text, schemas); err != nil {
			return Checked{}, err
		}
	}
	out := Checked{Verdict: r.verdict, Release: r.released.String(), Hold: a.Text[done:], Findings: r.findings, Policy: rules.name}
	if r.verdict == Block {
		out.Release, out.Hold = "", ""
	}
	if done == 0 && r.verdict == Allow {
		return out, nil // nothing was judged
	}
	return out, s.record(ctx, []string{a.Text[:done]}, detect.Output, []Result{{Verdict: r.verdict, Score: r.score, Findings: r.findings}})
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

// meets checks a whole answer: as the model gave it, and as it is released.
func (r *reader) meets(text string, schemas []string) error {
	for _, schema := range schemas {
		compiled, err := outgoing.NewSchema(schema)
		if err != nil {
			return err // it was usable before
		}
		found := compiled.Check(text)
		if len(found) == 0 && r.changed && len(compiled.Check(r.released.String())) > 0 {
			found = []detect.Finding{{Kind: "schema", Rule: "schema.redacted", Score: 1, End: len(text), Why: "Without what policy removes, the answer does not meet its schema."}}
		}
		for _, f := range found {
			if act := r.rules.action(f); rank(act) >= rank(Redact) { // there is nothing to take out
				r.verdict, r.score = Block, 1
			} else if rank(act) > rank(r.verdict) {
				r.verdict = act
			}
		}
		r.findings = append(r.findings, found...)
	}
	return nil
}

// restorer is of the conversation whose pseudonyms are put back.
func (*Service) restorer(context.Context, string) (restorer, error) { return nobody{}, nil }

// answerRules are those of the operator.
func (s *Service) answerRules(context.Context, []string) (answerRules, error) {
	return answerRules{
		name:    "default@0",
		hosts:   s.cfg.AllowHosts,
		private: privateData,
		leak:    outgoing.Limits{Words: 24, Share: 0.6},
		action: func(f detect.Finding) string {
			switch kind := f.Kind; {
			case kind == "canary" || kind == "leakage" || kind == "schema" || kind == "topic":
				return Block
			case kind == "html":
				return Redact
			case kind == "sql" || strings.HasPrefix(kind, "code"):
				return Flag
			default:
				return byClass(kind, s.cfg.OutputSecrets, s.cfg.OutputNumbers, s.cfg.OutputContacts, s.cfg.OutputLinks)
			}
		},
	}, nil
}
