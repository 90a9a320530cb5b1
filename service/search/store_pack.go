package search

import (
	"context"

	"aran/platform/store"
)

const (
	hasPack      = `SELECT COUNT(*) FROM search_collection WHERE tenant = $1 AND pack = $2`
	setPack      = `UPDATE search_collection SET pack = $1, description = $2, public = 1, encoder = $3 WHERE id = $4`
	setEncoder   = `UPDATE search_edition SET encoder = $1 WHERE id = $2`
	allDocuments = `SELECT ` + documentColumns + ` FROM search_document d WHERE d.collection = $1 ORDER BY d.id`
)

func (d db) hasPack(ctx context.Context, pack string) (bool, error) {
	var n int
	err := d.QueryRow(ctx, hasPack, SystemTenant, pack).Scan(&n)
	return n > 0, err
}

// packed is a document of a pack with the rows made of it.
type packed struct {
	Document
	part indexed
}

// installPack replaces a public collection of the platform by what a pack holds, at once.
func (d db) installPack(ctx context.Context, c Collection, encoder string, list []packed) error {
	return d.Tx(ctx, func(tx *store.Tx) error {
		old, err := scanCollection(tx.QueryRow(ctx, ownCollection, SystemTenant, c.Name))
		switch {
		case store.NoRows(err):
			if c.id, err = number(ctx, tx, "collection"); err != nil {
				return err
			}
			if err := d.insertCollection(ctx, tx, c); err != nil {
				return err
			}
		case err != nil:
			return err
		default:
			c.id = old.id
			if err := tx.ExecOne(ctx, setPack, c.pack, c.Description, encoder, c.id); err != nil {
				return err
			}
		}
		versions, err := d.clear(ctx, tx, c.id)
		if err != nil {
			return err
		}
		var passages int64
		for _, x := range list {
			doc := x.Document
			if err := d.install(ctx, tx, c, doc, versions[doc.ID]+1, encoder, x.part); err != nil {
				return err
			}
			passages += int64(len(x.part.passages))
		}
		return tx.Emit(ctx, store.Event{
			Type: CollectionImported, Tenant: SystemTenant, Actor: c.Owner, Subject: c.Name,
			Data: CollectionEvent{Collection: c.Name, Documents: int64(len(list)), Passages: passages, Digest: c.pack, Encoder: encoder},
		})
	})
}

// clear removes all documents of a collection and returns their versions, so that new ones go on counting.
func (d db) clear(ctx context.Context, tx *store.Tx, collection int64) (map[string]int64, error) {
	rows, err := tx.Query(ctx, allDocuments, collection)
	if err != nil {
		return nil, err
	}
	old, err := scanDocuments(rows)
	if err != nil {
		return nil, err
	}
	versions := map[string]int64{}
	for _, x := range old {
		versions[x.ID] = x.Version
		if err := d.remove(ctx, tx, x); err != nil {
			return nil, err
		}
	}
	return versions, nil
}

// install stores a document as indexed.
func (d db) install(ctx context.Context, tx *store.Tx, c Collection, x Document, version int64, encoder string, part indexed) error {
	x.Version = version
	c.tenant = SystemTenant
	x, err := d.insert(ctx, tx, c, x, c.Owner, []string{})
	if err != nil {
		return err
	}
	if err := d.putPart(ctx, tx, c.id, x.latest, encoder, part); err != nil {
		return err
	}
	if err := tx.ExecOne(ctx, setEncoder, encoder, x.latest); err != nil {
		return err
	}
	_, _, err = d.publish(ctx, tx, x.latest, "", TrustBuiltIn, x.Updated.UnixMicro())
	return err
}
