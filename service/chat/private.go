package chat

import (
	"context"
	"encoding/json"
	"slices"
	"unicode/utf8"

	guardv1 "aran/api/gen/aran/guard/v1"
	"aran/platform/fault"
	"aran/platform/llm"
)

// private is a question as models outside may see it: the guard put pseudonyms in place of personal data, if its policy says so.
type private struct {
	request llm.Request
	sources []source
	changed bool // there are pseudonyms in it
}

// scope is the conversation in which pseudonyms stay the same, and in which it counts what was read: the client's, or only this
// request.
func (q *Question) scope() string {
	if q.Conversation != "" {
		return q.Conversation
	}
	return clip(q.RequestID, maxConversation)
}

// tainted is the conversation whose reading is on record: one that goes on, or one in which a model may call tools.
func (q *Question) tainted() string {
	if q.Conversation != "" || len(q.Request.Tools) > 0 {
		return q.scope()
	}
	return ""
}

// hide has personal data replaced in everything that a provider would be given, once for a question. The question itself, its
// digest, what is quoted and what is cited stay as they are.
func (s *Service) hide(ctx context.Context, c *call) (*private, error) {
	if c.private != nil {
		return c.private, nil
	}
	p := &private{request: c.question.Request.Clone(), sources: slices.Clone(c.sources)}
	var texts []*string
	add := func(t *string) {
		if *t != "" {
			texts = append(texts, t)
		}
	}
	var walk func(ps []llm.Part)
	walk = func(ps []llm.Part) {
		for i := range ps {
			if k := ps[i].Kind; k == llm.Text || k == llm.Call {
				add(&ps[i].Text)
			}
			walk(ps[i].Parts)
		}
	}
	walk(p.request.System)
	for i := range p.request.Messages {
		walk(p.request.Messages[i].Parts)
	}
	for i := range p.sources {
		add(&p.sources[i].title)
		add(&p.sources[i].text)
	}
	for batch := range slices.Chunk(texts, maxScanTexts) {
		changed, err := s.anonymize(ctx, c, batch)
		if err != nil {
			return nil, err
		}
		p.changed = p.changed || changed
	}
	c.private = p
	return p, nil
}

func (s *Service) anonymize(ctx context.Context, c *call, texts []*string) (changed bool, err error) {
	inner, cancel := context.WithTimeout(ctx, s.cfg.GuardTimeout)
	defer cancel()
	req := &guardv1.AnonymizeRequest{Conversation: c.question.scope(), Collections: c.question.Collections}
	for _, t := range texts {
		if utf8.RuneCountInString(*t) > maxScanRunes {
			return false, fault.New(fault.TooLarge, "text_too_large", "One text has more than %d characters.", maxScanRunes)
		}
		req.Texts = append(req.Texts, *t)
	}
	res, err := s.d.Guard.Anonymize(inner, req)
	if fault.KindOf(err) == fault.Unsupported {
		return false, nil // a guard of before: it has no policy about it either
	}
	if err != nil {
		return false, err
	}
	if len(res.GetResults()) != len(texts) {
		return false, fault.New(fault.Unavailable, "guard_answer", "The guard answered for %d of %d texts.", len(res.GetResults()), len(texts))
	}
	for i, r := range res.GetResults() {
		if json.Valid([]byte(*texts[i])) && !json.Valid([]byte(r.GetText())) {
			return false, fault.New(fault.Unavailable, "guard_answer", "The guard's pseudonyms are no JSON any more.")
		}
		changed = changed || r.GetText() != *texts[i]
		*texts[i] = r.GetText()
	}
	return changed, nil
}
