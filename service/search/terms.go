package search

import (
	"context"
	"log/slog"
	"slices"

	"aran/service/search/chunk"
	"aran/service/search/words"
)

// language is what a text of a collection is in.
func (c Collection) language(text string) string {
	if c.Language != AnyLanguage && c.Language != "" {
		return c.Language
	}
	return words.Detect(text)
}

// termsOf makes the terms of consecutive passages. Title and headings count as words of each passage.
func termsOf(c Collection, language, title, text string, first int, ps []chunk.Passage) (words.Forward, storedTerms) {
	counts := make([]map[string]int, len(ps))
	for i, p := range ps {
		counts[i] = map[string]int{}
		count := func(term string) { counts[i][term]++ }
		words.Each(language, title, count)
		for _, h := range p.Headings {
			words.Each(language, h, count)
		}
		words.Each(language, text[p.Start:p.End], count)
	}
	f := words.NewForward(func(term string) int64 { return words.ID(c.key(), term) }, counts)
	return f, storedTerms{part: first, passages: len(ps), format: words.Format(language), packed: f.Pack()}
}

// makeTerms makes the terms of an edition that are not stored: it was indexed by a version of this program that stored
// none, or by other rules. They are stored then. Headings are found again by cutting the text: where that gives other
// passages than it did, those passages do without.
func (s *Service) makeTerms(ctx context.Context, collection, edition int64) ([]storedTerms, error) {
	c, gone, err := s.db.cutText(ctx, collection, edition)
	if err != nil || gone {
		return nil, err
	}
	headings := map[passage][]string{}
	for _, p := range s.passages(c.title, c.contentType, c.text) {
		headings[passage{start: p.Start, end: p.End}] = p.Headings
	}
	language := c.collection.language(c.text)
	var out []storedTerms
	for _, part := range c.parts {
		if part.part+part.passages > len(c.passages) {
			return nil, nil // it is being deleted
		}
		var ps []chunk.Passage
		for _, p := range c.passages[part.part : part.part+part.passages] {
			ps = append(ps, chunk.Passage{Start: p.start, End: p.end, Headings: headings[p]})
		}
		_, t := termsOf(c.collection, language, c.title, c.text, part.part, ps)
		out = append(out, t)
	}
	slices.SortFunc(out, byPart)
	return out, s.db.fillTerms(ctx, edition, out)
}

const wordAtOnce = 100 // editions in one look

// keepTerms makes the terms of all editions that have none, once, so that the first search need not.
func (s *Service) keepTerms(ctx context.Context) {
	n := 0
	for after := int64(0); ctx.Err() == nil; {
		list, err := s.db.unworded(ctx, after, wordAtOnce)
		for _, x := range list {
			if err != nil {
				break
			}
			after = x[1]
			n++
			_, err = s.makeTerms(ctx, x[0], x[1])
		}
		if err != nil && ctx.Err() == nil {
			s.log.LogAttrs(ctx, slog.LevelWarn, "terms not made ahead; searches make them", slog.String("error", err.Error()))
			return
		}
		if len(list) == 0 {
			break
		}
	}
	if n > 0 {
		s.log.LogAttrs(ctx, slog.LevelInfo, "terms of documents made anew", slog.Int("documents", n))
	}
}
