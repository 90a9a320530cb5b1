package search

import (
	"context"

	searchv1 "aran/api/gen/aran/search/v1"
)

// handler translates the internal contract.
type handler struct{ svc *Service }

// Retrieve implements searchv1connect.SearchServiceHandler.
func (h handler) Retrieve(ctx context.Context, r *searchv1.RetrieveRequest) (*searchv1.RetrieveResponse, error) {
	res, err := h.svc.Retrieve(ctx, queryOf(r))
	if err != nil {
		return nil, err
	}
	out := &searchv1.RetrieveResponse{Degraded: res.Degraded, Digest: res.Encoder}
	for _, hit := range res.Hits {
		out.Hits = append(out.Hits, &searchv1.Hit{
			Collection: hit.Collection, Document: hit.Document, Chunk: hit.Chunk, Title: hit.Title, Text: hit.Text,
			Start: hit.Start, End: hit.End, Score: hit.Score,
		})
	}
	return out, nil
}

func queryOf(r *searchv1.RetrieveRequest) Query {
	q := Query{Collections: r.GetCollections(), Text: r.GetQuery(), Limit: int(r.GetLimit()), Filter: r.GetFilter()}
	switch r.GetMode() {
	case searchv1.Mode_MODE_WORDS:
		q.Mode = Words
	case searchv1.Mode_MODE_MEANING:
		q.Mode = Meaning
	default:
		q.Mode = Hybrid
	}
	return q
}
