package search

import (
	"context"

	searchv1 "aran/api/gen/aran/search/v1"
)

// handler translates the internal contract.
type handler struct{ svc *Service }

// Retrieve implements searchv1connect.SearchServiceHandler.
func (h handler) Retrieve(ctx context.Context, r *searchv1.RetrieveRequest) (*searchv1.RetrieveResponse, error) {
	q, err := queryOf(r)
	if err != nil {
		return nil, err
	}
	res, err := h.svc.Retrieve(ctx, q)
	if err != nil {
		return nil, err
	}
	out := &searchv1.RetrieveResponse{Degraded: res.Degraded, Digest: res.Encoder, Reranked: res.Reranked}
	for _, hit := range res.Hits {
		m := &searchv1.Hit{
			Collection: hit.Collection, Document: hit.Document, Chunk: hit.Chunk, Title: hit.Title, Text: hit.Text,
			Start: hit.Start, End: hit.End, Score: hit.Score, Span: hit.Sentence.proto(), Trust: hit.Trust, Source: hit.Source,
		}
		for _, s := range hit.Highlights {
			m.Highlights = append(m.Highlights, s.proto())
		}
		out.Hits = append(out.Hits, m)
	}
	return out, nil
}

func (s Span) proto() *searchv1.Span { return &searchv1.Span{Start: s.Start, End: s.End} }

func queryOf(r *searchv1.RetrieveRequest) (q Query, err error) {
	q = Query{
		Collections: r.GetCollections(), Text: r.GetQuery(), Limit: int(r.GetLimit()), Rerank: r.Rerank, Distinct: r.GetDistinct(),
		PerDocument: int(r.GetPerDocument()),
	}
	if w := r.GetWeights(); w != nil {
		if w.GetWords()+w.GetMeaning() == 0 {
			return q, invalid("weights", "are both 0; one of the lists must count")
		}
		q.Weights = &Weights{w.GetWords(), w.GetMeaning()}
	}
	switch r.GetMode() {
	case searchv1.Mode_MODE_WORDS:
		q.Mode = Words
	case searchv1.Mode_MODE_MEANING:
		q.Mode = Meaning
	default:
		q.Mode = Hybrid
	}
	q.Filter, err = conditions(r)
	return q, err
}
