package search

import (
	"context"

	"aran/platform/store"
)

const (
	changedTerms = `SELECT v.edition, v.part, v.passages, t.format, t.packed FROM search_document d CROSS JOIN search_vector v
		LEFT JOIN search_terms t ON t.edition = v.edition AND t.part = v.part
		WHERE d.collection = $1 AND d.generation > $2 AND v.edition = d.edition ORDER BY v.edition, v.part`
	deleteTerms = `DELETE FROM search_terms WHERE edition = $1 AND part = $2`
	insertTerms = `INSERT INTO search_terms (edition, part, passages, format, packed) VALUES ($1, $2, $3, $4, $5)`
	// Only what searches find: an edition that went meanwhile leaves no rows behind.
	fillTerms = `INSERT INTO search_terms (edition, part, passages, format, packed)
		SELECT $1, $2, $3, $4, $5 FROM search_document d WHERE d.edition = $1
		ON CONFLICT (edition, part) DO UPDATE SET passages = excluded.passages, format = excluded.format, packed = excluded.packed`
	liveEdition   = `SELECT e.title, e.content_type, e.text FROM search_edition e WHERE e.id = $1 AND e.collection = $2`
	wordedParts   = `SELECT part, passages FROM search_vector WHERE edition = $1 ORDER BY part`
	cutPlaces     = `SELECT ordinal, start_at, end_at FROM search_passage WHERE edition = $1 ORDER BY ordinal`
	collectionKey = `SELECT tenant, name, language FROM search_collection WHERE id = $1`
	// Collections that hold texts whose terms are not stored, and some of those texts.
	unworded = `SELECT d.collection, d.edition FROM search_document d WHERE d.edition > $1
		AND EXISTS (SELECT 1 FROM search_vector v WHERE v.edition = d.edition
			AND NOT EXISTS (SELECT 1 FROM search_terms t WHERE t.edition = v.edition AND t.part = v.part))
		ORDER BY d.edition LIMIT $2`
)

// changedTerms calls yield for each part of the live editions that changed after a generation.
func (d db) changedTerms(ctx context.Context, collection, after int64, yield func(edition int64, t storedTerms) error) error {
	rows, err := d.Query(ctx, changedTerms, collection, after)
	if err != nil {
		return err
	}
	defer rows.Close() //nolint:errcheck // read only
	for rows.Next() {
		var edition int64
		var t storedTerms
		var format *string
		if err := rows.Scan(&edition, &t.part, &t.passages, &format, &t.packed); err != nil {
			return err
		}
		if format != nil {
			t.format = *format
		}
		if err := yield(edition, t); err != nil {
			return err
		}
	}
	return rows.Err()
}

// putTerms stores the terms of a part beside its other rows.
func (d db) putTerms(ctx context.Context, tx *store.Tx, edition int64, t storedTerms) error {
	if _, err := tx.Exec(ctx, deleteTerms, edition, t.part); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, insertTerms, edition, t.part, t.passages, t.format, t.packed)
	return err
}

// fillTerms stores the terms of an edition that were made later, as long as searches find it.
func (d db) fillTerms(ctx context.Context, edition int64, parts []storedTerms) error {
	return d.Tx(ctx, func(tx *store.Tx) error {
		for _, t := range parts {
			if _, err := tx.Exec(ctx, fillTerms, edition, t.part, t.passages, t.format, t.packed); err != nil {
				return err
			}
		}
		return nil
	})
}

// cutText is an edition's text as it was cut: parts of consecutive passages.
type cutText struct {
	collection               Collection
	title, contentType, text string
	parts                    []storedTerms
	passages                 []passage // start and end alone
}

func (d db) cutText(ctx context.Context, collection, edition int64) (c cutText, gone bool, err error) {
	err = d.QueryRow(ctx, liveEdition, edition, collection).Scan(&c.title, &c.contentType, &c.text)
	if err == nil {
		err = d.QueryRow(ctx, collectionKey, collection).Scan(&c.collection.tenant, &c.collection.Name, &c.collection.Language)
	}
	if store.NoRows(err) {
		return c, true, nil
	}
	if err != nil {
		return c, false, err
	}
	if c.parts, err = readAll(ctx, d, wordedParts, func(t *storedTerms) []any { return []any{&t.part, &t.passages} }, edition); err != nil {
		return c, false, err
	}
	cuts, err := d.Query(ctx, cutPlaces, edition)
	if err != nil {
		return c, false, err
	}
	defer cuts.Close() //nolint:errcheck // read only
	for cuts.Next() {
		var p passage
		var ordinal int
		if err := cuts.Scan(&ordinal, &p.start, &p.end); err != nil {
			return c, false, err
		}
		if ordinal != len(c.passages) {
			return c, true, nil // it is being deleted
		}
		c.passages = append(c.passages, p)
	}
	return c, false, cuts.Err()
}

// unworded lists editions after one that searches find and whose terms are not stored, with their collections.
func (d db) unworded(ctx context.Context, after int64, limit int) ([][2]int64, error) {
	return readAll(ctx, d, unworded, func(x *[2]int64) []any { return []any{&x[0], &x[1]} }, after, limit)
}

// readers returns the editions that the viewer may read, and those of them that the filter lets through; nil where
// that is every one.
func (d db) readers(ctx context.Context, s scope) (readable, wanted []int64, err error) {
	var n int
	if err := d.QueryRow(ctx, anyRestricted, s.id).Scan(&n); err != nil {
		return nil, nil, err
	}
	if n > 0 {
		clause, args := s.may(s.Collection, 2)
		if readable, err = d.editions(ctx, allowedEditions+clause, append([]any{s.id}, args...)); err != nil {
			return nil, nil, err
		}
	}
	if len(s.filter) > 0 {
		clause, args := s.condition(2)
		wanted, err = d.editions(ctx, allowedEditions+clause, append([]any{s.id}, args...))
	}
	return readable, wanted, err
}

// editions lists what a query finds; not nil when that is nothing.
func (d db) editions(ctx context.Context, query string, args []any) ([]int64, error) {
	out, err := readAll(ctx, d, query, func(e *int64) []any { return []any{e} }, args...)
	if err == nil && out == nil {
		out = []int64{}
	}
	return out, err
}
