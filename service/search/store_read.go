package search

import (
	"context"
	"strconv"
	"strings"

	"aran/platform/store"
	"aran/service/search/words"
)

const (
	anyRestricted   = `SELECT COUNT(*) FROM (SELECT 1 FROM search_document WHERE collection = $1 AND restricted = 1 LIMIT 1) x`
	allowedEditions = `SELECT d.edition FROM search_document d WHERE d.collection = $1 AND d.edition IS NOT NULL AND `
	loadPassages    = `SELECT s.edition, s.ordinal, s.start_at, s.end_at, s.text, d.id, d.title, e.version, d.trust, d.source
		FROM search_passage s CROSS JOIN search_document d CROSS JOIN search_edition e
		WHERE d.edition = s.edition AND e.id = s.edition AND d.collection = $1 AND `

	collectionState = `SELECT generation FROM search_collection WHERE id = $1`
	goneEditions    = `SELECT edition FROM search_gone WHERE collection = $1 AND generation > $2`
	changedVectors  = `SELECT edition, part, packed FROM (
		SELECT v.edition, v.part, v.packed FROM search_document d CROSS JOIN search_edition e CROSS JOIN search_vector v
		WHERE d.collection = $1 AND d.generation > $2 AND e.id = d.edition AND e.encoder = $3 AND v.edition = e.id
		UNION ALL SELECT b.edition, b.part, b.packed FROM search_document d CROSS JOIN search_edition e CROSS JOIN search_vector_beside b
		WHERE d.collection = $1 AND d.generation > $2 AND e.id = d.edition AND e.encoder <> $3 AND b.edition = e.id AND b.encoder = $3) x ORDER BY edition, part`
	otherEncoders = `SELECT COUNT(*) FROM (SELECT 1 FROM search_document d CROSS JOIN search_edition e
		WHERE d.collection = $1 AND e.id = d.edition AND e.encoder <> $2
		AND NOT EXISTS (SELECT 1 FROM search_vector_beside b WHERE b.edition = e.id AND b.encoder = $2) LIMIT 1) x`
)

// passageID names a passage in this process: edition and ordinal in one number.
type passageID int64

const ordinalBits = 20 // a document of 5 MB has fewer passages than 2^20

func passageOf(edition int64, ordinal int) passageID {
	return passageID(edition<<ordinalBits | int64(ordinal))
}

func (p passageID) edition() int64 { return int64(p) >> ordinalBits }
func (p passageID) ordinal() int   { return int(p & (1<<ordinalBits - 1)) }

// scope is what one search may look at: one collection, with the viewer's rights and the caller's filter.
type scope struct {
	viewer
	Collection
	filter  []Condition
	weights Weights
}

// condition is the WHERE part for search_document d, with parameters from $n on.
func (s scope) condition(n int) (clause string, args []any) {
	clause, args = s.may(s.Collection, n)
	more, moreArgs := with(s.filter, n+len(args))
	return clause + more, append(args, moreArgs...)
}

// allowed returns the editions that the viewer may read and the filter lets through; nil when that is every one.
func (d db) allowed(ctx context.Context, s scope) (editions []int64, err error) {
	readable, wanted, err := d.readers(ctx, s)
	if wanted != nil {
		return wanted, err
	}
	return readable, err
}

// loadBatch is how many passages one query loads: two parameters each.
const loadBatch = 100

// passages loads what the ids name, as far as the viewer may read it and it is still there.
func (d db) passages(ctx context.Context, s scope, ids []passageID) (map[passageID]Hit, error) {
	out := make(map[passageID]Hit, len(ids))
	for len(ids) > 0 {
		batch := ids[:min(len(ids), loadBatch)]
		ids = ids[len(batch):]
		args := []any{s.id}
		var which strings.Builder
		for i, id := range batch {
			if i > 0 {
				which.WriteString(" OR ")
			}
			n := len(args) + 1
			which.WriteString("s.edition = $" + strconv.Itoa(n) + " AND s.ordinal = $" + strconv.Itoa(n+1))
			args = append(args, id.edition(), id.ordinal())
		}
		clause, rights := s.condition(len(args) + 1)
		rows, err := d.Query(ctx, loadPassages+"("+which.String()+") AND "+clause, append(args, rights...)...)
		if err != nil {
			return nil, err
		}
		if err := d.scanHits(rows, s.Name, out); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (d db) scanHits(rows store.Rows, collection string, out map[passageID]Hit) error {
	defer rows.Close() //nolint:errcheck // read only
	for rows.Next() {
		var edition, version int64
		var ordinal int
		h := Hit{Collection: collection}
		if err := rows.Scan(&edition, &ordinal, &h.Start, &h.End, &h.Text, &h.Document, &h.Title, &version, &h.Trust, &h.Source); err != nil {
			return err
		}
		if h.Title == "" {
			h.Title = h.Document
		}
		h.Chunk = chunkName(h.Document, version, ordinal)
		out[passageOf(edition, ordinal)] = h
	}
	return rows.Err()
}

// chunkName is the public name of a passage.
func chunkName(document string, version int64, ordinal int) string {
	return document + ":" + strconv.FormatInt(version, 10) + ":" + strconv.Itoa(ordinal)
}

func (d db) generation(ctx context.Context, collection int64) (g int64, gone bool, err error) {
	err = d.QueryRow(ctx, collectionState, collection).Scan(&g)
	if store.NoRows(err) {
		return 0, true, nil
	}
	return g, false, err
}

// gone lists editions that went after a generation.
func (d db) gone(ctx context.Context, collection, after int64) ([]int64, error) {
	return d.editions(ctx, goneEditions, []any{collection, after})
}

// changed calls yield for each part of the live editions that changed after a generation and have this encoder.
func (d db) changed(ctx context.Context, collection, after int64, encoder string, yield func(edition int64, part int, packed []byte) error) error {
	rows, err := d.Query(ctx, changedVectors, collection, after, encoder)
	if err != nil {
		return err
	}
	defer rows.Close() //nolint:errcheck // read only
	for rows.Next() {
		var edition int64
		var part int
		var packed []byte
		if err := rows.Scan(&edition, &part, &packed); err != nil {
			return err
		}
		if err := yield(edition, part, packed); err != nil {
			return err
		}
	}
	return rows.Err()
}

// foreignVectors reports whether some of a collection was encoded by another encoder.
func (d db) foreignVectors(ctx context.Context, collection int64, encoder string) (bool, error) {
	var n int
	err := d.QueryRow(ctx, otherEncoders, collection, encoder).Scan(&n)
	return n > 0, err
}

// termIDs names the terms of a query in a collection, each once.
func termIDs(c Collection, terms []string) []int64 {
	out := make([]int64, len(terms))
	for i, t := range terms {
		out[i] = words.ID(c.key(), t)
	}
	return out
}
