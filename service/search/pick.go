package search

import (
	"cmp"
	"context"
	"log/slog"
	"slices"

	inferv1 "aran/api/gen/aran/infer/v1"
	"aran/platform/fault"
	"aran/service/search/words"
)

// sight is what a collection tells about a query: the languages of its texts, and the weight of each term.
type sight struct {
	languages []string
	weights   map[string]float64
}

// Reranker orders passages by how well they answer a query: a score for each, the higher the better.
type Reranker func(ctx context.Context, query string, passages []string) ([]float64, error)

// pick loads the best passages until there are as many hits as wanted, has them reranked, and leaves out what a better
// one says already.
func (s *Service) pick(ctx context.Context, scopes []scope, sights []sight, q Query, best []ranked, res Result) (Result, error) {
	rerank := q.Rerank != nil && *q.Rerank || q.Rerank == nil && s.cfg.Rerank
	var kept []sketch
	for len(best) > 0 && len(res.Hits) < q.Limit {
		n := q.Limit - len(res.Hits)
		if q.Distinct {
			n += q.Limit
		}
		if rerank {
			n = max(n, s.cfg.RerankDepth)
		}
		n = min(n, len(best))
		hits, err := s.load(ctx, scopes, best[:n])
		if err != nil {
			return Result{}, err
		}
		best = best[n:]
		if rerank {
			res.Reranked = s.rerank(ctx, q.Text, hits)
			rerank = false
		}
		for _, h := range hits {
			if len(res.Hits) == q.Limit {
				break
			}
			if n := len(res.Hits); res.Reranked && n > 0 {
				h.Score = min(h.Score, res.Hits[n-1].Score) // of a later batch
			}
			if q.Distinct {
				k := sketchOf(h.Text)
				if slices.ContainsFunc(kept, k.alike) {
					continue
				}
				kept = append(kept, k)
			}
			res.Hits = append(res.Hits, h.Hit)
			h.mark(&res.Hits[len(res.Hits)-1], sights, q.Text)
		}
	}
	return res, nil
}

// loaded is a hit and the scope that it was found in.
type loaded struct {
	Hit
	collection int
}

// load fetches the passages. What was deleted or closed to the viewer meanwhile is left out.
func (s *Service) load(ctx context.Context, scopes []scope, list []ranked) ([]loaded, error) {
	ids := make([][]passageID, len(scopes))
	for _, r := range list {
		ids[r.collection] = append(ids[r.collection], r.id)
	}
	found := make([]map[passageID]Hit, len(scopes))
	for i := range scopes {
		var err error
		if found[i], err = s.db.passages(ctx, scopes[i], ids[i]); err != nil {
			return nil, err
		}
	}
	out := make([]loaded, 0, len(list))
	for _, r := range list {
		if h, ok := found[r.collection][r.id]; ok {
			h.Score = r.score
			out = append(out, loaded{h, r.collection})
		}
	}
	return out, nil
}

// mark says where the hit answers. Without a ranking by words each term of the query weighs the same.
func (l loaded) mark(h *Hit, sights []sight, query string) {
	see := sight{languages: []string{words.Detect(h.Text)}, weights: map[string]float64{}}
	if len(sights) > 0 {
		see = sights[l.collection]
	} else {
		for _, t := range words.Query(query, maxTerms, see.languages...) {
			see.weights[t] = 1
		}
	}
	m := mark(h.Text, see.languages, see.weights)
	h.Highlights, h.Sentence = m.highlights, Span{h.Start + m.sentence.Start, h.Start + m.sentence.End}
}

// askReranker is a Reranker that asks infer for its default head.
func (s *Service) askReranker(ctx context.Context, query string, passages []string) ([]float64, error) {
	r, err := s.infer.Rerank(ctx, &inferv1.RerankRequest{Query: query, Documents: passages})
	return r.GetScores(), err
}

// belowRerank is how far a hit that the reranker did not look at scores below the one before it.
const belowRerank = 1e-6

// rerank orders the first hits by the reranker's scores, and reports whether it could: without it they stay as they are.
// What stands below the depth stays below.
func (s *Service) rerank(ctx context.Context, query string, all []loaded) bool {
	hits := all[:min(len(all), s.cfg.RerankDepth)]
	if len(hits) == 0 {
		return false
	}
	texts := make([]string, len(hits))
	for i, h := range hits {
		texts[i] = h.Text
		if h.Title != h.Document {
			texts[i] = h.Title + "\n" + h.Text
		}
	}
	var scores []float64
	err := s.rerankBreaker.Do(ctx, func(ctx context.Context) (err error) {
		ctx, cancel := context.WithTimeout(ctx, s.cfg.RerankTimeout)
		defer cancel()
		scores, err = s.reranker(ctx, query, texts)
		if err == nil && len(scores) != len(texts) {
			err = fault.New(fault.Internal, "bad_rerank", "The reranker gave %d scores for %d passages.", len(scores), len(texts))
		}
		return err
	})
	if err != nil {
		s.log.LogAttrs(ctx, slog.LevelWarn, "search goes without the reranker", slog.String("kind", fault.KindOf(err).String()), slog.String("error", err.Error()))
		return false
	}
	for i := range hits {
		hits[i].Score = scores[i]
	}
	slices.SortStableFunc(hits, func(a, b loaded) int { return cmp.Compare(b.Score, a.Score) })
	for i := len(hits); i < len(all); i++ {
		all[i].Score = all[i-1].Score - belowRerank
	}
	return true
}
