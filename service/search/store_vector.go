package search

import (
	"context"
	"fmt"
	"strconv"

	"aran/platform/store"
	"aran/platform/vector"
)

const (
	mayBeFound = `v.owner IN (SELECT d.edition FROM search_document d WHERE d.collection = $1 AND d.edition IS NOT NULL AND `

	missingVectors = `SELECT e.collection, v.edition, v.part, v.passages, e.encoder, v.packed FROM search_vector v JOIN search_edition e ON e.id = v.edition
		WHERE (v.edition, v.part) > ($1, $2) AND e.encoder <> '' AND v.passages > 0
		AND NOT EXISTS (SELECT 1 FROM search_vector_item i WHERE i.owner = v.edition AND i.id = (v.edition << 20) + v.part)
		ORDER BY v.edition, v.part LIMIT $3`
	strayVectors = `DELETE FROM search_vector_item i WHERE NOT EXISTS (SELECT 1 FROM search_vector v WHERE v.edition = i.owner)`
)

// Rows of search_vector are what the vectors are; those of search_vector_item (pgvector) are made of them, by every
// replica in the transaction that writes the part, as soon as that table is there. So it is complete once the parts of
// before it was made have been copied, whatever the replicas are set to, and setting them back and forth loses nothing.

// part is where packed vectors belong.
type part struct {
	collection, edition int64
	first, passages     int
	encoder             string
	packed              []byte
}

// spaceOf names the space of a collection and an encoder: vectors of another encoder are in another one.
func spaceOf(collection int64, encoder string) string {
	return strconv.FormatInt(collection, 10) + "/" + encoder
}

func (p part) items() (items []vector.Item, dim int, err error) {
	if p.passages == 0 {
		return nil, 0, nil
	}
	dim = len(p.packed) / (4 * p.passages)
	if dim == 0 || len(p.packed) != 4*dim*p.passages {
		return nil, 0, fmt.Errorf("vectors of edition %d: %d bytes are not %d vectors", p.edition, len(p.packed), p.passages)
	}
	for i := range p.passages {
		v := make([]float32, dim)
		unpack(p.packed[i*4*dim:], v)
		items = append(items, vector.Item{ID: int64(passageOf(p.edition, p.first+i)), Owner: p.edition, Vector: v})
	}
	return items, dim, nil
}

// putVectors keeps a part's vectors in pgvector too, if its table is there.
func (d db) putVectors(ctx context.Context, tx *store.Tx, p part) error {
	there, err := d.vectors.There(ctx, tx)
	if err != nil || !there {
		return err
	}
	items, dim, err := p.items()
	if err != nil {
		return err
	}
	return d.vectors.Put(ctx, tx, vector.Name{Space: spaceOf(p.collection, p.encoder), Model: p.encoder, Dim: dim}, items...)
}

func (d db) deleteVectors(ctx context.Context, tx *store.Tx, edition int64) error {
	there, err := d.vectors.There(ctx, tx)
	if err != nil || !there {
		return err
	}
	return d.vectors.Delete(ctx, tx, edition)
}

// nearest finds passages by their vectors in the database. Which may be found is part of the statement: it sees rights
// and vectors of one moment.
func (d db) nearest(ctx context.Context, s scope, e embedded, k int) (near nearest, err error) {
	clause, args := s.condition(2)
	q := vector.Query{Model: e.digest, Vector: e.vectors[0]}
	near.hits, err = d.vectors.Search(ctx, spaceOf(s.id, e.digest), q, k, vector.Condition{SQL: mayBeFound + clause + ")", Args: append([]any{s.id}, args...)})
	if err != nil {
		return near, err
	}
	near.foreign, err = d.foreignVectors(ctx, s.id, e.digest)
	return near, err
}

// place is a part that copying has come to.
type place struct{ edition, part int64 }

// copyVectors brings the next parts that pgvector lacks into it; done is true when there were none.
func (d db) copyVectors(ctx context.Context, after place, limit int) (next place, done bool, err error) {
	err = d.Tx(ctx, func(tx *store.Tx) error {
		parts, err := d.missing(ctx, tx, after, limit)
		if err != nil {
			return err
		}
		next, done = after, len(parts) == 0
		for _, p := range parts {
			if err := d.putVectors(ctx, tx, p); err != nil {
				return err
			}
			next = place{p.edition, int64(p.first)}
		}
		return nil
	})
	return next, done, err
}

func (d db) missing(ctx context.Context, tx *store.Tx, after place, limit int) ([]part, error) {
	return readAll(ctx, tx, missingVectors, func(p *part) []any {
		return []any{&p.collection, &p.edition, &p.first, &p.passages, &p.encoder, &p.packed}
	}, after.edition, after.part, limit)
}

// dropStrays deletes vectors of editions that are gone: replicas of versions before pgvector leave them.
func (d db) dropStrays(ctx context.Context) error {
	return d.Tx(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(ctx, strayVectors)
		return err
	})
}
