package recommend

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"aran/platform/auth"
	"aran/platform/fault"
	"aran/platform/store"
)

const (
	itemColumns = `id, title, metadata, editorial, available, created_at, updated_at`
	selectItem  = `SELECT ` + itemColumns + ` FROM recommend_item WHERE tenant = $1 AND id = $2`
	selectItems = `SELECT ` + itemColumns + ` FROM recommend_item WHERE tenant = $1 AND id > $2 ORDER BY id LIMIT $3`
	upsertItem  = `INSERT INTO recommend_item (tenant, ` + itemColumns + `) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (tenant, id) DO UPDATE SET title = excluded.title, metadata = excluded.metadata, editorial = excluded.editorial,
		available = excluded.available, updated_at = excluded.updated_at`
	deleteItem     = `DELETE FROM recommend_item WHERE tenant = $1 AND id = $2`
	deleteMetadata = `DELETE FROM recommend_metadata WHERE tenant = $1 AND item = $2`
	insertMetadata = `INSERT INTO recommend_metadata (tenant, name, value, item) VALUES ($1, $2, $3, $4)`

	// Which items a query may choose: $1 tenant, $2 an item to leave out, $3 how many, $4 a person, $5 to $20 types of what
	// they did with an item that is left out then, $21 and $22 a segment.
	mayBe = ` i.available = 1 AND i.id <> $2 AND NOT EXISTS (SELECT 1 FROM recommend_interaction x WHERE x.tenant = $1 AND x.person = $4
		AND x.item = i.id AND x.type IN ($5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20))`
	inSegment = ` recommend_metadata m JOIN recommend_item i ON i.tenant = m.tenant AND i.id = m.item`
	segment   = ` AND m.tenant = $1 AND m.name = $21 AND m.value = $22`

	scores         = ` JOIN recommend_popularity p ON p.tenant = i.tenant AND p.item = i.id`
	byScore        = ` ORDER BY p.score DESC, p.item LIMIT $3`
	popular        = `SELECT i.id, p.score FROM recommend_item i` + scores + ` WHERE p.tenant = $1 AND p.score > 0 AND` + mayBe + byScore
	popularSegment = `SELECT i.id, p.score FROM` + inSegment + scores + ` WHERE p.score > 0 AND` + mayBe + segment + byScore

	byRank       = ` ORDER BY i.editorial, i.id LIMIT $3`
	picks        = `SELECT i.id, 0.0 FROM recommend_item i WHERE i.tenant = $1 AND i.editorial > 0 AND` + mayBe + byRank
	picksSegment = `SELECT i.id, 0.0 FROM` + inSegment + ` WHERE i.editorial > 0 AND` + mayBe + segment + byRank

	byAge         = ` ORDER BY i.created_at DESC, i.id LIMIT $3`
	newest        = `SELECT i.id, 0.0 FROM recommend_item i WHERE i.tenant = $1 AND` + mayBe + byAge
	newestSegment = `SELECT i.id, 0.0 FROM` + inSegment + ` WHERE` + mayBe + segment + byAge
)

func bit(b bool) int64 { //nolint:revive // how a fact is stored
	if b {
		return 1
	}
	return 0
}

func scanItem(r store.Row) (x Item, err error) {
	var metadata string
	var available, created, updated int64
	if err := r.Scan(&x.ID, &x.Title, &metadata, &x.Editorial, &available, &created, &updated); err != nil {
		return x, err
	}
	x.Available, x.Created, x.Updated = available == 1, time.UnixMicro(created).UTC(), time.UnixMicro(updated).UTC()
	if err := json.Unmarshal([]byte(metadata), &x.Metadata); err != nil {
		return x, fmt.Errorf("metadata of an item: %w", err)
	}
	return x, nil
}

// putItems writes items, in one transaction.
func (d db) putItems(ctx context.Context, tenant string, list []Item, cfg Config, w write) (out []Item, err error) {
	err = d.Tx(ctx, func(tx *store.Tx) error {
		var err error
		out, err = once(ctx, tx, w, list, func() ([]Item, error) { return putAll(ctx, tx, tenant, list, cfg) })
		return err
	})
	return out, err
}

func putAll(ctx context.Context, tx *store.Tx, tenant string, list []Item, cfg Config) ([]Item, error) {
	now := time.Now().UTC().Truncate(time.Microsecond)
	s, err := scaleOf(ctx, tx, tenant, cfg.HalfLife, dayOf(now))
	if err != nil {
		return nil, err
	}
	out, added := make([]Item, len(list)), int64(0)
	for i, x := range list {
		before, err := scanItem(tx.QueryRow(ctx, selectItem, tenant, x.ID))
		switch {
		case store.NoRows(err):
			added++
			x.Created = now
		case err != nil:
			return nil, err
		default:
			x.Created = before.Created
		}
		x.Updated = now
		if err := put(ctx, tx, tenant, x); err != nil {
			return nil, err
		}
		out[i] = x
	}
	if s.items+added > int64(cfg.Items) {
		return nil, fault.New(fault.Exhausted, "too_many_items", "There are %d items, and a tenant may have %d (recommend.items); nothing was stored.", s.items, cfg.Items)
	}
	_, err = tx.Exec(ctx, growTenant, added, 0, tenant)
	return out, err
}

func put(ctx context.Context, tx *store.Tx, tenant string, x Item) error {
	if x.Metadata == nil {
		x.Metadata = map[string]string{}
	}
	metadata, err := json.Marshal(x.Metadata)
	if err != nil {
		return fmt.Errorf("encode metadata: %w", err)
	}
	if _, err := tx.Exec(ctx, upsertItem, tenant, x.ID, x.Title, string(metadata), x.Editorial, bit(x.Available), x.Created.UnixMicro(), x.Updated.UnixMicro()); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, deleteMetadata, tenant, x.ID); err != nil {
		return err
	}
	for _, k := range slices.Sorted(maps.Keys(x.Metadata)) {
		if _, err := tx.Exec(ctx, insertMetadata, tenant, k, x.Metadata[k], x.ID); err != nil {
			return err
		}
	}
	return nil
}

func (d db) item(ctx context.Context, tenant, id string) (Item, error) {
	x, err := scanItem(d.QueryRow(ctx, selectItem, tenant, id))
	if store.NoRows(err) {
		return Item{}, fault.NotFound("item", id)
	}
	return x, err
}

func (d db) items(ctx context.Context, tenant, after string, limit int) (out []Item, err error) {
	rows, err := d.Query(ctx, selectItems, tenant, after, limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // read only
	for rows.Next() {
		x, err := scanItem(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, x)
	}
	return out, rows.Err()
}

func (d db) deleteItem(ctx context.Context, tenant, id string) error {
	return d.Tx(ctx, func(tx *store.Tx) error {
		n, err := tx.Exec(ctx, deleteItem, tenant, id)
		if err != nil {
			return err
		}
		if n == 0 {
			return fault.NotFound("item", id)
		}
		if _, err := tx.Exec(ctx, deleteMetadata, tenant, id); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, growTenant, -1, 0, tenant)
		return err
	})
}

// selection says among which items a query chooses.
type selection struct {
	tenant, person, except string
	name, value            string // of a segment; empty: all items
	leftOut                []string
	limit                  int
}

type found struct {
	item  string
	score float64
}

// choose runs the query that fits the selection.
func (d db) choose(ctx context.Context, sel selection, all, segment string, limit int) (out []found, err error) {
	args := []any{sel.tenant, sel.except, limit, sel.person}
	for i := range maxTypes {
		kind := "" // no type's name
		if i < len(sel.leftOut) {
			kind = sel.leftOut[i]
		}
		args = append(args, kind)
	}
	query := all
	if sel.name != "" {
		query = segment
		args = append(args, sel.name, sel.value)
	}
	rows, err := d.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // read only
	for rows.Next() {
		var f found
		if err := rows.Scan(&f.item, &f.score); err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, rows.Err()
}

// popular are the items with the highest scores above 0.
func (d db) popular(ctx context.Context, sel selection, limit int) ([]found, error) {
	return d.choose(ctx, sel, popular, popularSegment, limit)
}

// picks are what editors picked, by rank.
func (d db) picks(ctx context.Context, sel selection, limit int) ([]found, error) {
	return d.choose(ctx, sel, picks, picksSegment, limit)
}

// newest are the items that came last.
func (d db) newest(ctx context.Context, sel selection, limit int) ([]found, error) {
	return d.choose(ctx, sel, newest, newestSegment, limit)
}

// ranked records a ranking. A person who was erased meanwhile is not named.
func (d db) ranked(ctx context.Context, id auth.Identity, person string, e RankedEvent) error {
	return d.Tx(ctx, func(tx *store.Tx) error {
		e := e // the function may run again
		if person != "" {
			var gone int
			if err := tx.QueryRow(ctx, selectGone, person).Scan(&gone); err != nil {
				return err
			}
			if gone == 0 {
				e.User = person
			}
		}
		return tx.Emit(ctx, store.Event{Type: TypeRanked, Tenant: id.Tenant, Actor: id.Subject, Subject: e.RequestID, Data: e})
	})
}
