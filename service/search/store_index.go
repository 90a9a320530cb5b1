package search

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"aran/platform/fault"
	"aran/platform/store"
)

const (
	jobByEdition = `SELECT e.id, e.collection, e.document, e.version, e.tenant, e.subject, e.scopes, e.title, e.content_type, e.text, e.encoder, e.cut, e.attempt, c.name, c.language, e.findings, e.released_by
		FROM search_edition e CROSS JOIN search_document d CROSS JOIN search_collection c
		WHERE e.id = $1 AND d.latest = e.id AND d.status = 'queued' AND c.id = e.collection`
	queuedEdition = `SELECT d.collection, d.id, d.version, d.edition, c.tenant, c.name, e.subject, e.digest
		FROM search_document d CROSS JOIN search_edition e CROSS JOIN search_collection c
		WHERE d.latest = $1 AND d.status = 'queued' AND e.id = d.latest AND c.id = d.collection`
	editionOf    = `SELECT e.id, e.attempt FROM search_edition e WHERE e.tenant = $1 AND e.collection = (SELECT id FROM search_collection WHERE tenant = $1 AND name = $2) AND e.document = $3 AND e.version = $4`
	claimEncoder = `UPDATE search_edition SET encoder = $1, cut = $2 WHERE id = $3 AND (encoder = '' OR encoder = $1 AND cut = $2)`
	copyEdition  = `INSERT INTO search_edition (id, collection, document, version, tenant, subject, scopes, title, content_type, text, digest, original, original_type, pages, findings, stored_at, suspects, released_by, released_note, released_at, encoder, cut, passages, terms, attempt, retry_at)
		SELECT $1, collection, document, version, tenant, subject, scopes, title, content_type, text, digest, original, original_type, pages, findings, stored_at, suspects, released_by, released_note, released_at, '', '', 0, 0, attempt + 1, $2 FROM search_edition WHERE id = $3`
	replaceLatest = `UPDATE search_document SET latest = $1 WHERE latest = $2 AND status = 'queued'`
	hasPart       = `SELECT passages FROM search_vector WHERE edition = $1 AND part = $2`
	deletePassage = `DELETE FROM search_passage WHERE edition = $1 AND ordinal >= $2 AND ordinal < $3`
	deletePosting = `DELETE FROM search_posting WHERE edition = $1 AND part = $2`
	deleteVector  = `DELETE FROM search_vector WHERE edition = $1 AND part = $2`
	insertPassage = `INSERT INTO search_passage (edition, ordinal, start_at, end_at, text) VALUES `
	insertPosting = `INSERT INTO search_posting (term, edition, part, passages, packed) VALUES `
	insertVector  = `INSERT INTO search_vector (edition, part, passages, terms, packed) VALUES ($1, $2, $3, $4, $5)`
	sumParts      = `SELECT COALESCE(SUM(passages), 0), COALESCE(SUM(terms), 0) FROM search_vector WHERE edition = $1`
	setCounts     = `UPDATE search_edition SET passages = $1, terms = $2 WHERE id = $3`
	switchEdition = `UPDATE search_document SET edition = latest, status = 'indexed', reason = $1, trust = $2, generation = $3, updated_at = $4 WHERE latest = $5`
	endWork       = `UPDATE search_document SET status = $1, reason = $2, updated_at = $3 WHERE latest = $4 AND status = 'queued'`
	park          = `UPDATE search_edition SET attempt = attempt + 1, retry_at = $1 WHERE id = $2`
	dueEditions   = `SELECT e.id, e.attempt FROM search_edition e CROSS JOIN search_document d WHERE e.retry_at > 0 AND e.retry_at <= $1 AND d.latest = e.id AND d.status = 'queued' LIMIT $2`
	nextDue       = `SELECT MIN(retry_at) FROM search_edition WHERE retry_at > $1`
	countStuck    = `SELECT COUNT(*) FROM search_document WHERE status = 'queued' AND updated_at < $1`
	parkStuck     = `UPDATE search_edition SET attempt = attempt + 1, retry_at = $1 WHERE retry_at = 0
		AND id IN (SELECT latest FROM search_document WHERE status = 'queued' AND updated_at < $2)`
	touchStuck = `UPDATE search_document SET updated_at = $1 WHERE status = 'queued' AND updated_at < $2`
	doneRetry  = `UPDATE search_edition SET retry_at = 0 WHERE id = $1 AND attempt = $2`

	anyTrash      = `SELECT edition FROM search_trash ORDER BY edition LIMIT 1`
	trashParts    = `SELECT part FROM search_posting WHERE edition = $1 UNION SELECT part FROM search_vector WHERE edition = $1 ORDER BY 1 LIMIT 1`
	trashPassages = `DELETE FROM search_passage WHERE edition = $1`
	// The text of what was not indexed stays for its owner to see.
	// So does that of a version that is kept for citations.
	deleteEdition = `DELETE FROM search_edition WHERE id = $1 AND NOT EXISTS (SELECT 1 FROM search_document d WHERE d.latest = $1)
		AND NOT EXISTS (SELECT 1 FROM search_version v WHERE v.edition = $1)`
	emptyTrash = `DELETE FROM search_trash WHERE edition = $1`
)

// errSuperseded ends work on an edition that is not wanted any more: replaced, deleted, or finished by another run.
func errSuperseded() error {
	return fault.New(fault.Conflict, codeSuperseded, "The document was replaced or deleted meanwhile.")
}

const codeSuperseded = "superseded"

// job is an edition that is to be indexed.
type job struct {
	edition, collection, version, attempt  int64
	document, tenant, name, subject        string
	scopes                                 []string
	title, contentType, text, encoder, cut string
	language                               string   // of the collection
	findings                               []string // of the extraction
	released                               string   // by whom from quarantine
}

func (d db) job(ctx context.Context, edition int64) (j job, err error) {
	var scopes, findings string
	err = d.QueryRow(ctx, jobByEdition, edition).Scan(&j.edition, &j.collection, &j.document, &j.version, &j.tenant, &j.subject, &scopes,
		&j.title, &j.contentType, &j.text, &j.encoder, &j.cut, &j.attempt, &j.name, &j.language, &findings, &j.released)
	if store.NoRows(err) {
		return j, errSuperseded()
	}
	if err != nil {
		return j, err
	}
	return j, errors.Join(json.Unmarshal([]byte(scopes), &j.scopes), json.Unmarshal([]byte(findings), &j.findings))
}

// editionOf finds the edition that an event speaks of; 0 when it is gone.
func (d db) editionOf(ctx context.Context, tenant, collection, document string, version int64) (edition, attempt int64, err error) {
	err = d.QueryRow(ctx, editionOf, tenant, collection, document, version).Scan(&edition, &attempt)
	if store.NoRows(err) {
		return 0, 0, nil
	}
	return edition, attempt, err
}

// queued is what the last steps of a job need to know about its document.
type queued struct {
	collection, version, old int64
	document, tenant, name   string
	subject, digest          string
}

func (d db) queued(ctx context.Context, q store.Querier, edition int64) (out queued, err error) {
	var old *int64
	err = q.QueryRow(ctx, queuedEdition, edition).Scan(&out.collection, &out.document, &out.version, &old, &out.tenant, &out.name, &out.subject, &out.digest)
	if store.NoRows(err) {
		return out, errSuperseded()
	}
	if old != nil {
		out.old = *old
	}
	return out, err
}

func (d db) hasPart(ctx context.Context, edition int64, part, passages int) (bool, error) {
	var n int
	err := d.QueryRow(ctx, hasPart, edition, part).Scan(&n)
	if store.NoRows(err) {
		return false, nil
	}
	return n == passages, err
}

// indexed is a part of an edition as it is stored: consecutive passages with what was made of them.
type indexed struct {
	first    int
	passages []passage
	terms    int64
	postings []termPostings // for versions of this program that read them
	stored   storedTerms
	vectors  []byte
}

type passage struct {
	start, end int
	text       string
}

type termPostings struct {
	term     int64
	passages int
	packed   []byte
}

// putPart stores a part; storing it again changes nothing.
func (d db) putPart(ctx context.Context, tx *store.Tx, collection, edition int64, encoder string, p indexed) error {
	if _, err := tx.Exec(ctx, deletePassage, edition, p.first, p.first+len(p.passages)); err != nil {
		return err
	}
	for _, q := range []string{deletePosting, deleteVector} {
		if _, err := tx.Exec(ctx, q, edition, p.first); err != nil {
			return err
		}
	}
	rows := batch{query: insertPassage, columns: 5}
	for i, s := range p.passages {
		if err := rows.add(ctx, tx, edition, p.first+i, s.start, s.end, s.text); err != nil {
			return err
		}
	}
	if err := rows.flush(ctx, tx); err != nil {
		return err
	}
	rows = batch{query: insertPosting, columns: 5}
	for _, t := range p.postings {
		if err := rows.add(ctx, tx, t.term, edition, p.first, t.passages, t.packed); err != nil {
			return err
		}
	}
	if err := rows.flush(ctx, tx); err != nil {
		return err
	}
	if err := d.putTerms(ctx, tx, edition, p.stored); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, insertVector, edition, p.first, len(p.passages), p.terms, p.vectors); err != nil {
		return err
	}
	return d.putVectors(ctx, tx, part{collection, edition, p.first, len(p.passages), encoder, p.vectors})
}

// batch inserts many rows in one statement.
type batch struct {
	query   string
	columns int
	args    []any
}

const batchRows = 50 // SQLite takes time by the square of the values of a statement

func (b *batch) add(ctx context.Context, tx *store.Tx, row ...any) error {
	b.args = append(b.args, row...)
	if len(b.args) >= batchRows*b.columns {
		return b.flush(ctx, tx)
	}
	return nil
}

func (b *batch) flush(ctx context.Context, tx *store.Tx) error {
	if len(b.args) == 0 {
		return nil
	}
	var sb strings.Builder
	sb.WriteString(b.query)
	for i := 0; i < len(b.args); i += b.columns {
		if i > 0 {
			sb.WriteByte(',')
		}
		sb.WriteString("(" + marks(i+1, b.columns) + ")")
	}
	_, err := tx.Exec(ctx, sb.String(), b.args...)
	b.args = b.args[:0]
	return err
}

// index stores a part of an edition that is still wanted. An edition has one encoder, and is cut in one way.
// beside are the same passages' vectors of the encoder that the collection goes over to; without an encoder there is none.
func (d db) index(ctx context.Context, tx *store.Tx, edition int64, encoder, cut string, p indexed, beside part) error {
	q, err := d.queued(ctx, tx, edition)
	if err != nil {
		return err
	}
	n, err := tx.Exec(ctx, claimEncoder, encoder, cut, edition)
	if err != nil {
		return err
	}
	if n != 1 {
		return fault.New(fault.Conflict, codeChanged, "The encoder or the rules for cutting changed while the document was indexed.")
	}
	if err := d.putPart(ctx, tx, q.collection, edition, encoder, p); err != nil || beside.encoder == "" {
		return err
	}
	beside.collection = q.collection
	return d.putBeside(ctx, tx, beside)
}

const codeChanged = "changed_while_indexing"

// publish lets searches find an edition in place of the one before.
func (d db) publish(ctx context.Context, tx *store.Tx, edition int64, reason, trust string, now int64) (q queued, passages int64, err error) {
	if q, err = d.queued(ctx, tx, edition); err != nil {
		return q, 0, err
	}
	if err := d.agree(ctx, tx, q.collection, edition); err != nil {
		return q, 0, err
	}
	var terms, oldPassages, oldTerms int64
	if err := tx.QueryRow(ctx, sumParts, edition).Scan(&passages, &terms); err != nil {
		return q, 0, err
	}
	if err := tx.ExecOne(ctx, setCounts, passages, terms, edition); err != nil {
		return q, 0, err
	}
	if q.old != 0 {
		if err := tx.QueryRow(ctx, editionCounts, q.old).Scan(&oldPassages, &oldTerms); err != nil {
			return q, 0, err
		}
	}
	generation, err := d.grow(ctx, tx, q.collection, passages-oldPassages, terms-oldTerms)
	if err != nil {
		return q, 0, err
	}
	if err := tx.ExecOne(ctx, switchEdition, reason, trust, generation, now, edition); err != nil {
		return q, 0, err
	}
	if q.old != 0 {
		if err := d.retire(ctx, tx, q.collection, q.document, q.old, now); err != nil {
			return q, 0, err
		}
		err = d.unlink(ctx, tx, q.collection, q.old, generation)
	}
	return q, passages, err
}

// end gives a document its last status without indexing it; what was indexed of this edition is thrown away.
func (d db) end(ctx context.Context, tx *store.Tx, edition int64, status, reason string, now int64) (queued, error) {
	q, err := d.queued(ctx, tx, edition)
	if err != nil {
		return q, err
	}
	if _, err := tx.Exec(ctx, endWork, status, reason, now, edition); err != nil {
		return q, err
	}
	_, err = tx.Exec(ctx, trashEdition, edition)
	return q, err
}

// park puts work on an edition off until a time.
func (d db) park(ctx context.Context, tx *store.Tx, edition, until int64) error {
	if _, err := d.queued(ctx, tx, edition); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, park, until, edition)
	return err
}

// restart begins work on the same text again at a time, as a new edition; what was made so far is thrown away.
func (d db) restart(ctx context.Context, tx *store.Tx, edition, at int64) error {
	if _, err := d.queued(ctx, tx, edition); err != nil {
		return err
	}
	fresh, err := number(ctx, tx, "edition")
	if err != nil {
		return err
	}
	if err := tx.ExecOne(ctx, copyEdition, fresh, at, edition); err != nil {
		return err
	}
	if err := tx.ExecOne(ctx, replaceLatest, fresh, edition); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, trashEdition, edition)
	return err
}

// due lists parked editions whose time has come.
func (d db) due(ctx context.Context, now int64, limit int) ([]ingestion, error) {
	return readAll(ctx, d, dueEditions, func(in *ingestion) []any { return []any{&in.Edition, &in.Attempt} }, now, limit)
}

// started notes that a parked edition is in work again.
func (d db) started(ctx context.Context, in ingestion) error {
	return d.Tx(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(ctx, doneRetry, in.Edition, in.Attempt)
		return err
	})
}

// rescue takes documents back into work that nobody has worked on since a time. It harms none that
// somebody still works on: of two that finish, one is superseded.
func (d db) rescue(ctx context.Context, now, since int64) error {
	var n int
	if err := d.QueryRow(ctx, countStuck, since).Scan(&n); err != nil || n == 0 {
		return err
	}
	return d.Tx(ctx, func(tx *store.Tx) error {
		for _, q := range []string{parkStuck, touchStuck} {
			if _, err := tx.Exec(ctx, q, now, since); err != nil {
				return err
			}
		}
		return nil
	})
}

// nextDue is when the next parked edition wants to be worked on; zero when there is none.
func (d db) nextDue(ctx context.Context) (at int64, err error) {
	var next *int64
	if err := d.QueryRow(ctx, nextDue, 0).Scan(&next); err != nil || next == nil {
		return 0, err
	}
	return *next, nil
}

// sweepOne deletes a piece of what lies in the trash; done is true when there is nothing left.
func (d db) sweepOne(ctx context.Context) (done bool, err error) {
	var edition int64
	if err := d.QueryRow(ctx, anyTrash).Scan(&edition); err != nil {
		if store.NoRows(err) {
			return true, nil
		}
		return false, err
	}
	err = d.Tx(ctx, func(tx *store.Tx) error {
		var part int
		if err := tx.Overwrite(ctx); err != nil {
			return err
		}
		err := tx.QueryRow(ctx, trashParts, edition).Scan(&part)
		if err == nil {
			for _, q := range []string{deletePosting, deleteTerms, deleteVector} {
				if _, err := tx.Exec(ctx, q, edition, part); err != nil {
					return err
				}
			}
			return nil
		}
		if !store.NoRows(err) {
			return err
		}
		if err := d.deleteVectors(ctx, tx, edition); err != nil {
			return err
		}
		for _, q := range []string{trashBeside, trashPassages, deleteEdition, emptyTrash} {
			if _, err := tx.Exec(ctx, q, edition); err != nil {
				return err
			}
		}
		return nil
	})
	return false, err
}
