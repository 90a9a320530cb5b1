package vector

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"aran/platform/fault"
)

// Qdrant keeps each space in a collection of its own on a Qdrant server, by its REST interface
// (https://api.qdrant.tech/api-reference, version 1.10 or newer). Owners are payload; who may be found is a filter
// inside the query.
type Qdrant struct{ *remote }

// NewQdrant makes a client; nothing is called before Check.
func NewQdrant(o HostOptions, log *slog.Logger) (*Qdrant, error) {
	r, err := newRemote("Qdrant", o, "Api-Key", log)
	return &Qdrant{r}, err
}

// Check implements Host.
func (h *Qdrant) Check(ctx context.Context) error {
	_, err := h.Spaces(ctx)
	return err
}

// Spaces implements Host.
func (h *Qdrant) Spaces(ctx context.Context) (out []string, err error) {
	var a struct {
		Result struct{ Collections []struct{ Name string } }
	}
	found, err := h.call(ctx, http.MethodGet, "/collections", nil, &a)
	if err == nil && !found {
		err = fault.New(fault.Unavailable, "vectors_unreachable", "What answers at the URL of Qdrant is not Qdrant.")
	}
	for _, c := range a.Result.Collections {
		if n, ours := strings.CutPrefix(c.Name, h.prefix); ours {
			out = append(out, n)
		}
	}
	return out, err
}

// Drop implements Host.
func (h *Qdrant) Drop(ctx context.Context, space string) error {
	_, err := h.call(ctx, http.MethodDelete, h.path(space, ""), nil, nil)
	return err
}

func (h *Qdrant) path(space, rest string) string {
	return "/collections/" + url.PathEscape(h.prefix+space) + rest
}

// Space implements Host.
func (h *Qdrant) Space(n Name) Kept { return &qdrantSpace{h: h, name: n} }

type qdrantSpace struct {
	h     *Qdrant
	name  Name
	there atomic.Bool
}

// Requests and answers, as far as they are used.
type (
	qdrantVectors struct {
		Size     int    `json:"size"`
		Distance string `json:"distance"`
	}
	qdrantPoint struct {
		ID      uint64         `json:"id"`
		Vector  []float32      `json:"vector"`
		Payload map[string]any `json:"payload"`
	}
	qdrantFilter struct {
		Must    []qdrantCondition `json:"must,omitempty"`
		MustNot []qdrantCondition `json:"must_not,omitempty"`
	}
	qdrantCondition struct {
		Key   string       `json:"key,omitempty"`
		Match *qdrantMatch `json:"match,omitempty"`
		HasID []uint64     `json:"has_id,omitempty"`
	}
	qdrantMatch struct {
		Any []int64 `json:"any"`
	}
	qdrantQuery struct {
		Query  []float32    `json:"query"`
		Limit  int          `json:"limit"`
		Filter qdrantFilter `json:"filter"`
	}
)

// number is an id as Qdrant has it: it knows no negative ones.
func number(id int64) uint64 { return uint64(id) } //nolint:gosec // it comes back the same way

func of(owners []int64) qdrantFilter {
	if owners == nil {
		return qdrantFilter{MustNot: []qdrantCondition{{HasID: []uint64{number(markID)}}}}
	}
	return qdrantFilter{Must: []qdrantCondition{{Key: "owner", Match: &qdrantMatch{owners}}}}
}

// open looks for the collection. The metric is the inner product: vectors are of unit length, so it is the cosine, and
// Qdrant leaves them as they are.
func (s *qdrantSpace) open(ctx context.Context) (there bool, err error) {
	if s.there.Load() {
		return true, nil
	}
	var a struct {
		Result struct {
			Config struct {
				Params struct{ Vectors qdrantVectors }
			}
		}
	}
	there, err = s.h.call(ctx, http.MethodGet, s.h.path(s.name.Space, ""), nil, &a)
	if err != nil || !there {
		return there, err
	}
	if v := a.Result.Config.Params.Vectors; s.name.Dim > 0 && v != (qdrantVectors{s.name.Dim, "Dot"}) {
		return false, fault.New(fault.Conflict, "vectors_other", "The collection %s of Qdrant has %d dimensions and the distance %q; %d and Dot are needed: delete it, it is filled again.",
			s.h.prefix+s.name.Space, v.Size, v.Distance, s.name.Dim)
	}
	s.there.Store(true)
	return true, nil
}

// create makes the collection if it is not there.
func (s *qdrantSpace) create(ctx context.Context) error {
	if there, err := s.open(ctx); err != nil || there {
		return err
	}
	in := map[string]qdrantVectors{"vectors": {s.name.Dim, "Dot"}}
	if _, err := s.h.call(ctx, http.MethodPut, s.h.path(s.name.Space, ""), in, nil); err != nil {
		if f := fault.From(err); f == nil || f.Code != "vectors_refused" {
			return err // refused: another replica was quicker, which is seen next
		}
	}
	if _, err := s.h.call(ctx, http.MethodPut, s.h.path(s.name.Space, "/index?wait=true"), map[string]string{"field_name": "owner", "field_schema": "integer"}, nil); err != nil {
		return err
	}
	_, err := s.open(ctx)
	return err
}

// do calls what needs the collection; found is false when it has gone.
func (s *qdrantSpace) do(ctx context.Context, method, path string, in, out any) (found bool, err error) {
	found, err = s.h.call(ctx, method, s.h.path(s.name.Space, path), in, out)
	if err == nil && !found {
		s.there.Store(false)
	}
	return found, err
}

// Put implements Space. What is refused by Qdrant half way through many is put again by whoever holds the mark.
func (s *qdrantSpace) Put(ctx context.Context, items ...Item) error {
	if err := checkAll(items, s.name.Dim); err != nil || len(items) == 0 {
		return err
	}
	points := make([]qdrantPoint, 0, len(items))
	for _, i := range lastOfEach(items) {
		points = append(points, qdrantPoint{number(i.ID), i.Vector, map[string]any{"owner": i.Owner}})
	}
	return s.upsert(ctx, points)
}

func (s *qdrantSpace) upsert(ctx context.Context, points []qdrantPoint) error {
	if err := s.create(ctx); err != nil {
		return err
	}
	for part := range slices.Chunk(points, remoteRows) {
		found, err := s.do(ctx, http.MethodPut, "/points?wait=true", map[string]any{"points": part}, nil)
		if err != nil {
			return err
		}
		if !found {
			return fault.New(fault.Unavailable, "vectors_gone", "The collection of Qdrant was deleted meanwhile.")
		}
	}
	return nil
}

// Delete implements Space.
func (s *qdrantSpace) Delete(ctx context.Context, owners ...int64) error {
	if there, err := s.open(ctx); err != nil || !there {
		return err
	}
	for part := range slices.Chunk(owners, maxOwners) {
		if _, err := s.do(ctx, http.MethodPost, "/points/delete?wait=true", map[string]any{"filter": of(part)}, nil); err != nil {
			return err
		}
	}
	return nil
}

// Search implements Space.
func (s *qdrantSpace) Search(ctx context.Context, q Query, k int, owners []int64) ([]Hit, error) {
	if ok, err := wants(s.name, q, k, owners); err != nil || !ok {
		return nil, err
	}
	if there, err := s.open(ctx); err != nil || !there {
		return nil, err
	}
	return eachPart(owners, k, func(owners []int64) ([]Hit, error) {
		var a struct {
			Result struct {
				Points []struct {
					ID    uint64
					Score float32
				}
			}
		}
		_, err := s.do(ctx, http.MethodPost, "/points/query", qdrantQuery{q.Vector, k, of(owners)}, &a)
		best := newTop(k)
		for _, p := range a.Result.Points {
			best.offer([]int64{int64(p.ID)}, []float32{p.Score}) //nolint:gosec // as it went in
		}
		return best.sorted(), err
	})
}

// Len implements Space.
func (s *qdrantSpace) Len(ctx context.Context) (int, error) {
	var a struct{ Result struct{ Count int } }
	_, err := s.do(ctx, http.MethodPost, "/points/count", map[string]any{"filter": of(nil), "exact": true}, &a)
	return a.Result.Count, err
}

// Mark implements Kept.
func (s *qdrantSpace) Mark(ctx context.Context) (int64, error) {
	if there, err := s.open(ctx); err != nil || !there {
		return -1, err
	}
	var a struct {
		Result struct{ Payload struct{ Mark *int64 } }
	}
	_, err := s.do(ctx, http.MethodGet, "/points/"+strconv.FormatUint(number(markID), 10), nil, &a)
	if err != nil || a.Result.Payload.Mark == nil {
		return -1, err
	}
	return *a.Result.Payload.Mark, nil
}

// SetMark implements Kept.
func (s *qdrantSpace) SetMark(ctx context.Context, mark int64) error {
	return s.upsert(ctx, []qdrantPoint{{number(markID), marker(s.name.Dim), map[string]any{"mark": mark}}})
}
