package search

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"aran/platform/fault"
	"aran/platform/store"
)

const (
	changeCollection = `UPDATE search_collection SET description = $1, fields = $2, language = $3, words = $4, meaning = $5, duplicates = $6, versions = $7 WHERE id = $8`
	misfits          = `SELECT COUNT(*) FROM search_metadata WHERE collection = $1 AND name = $2 AND kind NOT IN ('', $3)`
	without          = `SELECT COUNT(*) FROM search_document d WHERE d.collection = $1 AND NOT EXISTS (SELECT 1 FROM search_metadata m WHERE m.collection = d.collection AND m.document = d.id AND m.name = $2)`
	setModel         = `UPDATE search_collection SET model = $1, encoder = $2 WHERE id = $3`
	switchEncoder    = `UPDATE search_collection SET model = $1, encoder = $2, generation = generation + 1 WHERE id = $3`
	pinFirst         = `UPDATE search_collection SET encoder = $1 WHERE id = $2 AND encoder = ''`

	reembeddingColumns = `id, collection, tenant, subject, scopes, model, old_encoder, encoder, state, reason, total, done, attempt, retry_at, created_at, updated_at`
	insertReembedding  = `INSERT INTO search_reembedding (` + reembeddingColumns + `) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'running', '', $9, $10, 0, $11, $11, $11)`
	reembeddingByID    = `SELECT ` + reembeddingColumns + ` FROM search_reembedding WHERE id = $1`
	lastReembedding    = `SELECT ` + reembeddingColumns + ` FROM search_reembedding WHERE collection = $1 ORDER BY created_at DESC, id DESC LIMIT 1`
	runningReembedding = `SELECT ` + reembeddingColumns + ` FROM search_reembedding WHERE collection = $1 AND state = 'running'`
	endReembedding     = `UPDATE search_reembedding SET state = $1, reason = $2, updated_at = $3 WHERE id = $4 AND state = 'running'`
	pruneReembeddings  = `DELETE FROM search_reembedding WHERE collection = $1 AND state <> 'running'
		AND id NOT IN (SELECT id FROM search_reembedding WHERE collection = $1 ORDER BY created_at DESC, id DESC LIMIT 5)`
	parkReembedding   = `UPDATE search_reembedding SET attempt = attempt + 1, retry_at = $1, updated_at = $2 WHERE id = $3 AND state = 'running'`
	goneOn            = `UPDATE search_reembedding SET done = done + $1, reason = '', updated_at = $2 WHERE id = $3`
	setDone           = `UPDATE search_reembedding SET done = $1, total = $1, updated_at = $2 WHERE id = $3`
	setReason         = `UPDATE search_reembedding SET reason = $1 WHERE id = $2`
	dueReembeddings   = `SELECT id, attempt FROM search_reembedding WHERE state = 'running' AND retry_at > 0 AND retry_at <= $1 LIMIT $2`
	startReembedding  = `UPDATE search_reembedding SET retry_at = 0 WHERE id = $1 AND attempt = $2`
	nextReembedding   = `SELECT MIN(retry_at) FROM search_reembedding WHERE state = 'running' AND retry_at > 0`
	stuckReembeddings = `UPDATE search_reembedding SET attempt = attempt + 1, retry_at = $1, updated_at = $1 WHERE state = 'running' AND retry_at = 0 AND updated_at < $2`

	liveParts = `SELECT COUNT(*) FROM search_document d JOIN search_vector v ON v.edition = d.edition WHERE d.collection = $1`
	// lacking is the condition on part v of edition e that it has no vectors of encoder $2.
	lacking      = `e.encoder <> $2 AND NOT EXISTS (SELECT 1 FROM search_vector_beside b WHERE b.edition = v.edition AND b.encoder = $2 AND b.part = v.part)`
	countLacking = `SELECT COUNT(*) FROM search_document d JOIN search_edition e ON e.id = d.edition JOIN search_vector v ON v.edition = e.id WHERE d.collection = $1 AND ` + lacking
	nextLacking  = `SELECT v.edition, v.part, v.passages FROM search_vector v JOIN search_edition e ON e.id = v.edition JOIN search_document d ON d.edition = e.id
		WHERE e.collection = $1 AND (v.edition, v.part) > ($3, $4) AND ` + lacking + ` ORDER BY v.edition, v.part LIMIT $5`
	stillFound    = `SELECT COUNT(*) FROM search_document WHERE edition = $1`
	insertBeside  = `INSERT INTO search_vector_beside (edition, encoder, part, passages, packed) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (edition, encoder, part) DO UPDATE SET passages = excluded.passages, packed = excluded.packed`
	partPassages  = `SELECT start_at, end_at FROM search_passage WHERE edition = $1 AND ordinal >= $2 AND ordinal < $3 ORDER BY ordinal`
	editionSource = `SELECT title, content_type, text FROM search_edition WHERE id = $1`

	// Vectors beside that nobody waits for: of a collection that has gone over to them, or will not.
	oneBeside = `SELECT b.edition, b.encoder, c.id, c.encoder, e.encoder FROM search_vector_beside b JOIN search_edition e ON e.id = b.edition JOIN search_collection c ON c.id = e.collection
		WHERE NOT EXISTS (SELECT 1 FROM search_reembedding r WHERE r.collection = c.id AND (r.state = 'running' OR r.updated_at > $1))
		AND (b.encoder <> c.encoder OR EXISTS (SELECT 1 FROM search_document d WHERE d.edition = b.edition)) LIMIT 1`
	anyBeside  = `SELECT COUNT(*) FROM (SELECT 1 FROM search_vector_beside LIMIT 1) x`
	takeBeside = `UPDATE search_vector SET packed = (SELECT b.packed FROM search_vector_beside b WHERE b.edition = search_vector.edition AND b.encoder = $1 AND b.part = search_vector.part)
		WHERE edition = $2 AND EXISTS (SELECT 1 FROM search_vector_beside b WHERE b.edition = search_vector.edition AND b.encoder = $1 AND b.part = search_vector.part)`
	takeEncoder  = `UPDATE search_edition SET encoder = $1 WHERE id = $2`
	deleteBeside = `DELETE FROM search_vector_beside WHERE edition = $1 AND encoder = $2`
	trashBeside  = `DELETE FROM search_vector_beside WHERE edition = $1`
	besideParts  = `SELECT part, passages, packed FROM search_vector_beside WHERE edition = $1 AND encoder = $2`
	editionParts = `SELECT v.edition, v.part, v.passages, v.packed FROM search_vector v WHERE v.edition = $1`

	pinnedEncoders = `SELECT id, encoder FROM search_collection WHERE encoder <> ''`
	modelsInUse    = `SELECT model, MIN(id) FROM search_collection WHERE encoder <> '' AND tenant <> $1 GROUP BY model`
	outOfDate      = `SELECT ` + collectionColumns + ` FROM search_collection c WHERE model = $1 AND encoder <> '' AND encoder <> $2 AND tenant <> $3
		AND NOT EXISTS (SELECT 1 FROM search_reembedding r WHERE r.collection = c.id AND (r.state = 'running' OR r.encoder = $2 AND r.state = 'cancelled')) LIMIT $4`
	editionTwoEncoders = `SELECT c.encoder, e.encoder, (SELECT COUNT(*) FROM search_vector v WHERE v.edition = e.id),
		(SELECT COUNT(*) FROM search_vector_beside b WHERE b.edition = e.id AND b.encoder = c.encoder),
		(SELECT COUNT(*) FROM search_reembedding r WHERE r.collection = c.id AND r.state = 'running' AND r.encoder = e.encoder)
		FROM search_edition e JOIN search_collection c ON c.id = e.collection WHERE e.id = $1`

	unseenMetadata = `SELECT collection, document, name, value FROM search_metadata WHERE kind = '' LIMIT $1`
	seeMetadata    = `UPDATE search_metadata SET kind = $1, number = $2 WHERE collection = $3 AND document = $4 AND name = $5`
)

// changeCollection changes settings; encoder is the digest of the model that the change names, if it names one.
func (d db) changeCollection(ctx context.Context, v viewer, name string, ch Change, encoder string) error {
	return d.Tx(ctx, func(tx *store.Tx) error {
		c, err := d.own(ctx, tx, v.tenant, name)
		if err != nil {
			return err
		}
		s := ch.apply(c.Settings)
		if err := s.check(); err != nil {
			return err
		}
		if err := d.fitting(ctx, tx, c, s); err != nil {
			return err
		}
		fields, err := json.Marshal(s.Fields)
		if err != nil {
			return err
		}
		if err := tx.ExecOne(ctx, changeCollection, s.Description, string(fields), s.Language, s.Weights.Words, s.Weights.Meaning, s.Duplicates, s.Versions, c.id); err != nil {
			return err
		}
		if ch.Model != nil {
			if _, err := d.aim(ctx, tx, v, c, *ch.Model, encoder); err != nil {
				return err
			}
		}
		return tx.Emit(ctx, store.Event{Type: CollectionChanged, Tenant: v.tenant, Actor: v.subject, Subject: c.Name, Data: CollectionEvent{Collection: c.Name}})
	})
}

// fitting refuses settings that what is stored already does not fit.
func (d db) fitting(ctx context.Context, tx *store.Tx, c Collection, s Settings) error {
	if s.Language != c.Language {
		var n int
		if err := tx.QueryRow(ctx, countDocuments, c.id).Scan(&n); err != nil {
			return err
		}
		if n > 0 {
			return fault.New(fault.Conflict, "language_in_use", "The words of %d documents are indexed by the rules of %q; make another collection for %q.", n, c.Language, s.Language)
		}
	}
	for _, f := range s.Fields {
		if slices.Contains(c.Fields, f) {
			continue // it was so before
		}
		var n int
		if f.Required {
			if err := tx.QueryRow(ctx, without, c.id, f.Name).Scan(&n); err != nil {
				return err
			}
			if n > 0 {
				return fault.New(fault.Conflict, "fields_in_use", "%d documents have no %q; add it to them first.", n, f.Name)
			}
		}
		if f.Type == FieldText || f.Type == FieldKeyword {
			continue
		}
		if err := tx.QueryRow(ctx, misfits, c.id, f.Name, f.Type).Scan(&n); err != nil {
			return err
		}
		if n > 0 {
			return fault.New(fault.Conflict, "fields_in_use", "%d documents have a %q that is no %s; change them first.", n, f.Name, f.Type)
		}
	}
	return nil
}

func scanReembedding(r store.Row) (j Reembedding, err error) {
	var scopes string
	var created, updated int64
	err = r.Scan(&j.ID, &j.collection, &j.tenant, &j.subject, &scopes, &j.Model, &j.From, &j.To, &j.State, &j.Reason, &j.Total, &j.Done, &j.attempt, &j.retryAt, &created, &updated)
	if err != nil {
		return j, err
	}
	j.Created, j.Updated = time.UnixMicro(created).UTC(), time.UnixMicro(updated).UTC()
	return j, json.Unmarshal([]byte(scopes), &j.scopes)
}

// lastReembedding returns the one of a collection that began last; without an id when there was none.
func (d db) lastReembedding(ctx context.Context, q store.Querier, collection int64) (Reembedding, error) {
	j, err := scanReembedding(q.QueryRow(ctx, lastReembedding, collection))
	if store.NoRows(err) {
		return Reembedding{}, nil
	}
	return j, err
}

// running returns the one that a collection has in work; without an id when there is none.
func (d db) running(ctx context.Context, q store.Querier, collection int64) (Reembedding, error) {
	j, err := scanReembedding(q.QueryRow(ctx, runningReembedding, collection))
	if store.NoRows(err) {
		return Reembedding{}, nil
	}
	return j, err
}

func (d db) beginReembedding(ctx context.Context, v viewer, c Collection, model, encoder string) (j Reembedding, err error) {
	err = d.Tx(ctx, func(tx *store.Tx) error {
		fresh, err := d.own(ctx, tx, c.tenant, c.Name)
		if err == nil && fresh.id == c.id {
			j, err = d.aim(ctx, tx, v, fresh, model, encoder)
		}
		return err
	})
	return j, err
}

// aim has a collection go over to an encoder: at once when it has nothing, by a job otherwise. One that is on its way to
// another is ended. Where there is nothing to do it returns the last job.
func (d db) aim(ctx context.Context, tx *store.Tx, v viewer, c Collection, model, encoder string) (j Reembedding, err error) {
	old, err := d.running(ctx, tx, c.id)
	if err != nil || old.ID != "" && old.To == encoder && old.Model == model {
		return old, err
	}
	at := now()
	if old.ID != "" {
		if err := d.endReembedding(ctx, tx, c.Name, old, ReembeddingCancelled, "replaced", v.subject); err != nil {
			return j, err
		}
	}
	var total, missing int64
	if err := tx.QueryRow(ctx, liveParts, c.id).Scan(&total); err != nil {
		return j, err
	}
	if err := tx.QueryRow(ctx, countLacking, c.id, encoder).Scan(&missing); err != nil {
		return j, err
	}
	if total == 0 || missing == 0 && c.Encoder == encoder {
		if _, err := tx.Exec(ctx, setModel, model, encoder, c.id); err != nil {
			return j, err
		}
		return d.lastReembedding(ctx, tx, c.id)
	}
	ceiling, err := json.Marshal(v.scopes)
	if err != nil {
		return j, err
	}
	id := "search-" + newID()
	if _, err := tx.Exec(ctx, insertReembedding, id, c.id, c.tenant, v.subject, string(ceiling), model, c.Encoder, encoder, total, total-missing, at.UnixMicro()); err != nil {
		return j, err
	}
	if _, err := tx.Exec(ctx, pruneReembeddings, c.id); err != nil {
		return j, err
	}
	if err := tx.Emit(ctx, store.Event{
		Type: ReembeddingStarted, Tenant: c.tenant, Actor: v.subject, Subject: c.Name,
		Data: ReembeddingEvent{Collection: c.Name, Job: id, Model: model, From: c.Encoder, Encoder: encoder, Parts: total},
	}); err != nil {
		return j, err
	}
	return scanReembedding(tx.QueryRow(ctx, reembeddingByID, id))
}

// endReembedding ends a job that is running; settling follows by itself.
func (d db) endReembedding(ctx context.Context, tx *store.Tx, collection string, j Reembedding, state, reason, actor string) error {
	n, err := tx.Exec(ctx, endReembedding, state, reason, now().UnixMicro(), j.ID)
	if err != nil || n == 0 {
		return err
	}
	return tx.Emit(ctx, store.Event{
		Type: ReembeddingEnded, Tenant: j.tenant, Actor: actor, Subject: collection,
		Data: ReembeddingEvent{Collection: collection, Job: j.ID, Model: j.Model, From: j.From, Encoder: j.To, Parts: j.Total, State: state, Reason: reason},
	})
}

// reembedding returns a job that is running, with its collection.
func (d db) reembedding(ctx context.Context, q store.Querier, id string) (j Reembedding, c Collection, err error) {
	j, err = scanReembedding(q.QueryRow(ctx, reembeddingByID, id))
	if store.NoRows(err) || err == nil && j.State != ReembeddingRunning {
		return j, c, errSuperseded()
	}
	if err != nil {
		return j, c, err
	}
	c, err = scanCollection(q.QueryRow(ctx, `SELECT `+collectionColumns+` FROM search_collection WHERE id = $1`, j.collection))
	if store.NoRows(err) {
		return j, c, errSuperseded()
	}
	return j, c, err
}

// piece is a part whose vectors are to be made.
type piece struct {
	edition         int64
	first, passages int
}

// lackingParts lists parts after a place that have no vectors of the job's encoder.
func (d db) lackingParts(ctx context.Context, j Reembedding, after place, limit int) ([]piece, error) {
	return readAll(ctx, d, nextLacking, func(p *piece) []any { return []any{&p.edition, &p.first, &p.passages} }, j.collection, j.To, after.edition, after.part, limit)
}

// source is the text of an edition; gone when it was deleted meanwhile.
func (d db) source(ctx context.Context, edition int64) (title, contentType, text string, gone bool, err error) {
	err = d.QueryRow(ctx, editionSource, edition).Scan(&title, &contentType, &text)
	if store.NoRows(err) {
		return "", "", "", true, nil
	}
	return title, contentType, text, false, err
}

// spans are where the passages of a part stand.
func (d db) spans(ctx context.Context, p piece) ([][2]int, error) {
	return readAll(ctx, d, partPassages, func(s *[2]int) []any { return []any{&s[0], &s[1]} }, p.edition, p.first, p.first+p.passages)
}

// putBeside stores vectors of another encoder for a part whose edition searches still find.
func (d db) putBeside(ctx context.Context, tx *store.Tx, p part) error {
	if _, err := tx.Exec(ctx, insertBeside, p.edition, p.encoder, p.first, p.passages, p.packed); err != nil {
		return err
	}
	return d.putVectors(ctx, tx, p)
}

func (d db) isFound(ctx context.Context, tx *store.Tx, edition int64) (bool, error) {
	var n int
	err := tx.QueryRow(ctx, stillFound, edition).Scan(&n)
	return n > 0, err
}

// progress writes down that a job made vectors of some parts; the job must be running still.
func (d db) progress(ctx context.Context, tx *store.Tx, id string, parts int) error {
	if _, _, err := d.reembedding(ctx, tx, id); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, goneOn, parts, now().UnixMicro(), id)
	return err
}

// switchOver lets searches go by the vectors of the job's encoder, if nothing lacks them; all in one transaction.
func (d db) switchOver(ctx context.Context, tx *store.Tx, id string) (missing int64, err error) {
	j, c, err := d.reembedding(ctx, tx, id)
	if err != nil {
		return 0, err
	}
	if err := tx.QueryRow(ctx, countLacking, j.collection, j.To).Scan(&missing); err != nil || missing > 0 {
		return missing, err
	}
	if err := tx.ExecOne(ctx, switchEncoder, j.Model, j.To, c.id); err != nil {
		return 0, err
	}
	if err := tx.QueryRow(ctx, liveParts, c.id).Scan(&j.Total); err != nil {
		return 0, err
	}
	if _, err := tx.Exec(ctx, setDone, j.Total, now().UnixMicro(), id); err != nil {
		return 0, err
	}
	return 0, d.endReembedding(ctx, tx, c.Name, j, ReembeddingDone, "", j.subject)
}

func (d db) parkReembedding(ctx context.Context, tx *store.Tx, id string, until int64, reason string) error {
	if _, err := tx.Exec(ctx, setReason, reason, id); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, parkReembedding, until, now().UnixMicro(), id)
	return err
}

// settle takes up or deletes the vectors beside one edition, when no job on its collection ended after a time; done is
// true when there was none left.
func (d db) settle(ctx context.Context, endedBefore int64) (done bool, err error) {
	var edition, collection int64
	var beside, pinned, own string
	if err := d.QueryRow(ctx, oneBeside, endedBefore).Scan(&edition, &beside, &collection, &pinned, &own); err != nil {
		return store.NoRows(err), ignoreNoRows(err)
	}
	return false, d.Tx(ctx, func(tx *store.Tx) error {
		stale := beside
		if beside == pinned && own != pinned {
			for _, q := range []string{takeBeside, takeEncoder} {
				if _, err := tx.Exec(ctx, q, beside, edition); err != nil {
					return err
				}
			}
			stale = own
		}
		if _, err := tx.Exec(ctx, deleteBeside, edition, beside); err != nil {
			return err
		}
		if stale == pinned { // both places had the same
			return nil
		}
		there, err := d.vectors.There(ctx, tx)
		if err != nil || !there {
			return err
		}
		return d.vectors.DeleteOf(ctx, tx, spaceOf(collection, stale), edition)
	})
}

func (d db) anyBeside(ctx context.Context) (bool, error) {
	var n int
	err := d.QueryRow(ctx, anyBeside).Scan(&n)
	return n > 0, err
}

func ignoreNoRows(err error) error {
	if store.NoRows(err) {
		return nil
	}
	return err
}

// pinOf is what a document of a collection is to be embedded with.
type pinOf struct {
	collection Collection
	job        Reembedding // in work; without an id: none
}

func (d db) pin(ctx context.Context, tenant, name string) (p pinOf, err error) {
	if p.collection, err = d.own(ctx, d, tenant, name); err != nil {
		if fault.KindOf(err) == fault.Missing {
			return p, errSuperseded()
		}
		return p, err
	}
	p.job, err = d.running(ctx, d, p.collection.id)
	return p, err
}

// agree refuses to let searches find an edition whose vectors are neither those that the collection goes by nor those
// that it goes over to. The first edition decides for the collection.
func (d db) agree(ctx context.Context, tx *store.Tx, collection, edition int64) error {
	var pinned, own string
	var parts, beside, jobs int
	if err := tx.QueryRow(ctx, editionTwoEncoders, edition).Scan(&pinned, &own, &parts, &beside, &jobs); err != nil {
		return err
	}
	switch {
	case pinned == "":
		_, err := tx.Exec(ctx, pinFirst, own, collection)
		return err
	case pinned == own, beside == parts, jobs > 0:
		return nil
	}
	return fault.New(fault.Conflict, codeChanged, "The collection went over to another encoder while the document was indexed.")
}

// modelsInUse lists the models of collections, with one collection each.
func (d db) modelsInUse(ctx context.Context) (out map[string]Collection, err error) {
	rows, err := d.Query(ctx, modelsInUse, SystemTenant)
	if err != nil {
		return nil, err
	}
	ids, err := func() (ids map[string]int64, err error) {
		defer rows.Close() //nolint:errcheck // read only
		ids = map[string]int64{}
		for rows.Next() {
			var model string
			var id int64
			if err := rows.Scan(&model, &id); err != nil {
				return nil, err
			}
			ids[model] = id
		}
		return ids, rows.Err()
	}()
	if err != nil {
		return nil, err
	}
	out = map[string]Collection{}
	for model, id := range ids {
		c, err := scanCollection(d.QueryRow(ctx, `SELECT `+collectionColumns+` FROM search_collection WHERE id = $1`, id))
		if store.NoRows(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out[model] = c
	}
	return out, nil
}

// outOfDate lists collections of a model that go by another digest of it than a given one.
func (d db) outOfDate(ctx context.Context, model, encoder string, limit int) (out []Collection, err error) {
	rows, err := d.Query(ctx, outOfDate, model, encoder, SystemTenant, limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // read only
	for rows.Next() {
		c, err := scanCollection(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, rows.Err()
}

// pinned is the encoder that each collection goes by.
func (d db) pinned(ctx context.Context) (map[int64]string, error) {
	rows, err := d.Query(ctx, pinnedEncoders)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // read only
	out := map[int64]string{}
	for rows.Next() {
		var id int64
		var encoder string
		if err := rows.Scan(&id, &encoder); err != nil {
			return nil, err
		}
		out[id] = encoder
	}
	return out, rows.Err()
}

// dueReembedding lists jobs whose time has come.
func (d db) dueReembedding(ctx context.Context, now int64, limit int) ([]reembedding, error) {
	return readAll(ctx, d, dueReembeddings, func(in *reembedding) []any { return []any{&in.Job, &in.Attempt} }, now, limit)
}

func (d db) startedReembedding(ctx context.Context, in reembedding) error {
	return d.Tx(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(ctx, startReembedding, in.Job, in.Attempt)
		return err
	})
}

// rescueReembeddings takes jobs back into work that nobody has worked on since a time.
func (d db) rescueReembeddings(ctx context.Context, now, since int64) error {
	var n int
	if err := d.QueryRow(ctx, `SELECT COUNT(*) FROM search_reembedding WHERE state = 'running' AND retry_at = 0 AND updated_at < $1`, since).Scan(&n); err != nil || n == 0 {
		return err
	}
	return d.Tx(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(ctx, stuckReembeddings, now, since)
		return err
	})
}

func (d db) nextReembedding(ctx context.Context) (at int64, err error) {
	var next *int64
	if err := d.QueryRow(ctx, nextReembedding).Scan(&next); err != nil || next == nil {
		return 0, err
	}
	return *next, nil
}

// lookAtMetadata gives values of before their kinds; done is true when there are none left.
func (d db) lookAtMetadata(ctx context.Context, limit int) (done bool, err error) {
	type value struct {
		collection            int64
		document, name, value string
	}
	unseen, err := readAll(ctx, d, unseenMetadata, func(v *value) []any { return []any{&v.collection, &v.document, &v.name, &v.value} }, limit)
	if err != nil || len(unseen) == 0 {
		return err == nil, err
	}
	return false, d.Tx(ctx, func(tx *store.Tx) error {
		for _, v := range unseen {
			kind, n := column(v.value)
			if _, err := tx.Exec(ctx, seeMetadata, kind, n, v.collection, v.document, v.name); err != nil {
				return err
			}
		}
		return nil
	})
}
