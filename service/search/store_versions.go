package search

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"aran/platform/fault"
	"aran/platform/store"
)

const (
	editionByID = `SELECT title, version, content_type, text, original, original_type, pages, findings, stored_at FROM search_edition WHERE id = $1`
	versions    = `SELECT e.id, e.version, e.title, e.digest, e.original_type, e.original, e.stored_at, COALESCE(v.replaced_at, 0), CASE WHEN d.edition = e.id THEN 1 ELSE 0 END
		FROM search_document d JOIN search_edition e ON e.collection = d.collection AND e.document = d.id
		LEFT JOIN search_version v ON v.edition = e.id
		WHERE d.collection = $1 AND d.id = $2 AND (e.id = d.latest OR e.id = d.edition OR v.edition IS NOT NULL) ORDER BY e.version DESC LIMIT $3`
	keepVersion = `INSERT INTO search_version (collection, document, version, edition, stored_at, replaced_at)
		SELECT collection, document, version, id, stored_at, $1 FROM search_edition WHERE id = $2 ON CONFLICT DO NOTHING`
	// The versions beyond those that are kept.
	trashVersions = `INSERT INTO search_trash (edition) SELECT edition FROM search_version WHERE collection = $1 AND document = $2
		AND version NOT IN (SELECT version FROM search_version WHERE collection = $1 AND document = $2 ORDER BY version DESC LIMIT $3) ON CONFLICT DO NOTHING`
	dropVersions = `DELETE FROM search_version WHERE collection = $1 AND document = $2
		AND version NOT IN (SELECT version FROM search_version WHERE collection = $1 AND document = $2 ORDER BY version DESC LIMIT $3)`
	deleteVersions = `DELETE FROM search_version WHERE collection = $1 AND document = $2`
	keptOf         = `SELECT versions FROM search_collection WHERE id = $1`
	countStatus    = `SELECT d.status, COUNT(*) FROM search_document d WHERE d.collection = $1 AND `
	twins          = `SELECT d.id FROM search_document d WHERE d.collection = $1 AND d.text_digest = $2 AND d.id <> $3 AND d.status IN ('indexed', 'queued') AND `
)

// Version is a text that a document has or had.
type Version struct {
	Number       int64
	Title        string
	Digest       string // SHA-256 of the text
	OriginalType string
	Original     string // SHA-256 of the bytes that the text was taken from
	Current      bool   // searches find it
	Stored       time.Time
	Replaced     time.Time // zero: it was not
	edition      int64
}

const maxVersions = 128 // more are never kept

func (d db) versions(ctx context.Context, x Document) (out []Version, err error) {
	rows, err := d.Query(ctx, versions, x.collection, x.ID, maxVersions)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // read only
	for rows.Next() {
		var v Version
		var stored, replaced int64
		if err := rows.Scan(&v.edition, &v.Number, &v.Title, &v.Digest, &v.OriginalType, &v.Original, &stored, &replaced, &v.Current); err != nil {
			return nil, err
		}
		v.Stored = time.UnixMicro(stored).UTC()
		if replaced > 0 {
			v.Replaced = time.UnixMicro(replaced).UTC()
		}
		out = append(out, v)
	}
	return out, rows.Err()
}

// edition adds to a document what one of its versions says.
func (d db) edition(ctx context.Context, x Document, edition int64) (Document, error) {
	var pages, findings string
	var stored int64
	err := d.QueryRow(ctx, editionByID, edition).Scan(&x.Title, &x.Version, &x.ContentType, &x.Text, &x.Origin.Digest, &x.Origin.Type, &pages, &findings, &stored)
	if store.NoRows(err) {
		return x, fault.NotFound("document", x.ID) // deleted meanwhile
	}
	if err != nil {
		return x, err
	}
	if edition != x.latest && stored > 0 {
		x.Updated = time.UnixMicro(stored).UTC()
	}
	if err := json.Unmarshal([]byte(pages), &x.Origin.Pages); err != nil {
		return x, fmt.Errorf("pages of document %s: %w", x.ID, err)
	}
	if err := json.Unmarshal([]byte(findings), &x.Origin.Findings); err != nil {
		return x, fmt.Errorf("findings of document %s: %w", x.ID, err)
	}
	return x, nil
}

// retire keeps the text of an edition that was found until now, for citations, and throws away those that are too many.
func (d db) retire(ctx context.Context, tx *store.Tx, collection int64, document string, edition, now int64) error {
	var kept int64
	if err := tx.QueryRow(ctx, keptOf, collection).Scan(&kept); err != nil {
		return err
	}
	if kept > 1 {
		if _, err := tx.Exec(ctx, keepVersion, now, edition); err != nil {
			return err
		}
	}
	for _, q := range []string{trashVersions, dropVersions} {
		if _, err := tx.Exec(ctx, q, collection, document, kept-1); err != nil {
			return err
		}
	}
	return nil
}

// twin is the id of another document with this text, which the viewer may read; empty: there is none.
func (d db) twin(ctx context.Context, q store.Querier, v viewer, c Collection, x Document) (id string, err error) {
	clause, args := v.may(c, 4)
	err = q.QueryRow(ctx, twins+clause+" ORDER BY d.created_at, d.id LIMIT 1", append([]any{c.id, digest(x.Text), x.ID}, args...)...).Scan(&id)
	if store.NoRows(err) {
		return "", nil
	}
	return id, err
}

// countByStatus counts the documents of a collection that the viewer may read.
func (d db) countByStatus(ctx context.Context, v viewer, c Collection) (map[string]int64, error) {
	clause, args := v.may(c, 2)
	rows, err := d.Query(ctx, countStatus+clause+" GROUP BY d.status", append([]any{c.id}, args...)...)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // read only
	out := map[string]int64{}
	for rows.Next() {
		var status string
		var n int64
		if err := rows.Scan(&status, &n); err != nil {
			return nil, err
		}
		out[status] = n
	}
	return out, rows.Err()
}
