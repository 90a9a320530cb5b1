package search

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"aran/platform/fault"
	"aran/platform/store"
	"aran/platform/vector"
)

// db holds all SQL of this service: collections and documents here, what searches read in
// store_read.go, what ingestion writes in store_index.go, vectors in the database in store_vector.go.
type db struct {
	*store.DB
	vectors *vector.Table
}

const (
	nextNumber = `INSERT INTO search_sequence (name, last) VALUES ($1, 1)
		ON CONFLICT (name) DO UPDATE SET last = search_sequence.last + 1 RETURNING last`

	collectionColumns = `id, tenant, name, description, public, owner, created_at, generation, passages, terms, pack, fields, language, model, encoder, words, meaning, duplicates, versions`
	insertCollection  = `INSERT INTO search_collection (` + collectionColumns + `, personal) VALUES ($1, $2, $3, $4, $5, $6, $7, 0, 0, 0, $8, $9, $10, $11, $12, $13, $14, $15, $16, 0)`
	countCollections  = `SELECT COUNT(*) FROM search_collection WHERE tenant = $1`
	ownCollection     = `SELECT ` + collectionColumns + ` FROM search_collection WHERE tenant = $1 AND name = $2`
	publicCollection  = `SELECT ` + collectionColumns + ` FROM search_collection WHERE tenant = $1 AND name = $2 AND public = 1`
	readCollections   = `SELECT ` + collectionColumns + ` FROM search_collection
		WHERE (tenant = $1 OR tenant = $2 AND public = 1) AND name > $3 ORDER BY name, CASE WHEN tenant = $1 THEN 0 ELSE 1 END LIMIT $4`
	deleteCollection = `DELETE FROM search_collection WHERE id = $1`
	trashCollection  = `INSERT INTO search_trash (edition) SELECT id FROM search_edition WHERE collection = $1 ON CONFLICT DO NOTHING`
	deleteDocuments  = `DELETE FROM search_document WHERE collection = $1`
	deleteAccesses   = `DELETE FROM search_access WHERE collection = $1`
	deleteMetadatas  = `DELETE FROM search_metadata WHERE collection = $1`
	deleteGone       = `DELETE FROM search_gone WHERE collection = $1`
	deleteJobs       = `DELETE FROM search_reembedding WHERE collection = $1`
	deleteAllVersion = `DELETE FROM search_version WHERE collection = $1`
	countDocuments   = `SELECT COUNT(*) FROM search_document d WHERE d.collection = $1`

	documentColumns = `d.collection, d.id, d.title, d.owner, d.source, d.trust, d.status, d.reason, d.restricted, d.access, d.metadata, d.version, d.digest, d.latest, d.edition, d.created_at, d.updated_at`
	documentByID    = `SELECT ` + documentColumns + ` FROM search_document d WHERE d.collection = $1 AND d.id = $2`
	insertDocument  = `INSERT INTO search_document (collection, id, title, owner, source, trust, status, reason, restricted, access, metadata, version, digest, latest, edition, generation, created_at, updated_at, text_digest)
		VALUES ($1, $2, $3, $4, $5, $6, $7, '', $8, $9, $10, $11, $12, $13, NULL, $14, $15, $15, $16)`
	updateDocument = `UPDATE search_document SET title = $1, source = $2, trust = $3, status = $4, reason = '', restricted = $5, access = $6, metadata = $7,
		version = $8, digest = $9, latest = $10, generation = $11, updated_at = $12, text_digest = $13 WHERE collection = $14 AND id = $15`
	deleteDocument = `DELETE FROM search_document WHERE collection = $1 AND id = $2`
	deleteAccess   = `DELETE FROM search_access WHERE collection = $1 AND document = $2`
	insertAccess   = `INSERT INTO search_access (collection, document, principal) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`
	deleteMetadata = `DELETE FROM search_metadata WHERE collection = $1 AND document = $2`
	insertMetadata = `INSERT INTO search_metadata (collection, document, name, value, kind, number) VALUES ($1, $2, $3, $4, $5, $6)`
	trashEditions  = `INSERT INTO search_trash (edition) SELECT id FROM search_edition WHERE collection = $1 AND document = $2 ON CONFLICT DO NOTHING`
	trashEdition   = `INSERT INTO search_trash (edition) VALUES ($1) ON CONFLICT DO NOTHING`
	insertEdition  = `INSERT INTO search_edition (id, collection, document, version, tenant, subject, scopes, title, content_type, text, digest, original, original_type, pages, findings, stored_at, encoder, cut, passages, terms, attempt, retry_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, '', '', 0, 0, 0, 0)`
	nextGenerat   = `UPDATE search_collection SET generation = generation + 1, passages = passages + $1, terms = terms + $2 WHERE id = $3 RETURNING generation`
	insertGone    = `INSERT INTO search_gone (collection, generation, edition) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`
	pruneGone     = `DELETE FROM search_gone WHERE collection = $1 AND generation <= $2`
	editionCounts = `SELECT passages, terms FROM search_edition WHERE id = $1`
)

// keptGenerations is how far behind an index in memory may be to catch up without a full load.
const keptGenerations = 1000

func number(ctx context.Context, tx *store.Tx, name string) (n int64, err error) {
	return n, tx.QueryRow(ctx, nextNumber, name).Scan(&n)
}

func scanCollection(r store.Row) (c Collection, err error) {
	var created int64
	var fields string
	err = r.Scan(&c.id, &c.tenant, &c.Name, &c.Description, &c.Public, &c.Owner, &created, &c.generation, &c.passages, &c.terms, &c.pack,
		&fields, &c.Language, &c.Model, &c.Encoder, &c.Weights.Words, &c.Weights.Meaning, &c.Duplicates, &c.Versions)
	if err != nil {
		return c, err
	}
	c.Created = time.UnixMicro(created).UTC()
	if err := json.Unmarshal([]byte(fields), &c.Fields); err != nil {
		return c, fmt.Errorf("fields of collection %s: %w", c.Name, err)
	}
	return c, nil
}

// createCollection makes a collection, or returns the one that the same request made before.
func (d db) createCollection(ctx context.Context, c Collection, quota int, w write) (out Collection, err error) {
	err = d.Tx(ctx, func(tx *store.Tx) error {
		c := c // the function may run again
		name, err := w.earlier(ctx, tx)
		if err != nil {
			return err
		}
		if name != "" {
			out, err = d.own(ctx, tx, c.tenant, name)
			return err
		}
		if _, err := scanCollection(tx.QueryRow(ctx, publicCollection, SystemTenant, c.Name)); err == nil {
			return fault.New(fault.Conflict, "collection_exists", "%q is a public collection of the platform; choose another name.", c.Name)
		} else if !store.NoRows(err) {
			return err
		}
		var n int
		if err := tx.QueryRow(ctx, countCollections, c.tenant).Scan(&n); err != nil {
			return err
		}
		if n >= quota {
			return fault.New(fault.Conflict, "too_many_collections", "There are %d collections already; delete one first.", n)
		}
		if c.id, err = number(ctx, tx, "collection"); err != nil {
			return err
		}
		if err := d.insertCollection(ctx, tx, c); err != nil {
			if store.IsUnique(err) || fault.KindOf(err) == fault.Conflict {
				return fault.New(fault.Conflict, "collection_exists", "There is a collection %q already.", c.Name).Because(err)
			}
			return err
		}
		if err := w.remember(ctx, tx, c.Name); err != nil {
			return err
		}
		out = c
		return tx.Emit(ctx, store.Event{Type: CollectionCreated, Tenant: c.tenant, Actor: c.Owner, Subject: c.Name, Data: CollectionEvent{Collection: c.Name}})
	})
	return out, err
}

func (d db) insertCollection(ctx context.Context, tx *store.Tx, c Collection) error {
	fields, err := json.Marshal(c.Fields)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, insertCollection, c.id, c.tenant, c.Name, c.Description, bit(c.Public), c.Owner, c.Created.UnixMicro(), c.pack,
		string(fields), c.Language, c.Model, c.Encoder, c.Weights.Words, c.Weights.Meaning, c.Duplicates, c.Versions)
	return err
}

// own returns a tenant's collection by name.
func (d db) own(ctx context.Context, q store.Querier, tenant, name string) (Collection, error) {
	c, err := scanCollection(q.QueryRow(ctx, ownCollection, tenant, name))
	if store.NoRows(err) {
		return Collection{}, fault.NotFound("collection", name)
	}
	return c, err
}

// readable returns what a tenant means by a name: its own collection, else a public one of the platform.
func (d db) readable(ctx context.Context, tenant, name string) (Collection, error) {
	c, err := d.own(ctx, d, tenant, name)
	if fault.KindOf(err) != fault.Missing {
		return c, err
	}
	public, perr := scanCollection(d.QueryRow(ctx, publicCollection, SystemTenant, name))
	if store.NoRows(perr) {
		return Collection{}, err
	}
	return public, perr
}

// readAll reads all that a query finds, one value a row; fields are where its columns go.
func readAll[T any](ctx context.Context, q store.Querier, query string, fields func(*T) []any, args ...any) (out []T, err error) {
	rows, err := q.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // read only
	for rows.Next() {
		var t T
		if err := rows.Scan(fields(&t)...); err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	return out, rows.Err()
}

// allReadable lists collections by name; of two with one name the tenant's own.
func (d db) allReadable(ctx context.Context, tenant, after string, limit int) (out []Collection, err error) {
	rows, err := d.Query(ctx, readCollections, tenant, SystemTenant, after, limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // read only
	for rows.Next() {
		c, err := scanCollection(rows)
		if err != nil {
			return nil, err
		}
		if n := len(out); n > 0 && out[n-1].Name == c.Name {
			continue
		}
		out = append(out, c)
	}
	return out, rows.Err()
}

func (d db) countReadable(ctx context.Context, c Collection, v viewer) (n int64, err error) {
	clause, args := v.may(c, 2)
	return n, d.QueryRow(ctx, countDocuments+" AND "+clause, append([]any{c.id}, args...)...).Scan(&n)
}

// deleteCollection unlinks a collection and everything in it; sweep deletes the rest.
func (d db) deleteCollection(ctx context.Context, v viewer, name string) error {
	return d.Tx(ctx, func(tx *store.Tx) error {
		if err := tx.Overwrite(ctx); err != nil {
			return err
		}
		c, err := d.own(ctx, tx, v.tenant, name)
		if err != nil {
			return err
		}
		var all, readable int64
		clause, args := v.may(c, 2)
		if err := tx.QueryRow(ctx, countDocuments, c.id).Scan(&all); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, countDocuments+" AND "+clause, append([]any{c.id}, args...)...).Scan(&readable); err != nil {
			return err
		}
		if c.Owner != v.subject && readable < all {
			return fault.New(fault.Denied, "collection_not_yours", "The collection holds documents that you may not read; its owner can delete it.")
		}
		for _, q := range []string{trashCollection, deleteAllVersion, deleteDocuments, deleteAccesses, deleteMetadatas, deleteGone, deleteJobs, deleteCollection} {
			if _, err := tx.Exec(ctx, q, c.id); err != nil {
				return err
			}
		}
		return tx.Emit(ctx, store.Event{Type: CollectionDeleted, Tenant: v.tenant, Actor: v.subject, Subject: c.Name, Data: CollectionEvent{Collection: c.Name, Documents: all}})
	})
}

func scanDocument(r store.Row) (x Document, err error) {
	var created, updated int64
	var access, metadata string
	var edition *int64
	err = r.Scan(&x.collection, &x.ID, &x.Title, &x.Owner, &x.Source, &x.Trust, &x.Status, &x.Reason, &x.restricted, &access, &metadata, &x.Version, &x.digest, &x.latest, &edition, &created, &updated)
	if err != nil {
		return x, err
	}
	if edition != nil {
		x.edition = *edition
	}
	x.Created, x.Updated = time.UnixMicro(created).UTC(), time.UnixMicro(updated).UTC()
	if err := json.Unmarshal([]byte(access), &x.Access); err != nil {
		return x, fmt.Errorf("access list of document %s: %w", x.ID, err)
	}
	if err := json.Unmarshal([]byte(metadata), &x.Metadata); err != nil {
		return x, fmt.Errorf("metadata of document %s: %w", x.ID, err)
	}
	return x, nil
}

// putDocument stores a new version of a document, and the event that begins the work on it.
func (d db) putDocument(ctx context.Context, v viewer, name string, x Document, w write) (of Collection, out Document, err error) {
	err = d.Tx(ctx, func(tx *store.Tx) error {
		x := x // the function may run again
		c, err := d.own(ctx, tx, v.tenant, name)
		if err != nil {
			return err
		}
		of = c
		id, err := w.earlier(ctx, tx)
		if err != nil {
			return err
		}
		if id != "" {
			out, err = d.document(ctx, tx, v, c, id)
			return err
		}
		if x.Metadata, err = conform(c.Fields, x.Metadata); err != nil {
			return err
		}
		twin, err := d.twin(ctx, tx, v, c, x)
		if err != nil {
			return err
		}
		old, err := scanDocument(tx.QueryRow(ctx, documentByID, c.id, x.ID))
		if store.NoRows(err) && twin != "" && c.Duplicates != KeepDuplicates {
			if c.Duplicates == RefuseDuplicates {
				return fault.New(fault.Conflict, "duplicate", "The collection has this text already, as %q, and takes no duplicates.", twin)
			}
			if out, err = d.document(ctx, tx, v, c, twin); err != nil {
				return err
			}
			out.DuplicateOf, out.Skipped = twin, true
			return w.remember(ctx, tx, twin)
		}
		switch {
		case store.NoRows(err):
			x.Version, x.Created = 1, x.Updated
			x.Owner = v.subject
		case err != nil:
			return err
		default:
			if _, err := d.document(ctx, tx, v, c, x.ID); err != nil {
				return fault.New(fault.Conflict, "document_exists", "The id %q is taken; choose another.", x.ID)
			}
			if old.digest == x.digest && (old.Status == StatusIndexed || old.Status == StatusQueued) {
				out, out.DuplicateOf = old, twin
				return w.remember(ctx, tx, old.ID)
			}
			x.Version, x.Created, x.Owner, x.edition = old.Version+1, old.Created, old.Owner, old.edition
			if old.latest != old.edition {
				if _, err := tx.Exec(ctx, trashEdition, old.latest); err != nil {
					return err
				}
			}
		}
		if out, err = d.insert(ctx, tx, c, x, v.subject, v.scopes); err != nil {
			return err
		}
		out.DuplicateOf = twin
		if err := w.remember(ctx, tx, out.ID); err != nil {
			return err
		}
		return tx.Emit(ctx, store.Event{
			Type: DocumentStored, Tenant: v.tenant, Actor: v.subject, Subject: out.ID,
			Data: DocumentEvent{Document: out.ID, Collection: name, Version: out.Version, Digest: digest(x.Text)},
		})
	})
	return of, out, err
}

// insert writes the rows of a document's new version: into a new row of the document if there is none.
func (d db) insert(ctx context.Context, tx *store.Tx, c Collection, x Document, subject string, scopes []string) (Document, error) {
	access, err := json.Marshal(x.Access)
	if err != nil {
		return x, err
	}
	metadata, err := json.Marshal(x.Metadata)
	if err != nil {
		return x, err
	}
	ceiling, err := json.Marshal(scopes)
	if err != nil {
		return x, err
	}
	pages, err := json.Marshal(x.Origin.Pages)
	if err != nil {
		return x, err
	}
	findings, err := json.Marshal(x.Origin.Findings)
	if err != nil {
		return x, err
	}
	if x.latest, err = number(ctx, tx, "edition"); err != nil {
		return x, err
	}
	if _, err := tx.Exec(ctx, insertEdition, x.latest, c.id, x.ID, x.Version, c.tenant, subject, string(ceiling), x.Title, x.ContentType, x.Text, digest(x.Text),
		x.Origin.Digest, x.Origin.Type, string(pages), string(findings), x.Updated.UnixMicro()); err != nil {
		return x, err
	}
	// What was found before may have other readers and other metadata now.
	generation, err := d.grow(ctx, tx, c.id, 0, 0)
	if err != nil {
		return x, err
	}
	x.collection, x.restricted = c.id, len(x.Access) > 0
	if x.Created.Equal(x.Updated) {
		_, err = tx.Exec(ctx, insertDocument, c.id, x.ID, x.Title, x.Owner, x.Source, x.Trust, x.Status, bit(x.restricted), string(access), string(metadata),
			x.Version, x.digest, x.latest, generation, x.Updated.UnixMicro(), digest(x.Text))
	} else {
		err = tx.ExecOne(ctx, updateDocument, x.Title, x.Source, x.Trust, x.Status, bit(x.restricted), string(access), string(metadata),
			x.Version, x.digest, x.latest, generation, x.Updated.UnixMicro(), digest(x.Text), c.id, x.ID)
	}
	if err != nil {
		return x, err
	}
	for _, q := range []string{deleteAccess, deleteMetadata} {
		if _, err := tx.Exec(ctx, q, c.id, x.ID); err != nil {
			return x, err
		}
	}
	for _, who := range x.Access {
		if _, err := tx.Exec(ctx, insertAccess, c.id, x.ID, who); err != nil {
			return x, err
		}
	}
	for k, val := range x.Metadata {
		kind, n := column(val)
		if _, err := tx.Exec(ctx, insertMetadata, c.id, x.ID, k, val, kind, n); err != nil {
			return x, err
		}
	}
	return x, nil
}

// grow begins the next generation of a collection, and changes its statistics.
func (d db) grow(ctx context.Context, tx *store.Tx, collection, passages, terms int64) (generation int64, err error) {
	if err := tx.QueryRow(ctx, nextGenerat, passages, terms, collection).Scan(&generation); err != nil {
		return 0, fmt.Errorf("next generation: %w", err)
	}
	return generation, nil
}

// unlink takes an edition out of what searches find.
func (d db) unlink(ctx context.Context, tx *store.Tx, collection, edition, generation int64) error {
	if _, err := tx.Exec(ctx, insertGone, collection, generation, edition); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, pruneGone, collection, generation-keptGenerations); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, trashEdition, edition)
	return err
}

// document returns a document that the viewer may read, without its text.
func (d db) document(ctx context.Context, q store.Querier, v viewer, c Collection, id string) (Document, error) {
	clause, args := v.may(c, 3)
	x, err := scanDocument(q.QueryRow(ctx, documentByID+" AND "+clause, append([]any{c.id, id}, args...)...))
	if store.NoRows(err) {
		return Document{}, fault.NotFound("document", id)
	}
	return x, err
}

func (d db) documents(ctx context.Context, v viewer, c Collection, status, after string, limit int) (out []Document, err error) {
	clause, args := v.may(c, 5)
	query := `SELECT ` + documentColumns + ` FROM search_document d WHERE d.collection = $1 AND d.id > $2 AND ($4 = '' OR d.status = $4) AND ` + clause + ` ORDER BY d.id LIMIT $3`
	rows, err := d.Query(ctx, query, append([]any{c.id, after, limit, status}, args...)...)
	if err != nil {
		return nil, err
	}
	return scanDocuments(rows)
}

func scanDocuments(rows store.Rows) (out []Document, err error) {
	defer rows.Close() //nolint:errcheck // read only
	for rows.Next() {
		x, err := scanDocument(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, x)
	}
	return out, rows.Err()
}

// deleteDocument unlinks a document; sweep deletes what was made of its text.
func (d db) deleteDocument(ctx context.Context, v viewer, name, id string) error {
	return d.Tx(ctx, func(tx *store.Tx) error {
		if err := tx.Overwrite(ctx); err != nil {
			return err
		}
		c, err := d.own(ctx, tx, v.tenant, name)
		if err != nil {
			return err
		}
		x, err := d.document(ctx, tx, v, c, id)
		if err != nil {
			return err
		}
		if err := d.remove(ctx, tx, x); err != nil {
			return err
		}
		return tx.Emit(ctx, store.Event{
			Type: DocumentDeleted, Tenant: v.tenant, Actor: v.subject, Subject: id,
			Data: DocumentEvent{Document: id, Collection: name, Version: x.Version},
		})
	})
}

func (d db) remove(ctx context.Context, tx *store.Tx, x Document) error {
	var passages, terms int64
	if x.edition != 0 {
		if err := tx.QueryRow(ctx, editionCounts, x.edition).Scan(&passages, &terms); err != nil {
			return err
		}
	}
	generation, err := d.grow(ctx, tx, x.collection, -passages, -terms)
	if err != nil {
		return err
	}
	if x.edition != 0 {
		if err := d.unlink(ctx, tx, x.collection, x.edition, generation); err != nil {
			return err
		}
	}
	for _, q := range []string{trashEditions, deleteVersions, deleteDocument, deleteAccess, deleteMetadata} {
		if _, err := tx.Exec(ctx, q, x.collection, x.ID); err != nil {
			return err
		}
	}
	return nil
}

// write is a request that makes something, and the key that makes it safe to repeat.
type write struct {
	scope   string // whose key, for what
	key     string // empty: none
	request string // its digest
}

// earlier returns what the same request made before, or nothing.
func (w write) earlier(ctx context.Context, tx *store.Tx) (thing string, err error) {
	b, err := tx.Replay(ctx, w.scope, w.key, []byte(w.request))
	return string(b), err
}

func (w write) remember(ctx context.Context, tx *store.Tx, thing string) error {
	return tx.Remember(ctx, w.scope, w.key, []byte(w.request), []byte(thing))
}

// viewer is who asks, as far as rights go.
type viewer struct {
	tenant, subject string
	roles           []string
	scopes          []string
}

// may is the condition on search_document d under which the viewer may read it, with parameters from $n on.
// Access lists name people of the collection's own tenant, so they open nothing to another one.
func (v viewer) may(c Collection, n int) (clause string, args []any) {
	if c.tenant != v.tenant {
		return "d.restricted = 0", nil
	}
	args = []any{v.subject}
	for _, r := range v.roles {
		args = append(args, "role:"+r)
	}
	return "(d.restricted = 0 OR d.owner = $" + strconv.Itoa(n) +
		" OR EXISTS (SELECT 1 FROM search_access a WHERE a.collection = d.collection AND a.document = d.id AND a.principal IN (" + marks(n, len(args)) + ")))", args
}

// marks is a list of n parameters, from $first on.
func marks(first, n int) string {
	var sb strings.Builder
	for i := range n {
		if i > 0 {
			sb.WriteByte(',')
		}
		sb.WriteByte('$')
		sb.WriteString(strconv.Itoa(first + i))
	}
	return sb.String()
}

// bit is how a truth stands in a table.
func bit(b bool) int64 { return map[bool]int64{true: 1}[b] }
