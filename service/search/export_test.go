package search

import (
	"context"
	"errors"
	"os"

	"aran/platform/auth"
	"aran/platform/store"
	"aran/service/search/chunk"
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

// Fill stores n documents of one passage each as if they had been ingested, without an encoder, for benchmarks.
func (s *Service) Fill(ctx context.Context, id auth.Identity, collection string, n int, document func(i int) Document) error {
	v := viewerOf(id)
	c, err := s.db.own(ctx, s.db, v.tenant, collection)
	if err != nil {
		return err
	}
	const atOnce = 500
	for first := 0; first < n; first += atOnce {
		err := s.db.Tx(ctx, func(tx *store.Tx) error {
			for i := first; i < min(first+atOnce, n); i++ {
				x := document(i)
				x.Status, x.Trust, x.Owner, x.Created, x.Updated, x.Version = StatusQueued, TrustOutside, v.subject, now(), now(), 1
				at := now()
				x.Status, x.Trust, x.Owner, x.Created, x.Updated, x.Version = StatusQueued, TrustOutside, v.subject, at, at, 1
				x, err := s.db.insert(ctx, tx, c, x, v.subject, v.scopes)
				if err != nil {
					return err
				}
				p := makePart(c, "en", x.Title, x.Text, 0, []chunk.Passage{{End: len(x.Text)}}, [][]float32{{1}})
				p.postings = nil // of versions before
				if err := s.db.putPart(ctx, tx, c.id, x.latest, "none", p); err != nil {
					return err
				}
				if err := tx.ExecOne(ctx, setEncoder, "none", x.latest); err != nil {
					return err
				}
				if _, _, err := s.db.publish(ctx, tx, x.latest, "", TrustOutside, now().UnixMicro()); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
