package search

import (
	"context"
	"encoding/json"
	"fmt"

	"aran/platform/fault"
	"aran/platform/store"
)

const (
	quarantined = `SELECT ` + documentColumns + `, c.name, e.digest, e.suspects, e.content_type, e.original, e.original_type FROM search_collection c
		JOIN search_document d ON d.collection = c.id JOIN search_edition e ON e.id = d.latest
		WHERE c.tenant = $1 AND d.status = 'quarantined' AND `
	quarantineAfter = quarantined + `(c.name > $2 OR c.name = $2 AND d.id > $3) ORDER BY c.name, d.id LIMIT $4`
	inQuarantine    = quarantined + `c.name = $2 AND d.id = $3`
	setSuspects     = `UPDATE search_edition SET suspects = $1 WHERE id = $2`
	releasedBy      = `SELECT released_by, digest, suspects FROM search_edition WHERE id = $1`
	// The status is the lock: of two who release at once, one changes it.
	requeue     = `UPDATE search_document SET status = 'queued', reason = '', updated_at = $1 WHERE latest = $2 AND status = 'quarantined'`
	markRelease = `UPDATE search_edition SET released_by = $1, released_note = $2, released_at = $3 WHERE id = $4`
)

// keepSuspects notes where in an edition the guard found something.
func (d db) keepSuspects(ctx context.Context, tx *store.Tx, edition int64, list []Suspect) error {
	if len(list) == 0 {
		return nil
	}
	b, err := json.Marshal(list)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, setSuspects, string(b), edition)
	return err
}

// wider scans the columns of a document and some more.
type wider struct {
	store.Row
	more []any
}

func (w wider) Scan(dest ...any) error { return w.Row.Scan(append(dest, w.more...)...) }

func scanQuarantined(r store.Row) (q Quarantined, err error) {
	var suspects string
	q.Document, err = scanDocument(wider{r, []any{&q.Collection, &q.SHA256, &suspects, &q.ContentType, &q.Origin.Digest, &q.Origin.Type}})
	if err != nil {
		return q, err
	}
	if err := json.Unmarshal([]byte(suspects), &q.Suspects); err != nil {
		return q, fmt.Errorf("suspects of document %s: %w", q.ID, err)
	}
	return q, nil
}

func (d db) quarantine(ctx context.Context, tenant, collection, after string, limit int) (out []Quarantined, err error) {
	rows, err := d.Query(ctx, quarantineAfter, tenant, collection, after, limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // read only
	for rows.Next() {
		q, err := scanQuarantined(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, q)
	}
	return out, rows.Err()
}

// inQuarantine returns a document in quarantine, with its text.
func (d db) inQuarantine(ctx context.Context, q store.Querier, tenant, collection, id string) (Quarantined, error) {
	x, err := scanQuarantined(q.QueryRow(ctx, inQuarantine, tenant, collection, id))
	if store.NoRows(err) {
		return x, fault.New(fault.Missing, "quarantine_not_found", "There is no document %q in quarantine.", id)
	}
	if err != nil {
		return x, err
	}
	x.Document, err = d.edition(ctx, x.Document, x.latest)
	return x, err
}

// release queues a quarantined version again, as a new edition that the guard's word no longer stops, with its event.
func (d db) release(ctx context.Context, v viewer, collection, id string, version int64, sha256, note string) (out Document, err error) {
	err = d.Tx(ctx, func(tx *store.Tx) error {
		c, err := d.own(ctx, tx, v.tenant, collection)
		if err != nil {
			return err
		}
		x, err := scanDocument(tx.QueryRow(ctx, documentByID, c.id, id))
		if store.NoRows(err) {
			return fault.NotFound("document", id)
		}
		if err != nil {
			return err
		}
		var by, digest, list string
		if err := tx.QueryRow(ctx, releasedBy, x.latest).Scan(&by, &digest, &list); err != nil {
			return err
		}
		switch {
		case x.Version != version || digest != sha256:
			return fault.New(fault.Conflict, "another_version", "The document is at version %d with another text; look at that one first.", x.Version)
		case by != "":
			out = x
			return nil
		}
		at := now()
		n, err := tx.Exec(ctx, requeue, at.UnixMicro(), x.latest)
		if err != nil {
			return err
		}
		if n != 1 {
			return fault.New(fault.Conflict, "not_quarantined", "The document is %s, not in quarantine.", x.Status)
		}
		if err := tx.ExecOne(ctx, markRelease, v.subject, note, at.UnixMicro(), x.latest); err != nil {
			return err
		}
		if err := d.restart(ctx, tx, x.latest, at.UnixMicro()); err != nil {
			return err
		}
		var suspects []Suspect
		if err := json.Unmarshal([]byte(list), &suspects); err != nil {
			return fmt.Errorf("suspects of document %s: %w", id, err)
		}
		if out, err = scanDocument(tx.QueryRow(ctx, documentByID, c.id, id)); err != nil {
			return err
		}
		return tx.Emit(ctx, store.Event{
			Type: DocumentReleased, Tenant: v.tenant, Actor: v.subject, Subject: id,
			Data: ReleasedEvent{Document: id, Collection: collection, Version: version, Digest: digest, Passages: len(suspects), Reason: x.Reason, Note: note},
		})
	})
	return out, err
}
