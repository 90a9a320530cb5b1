package search

import (
	"context"
	"errors"
	"os"

	"aran/platform/auth"
)

// Loaded is how many indexes, and vectors over all of them, are in memory.
func (s *Service) Loaded() (indexes, vectors int) {
	s.indexes.mu.Lock()
	defer s.indexes.mu.Unlock()
	for _, i := range s.indexes.byKey {
		indexes++
		vectors += i.len(context.Background())
	}
	return indexes, vectors
}

// Tend builds graphs and writes files now; it returns how many there are.
func (s *Service) Tend(ctx context.Context) (files int, err error) {
	s.indexes.mu.Lock()
	defer s.indexes.mu.Unlock()
	for _, i := range s.indexes.byKey {
		err = errors.Join(err, i.vectors.Tend(ctx))
	}
	all, _ := os.ReadDir(s.indexes.dir)
	return len(all), err
}

// CatchUp brings the vector server up to date now, and sweeps it.
func (s *Service) CatchUp(ctx context.Context) { s.hosted.once(ctx) }

// InDatabase reports whether searches go to pgvector.
func (s *Service) InDatabase() bool { return s.inDatabase.Load() }

// Nearest is the part of a search that ranks by meaning, in the database: the passages that one statement finds.
func (s *Service) Nearest(ctx context.Context, id auth.Identity, collection string, q []float32) ([]int64, error) {
	v := viewerOf(id)
	c, err := s.db.readable(ctx, v.tenant, collection)
	if err != nil {
		return nil, err
	}
	near, err := s.db.nearest(ctx, scope{viewer: v, Collection: c}, embedded{vectors: [][]float32{q}, digest: "encoder-one"}, 10)
	out := make([]int64, len(near.hits))
	for i, h := range near.hits {
		out[i] = h.ID
	}
	return out, err
}
