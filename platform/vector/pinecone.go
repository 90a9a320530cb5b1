package vector

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"aran/platform/fault"
)

// Pinecone keeps each space in a namespace of one index, which an operator has made with the model's dimension, by the
// REST interface of the data plane (https://docs.pinecone.io/reference/api). Owners are metadata; who may be found is a
// filter inside the query. Pinecone is consistent in the end: what was put a moment ago may be found a moment later.
type Pinecone struct{ *remote }

const (
	pineconeVersion = "2025-10"
	pineconeMark    = "mark"
	pineconeTop     = 10_000 // what one query may ask for
)

// NewPinecone makes a client; nothing is called before Check. The URL is that of the index.
func NewPinecone(o HostOptions, log *slog.Logger) (*Pinecone, error) {
	r, err := newRemote("Pinecone", o, "Api-Key", log)
	if err != nil {
		return nil, err
	}
	r.headers.Set("X-Pinecone-Api-Version", pineconeVersion)
	return &Pinecone{r}, nil
}

type pineconeStats struct {
	Dimension  int
	Metric     string
	Namespaces map[string]struct{ VectorCount int }
}

func (h *Pinecone) stats(ctx context.Context) (a pineconeStats, err error) {
	found, err := h.call(ctx, http.MethodPost, "/describe_index_stats", struct{}{}, &a)
	if err == nil && !found {
		err = fault.New(fault.Unavailable, "vectors_unreachable", "What answers at the URL of Pinecone is not an index.")
	}
	if err == nil && a.Metric != "" && a.Metric != "cosine" && a.Metric != "dotproduct" {
		err = fault.New(fault.Conflict, "vectors_other", "The index of Pinecone has the metric %q; cosine or dotproduct is needed.", a.Metric)
	}
	return a, err
}

// fits tells a dimension that is not the index's.
func (h *Pinecone) fits(ctx context.Context, dim int) error {
	a, err := h.stats(ctx)
	if err == nil && a.Dimension != dim {
		return fault.New(fault.Conflict, "vectors_other", "The index of Pinecone has %d dimensions; the model's vectors have %d: make an index for them.", a.Dimension, dim)
	}
	return err
}

// Check implements Host.
func (h *Pinecone) Check(ctx context.Context) error {
	_, err := h.stats(ctx)
	return err
}

// Spaces implements Host.
func (h *Pinecone) Spaces(ctx context.Context) (out []string, err error) {
	a, err := h.stats(ctx)
	for n := range a.Namespaces {
		if n, ours := strings.CutPrefix(n, h.prefix); ours {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out, err
}

// Drop implements Host.
func (h *Pinecone) Drop(ctx context.Context, space string) error {
	_, err := h.call(ctx, http.MethodPost, "/vectors/delete", map[string]any{"deleteAll": true, "namespace": h.prefix + space}, nil)
	return err
}

// Space implements Host.
func (h *Pinecone) Space(n Name) Kept { return &pineconeSpace{h, n} }

type pineconeSpace struct {
	h    *Pinecone
	name Name
}

type pineconeVector struct {
	ID       string            `json:"id"`
	Values   []float32         `json:"values"`
	Metadata map[string]string `json:"metadata"`
}

func (s *pineconeSpace) namespace() string { return s.h.prefix + s.name.Space }

// among is the filter for owners. They are texts: a number of Pinecone's is a float64.
func among(owners []int64) map[string]any {
	if owners == nil {
		return map[string]any{"owner": map[string]any{"$exists": true}}
	}
	in := make([]string, len(owners))
	for i, o := range owners {
		in[i] = strconv.FormatInt(o, 10)
	}
	return map[string]any{"owner": map[string]any{"$in": in}}
}

// Put implements Space. What is refused by Pinecone half way through many is put again by whoever holds the mark.
func (s *pineconeSpace) Put(ctx context.Context, items ...Item) error {
	if err := checkAll(items, s.name.Dim); err != nil || len(items) == 0 {
		return err
	}
	vectors := make([]pineconeVector, 0, len(items))
	for _, i := range lastOfEach(items) {
		vectors = append(vectors, pineconeVector{strconv.FormatInt(i.ID, 10), i.Vector, map[string]string{"owner": strconv.FormatInt(i.Owner, 10)}})
	}
	return s.upsert(ctx, vectors)
}

func (s *pineconeSpace) upsert(ctx context.Context, vectors []pineconeVector) error {
	if err := s.h.fits(ctx, s.name.Dim); err != nil {
		return err
	}
	for part := range slices.Chunk(vectors, remoteRows) {
		if err := s.call(ctx, "/vectors/upsert", map[string]any{"vectors": part, "namespace": s.namespace()}, nil); err != nil {
			return err
		}
	}
	return nil
}

// call is for what must be there.
func (s *pineconeSpace) call(ctx context.Context, path string, in, out any) error {
	found, err := s.h.call(ctx, http.MethodPost, path, in, out)
	if err == nil && !found {
		return fault.New(fault.Unavailable, "vectors_gone", "The index of Pinecone is not there any more.")
	}
	return err
}

// Delete implements Space. A namespace that is not there has nothing to delete.
func (s *pineconeSpace) Delete(ctx context.Context, owners ...int64) error {
	for part := range slices.Chunk(owners, maxOwners) {
		if _, err := s.h.call(ctx, http.MethodPost, "/vectors/delete", map[string]any{"filter": among(part), "namespace": s.namespace()}, nil); err != nil {
			return err
		}
	}
	return nil
}

// Search implements Space.
func (s *pineconeSpace) Search(ctx context.Context, q Query, k int, owners []int64) ([]Hit, error) {
	if ok, err := wants(s.name, q, k, owners); err != nil || !ok {
		return nil, err
	}
	k = min(k, pineconeTop)
	return eachPart(owners, k, func(owners []int64) ([]Hit, error) {
		var a struct {
			Matches []struct {
				ID    string
				Score float32
			}
		}
		in := map[string]any{"vector": q.Vector, "topK": k, "namespace": s.namespace(), "filter": among(owners), "includeValues": false, "includeMetadata": false}
		if err := s.call(ctx, "/query", in, &a); err != nil {
			return nil, err
		}
		best := newTop(k)
		for _, m := range a.Matches {
			id, err := strconv.ParseInt(m.ID, 10, 64)
			if err != nil {
				return nil, fault.New(fault.Unavailable, "vectors_answer", "Pinecone answered with a vector that is not ours.").Because(err)
			}
			best.offer([]int64{id}, []float32{m.Score})
		}
		return best.sorted(), nil
	})
}

// Len implements Space.
func (s *pineconeSpace) Len(ctx context.Context) (int, error) {
	a, err := s.h.stats(ctx)
	if err != nil {
		return 0, err
	}
	n := a.Namespaces[s.namespace()].VectorCount
	if n == 0 {
		return 0, nil
	}
	mark, err := s.Mark(ctx)
	if mark >= 0 {
		n--
	}
	return n, err
}

// Mark implements Kept.
func (s *pineconeSpace) Mark(ctx context.Context) (int64, error) {
	var a struct {
		Vectors map[string]struct{ Metadata struct{ Mark string } }
	}
	found, err := s.h.call(ctx, http.MethodGet, "/vectors/fetch?ids="+pineconeMark+"&namespace="+url.QueryEscape(s.namespace()), nil, &a)
	m, ok := a.Vectors[pineconeMark]
	if err != nil || !found || !ok {
		return -1, err
	}
	if mark, err := strconv.ParseInt(m.Metadata.Mark, 10, 64); err == nil {
		return mark, nil
	}
	return -1, nil // as if there were none: all is put again
}

// SetMark implements Kept.
func (s *pineconeSpace) SetMark(ctx context.Context, mark int64) error {
	return s.upsert(ctx, []pineconeVector{{pineconeMark, marker(s.name.Dim), map[string]string{"mark": strconv.FormatInt(mark, 10)}}})
}
