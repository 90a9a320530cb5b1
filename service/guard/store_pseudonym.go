package guard

import (
	"context"
	"errors"
	"time"

	"aran/platform/fault"
	"aran/platform/store"
)

// conversation is a row, and what of it is sealed.
type conversation struct {
	id      string
	owner   string
	secret  []byte // sealed
	pairs   int64
	expires int64
}

const (
	findConversation = `SELECT owner, secret, pairs, expires_at FROM guard_conversation WHERE id = $1 AND expires_at > $2`
	findPairs        = `SELECT sealed FROM guard_pseudonym WHERE conversation = $1 AND n < $2 ORDER BY n`
	startOver        = `DELETE FROM guard_conversation WHERE id = $1 AND expires_at <= $2`
	dropPairs        = `DELETE FROM guard_pseudonym WHERE conversation = $1`
	addConversation  = `INSERT INTO guard_conversation (id, owner, secret, pairs, expires_at) VALUES ($1, $2, $3, 0, $4)`
	growConversation = `UPDATE guard_conversation SET pairs = pairs + $1, expires_at = $2 WHERE id = $3 AND pairs = $4 AND secret = $5`
	addPair          = `INSERT INTO guard_pseudonym (conversation, n, sealed) VALUES ($1, $2, $3)`
	expired          = `SELECT id FROM guard_conversation WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2`
	ofOwner          = `SELECT id FROM guard_conversation WHERE owner = $1`
	dropConversation = `DELETE FROM guard_conversation WHERE id = $1`
)

// conversation returns a row that has not expired; found is false when there is none.
func (v *vault) conversation(ctx context.Context, id string) (c conversation, found bool, err error) {
	c.id = id
	err = v.db.QueryRow(ctx, findConversation, id, time.Now().UnixMicro()).Scan(&c.owner, &c.secret, &c.pairs, &c.expires)
	if store.NoRows(err) {
		return conversation{}, false, nil
	}
	return c, err == nil, err
}

func (v *vault) sealedPairs(ctx context.Context, c conversation) (out [][]byte, err error) {
	rows, err := v.db.Query(ctx, findPairs, c.id, c.pairs)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var b []byte
		if err := rows.Scan(&b); err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, rows.Err()
}

// startConversation adds a row, in the place of one that has expired. When another replica was faster, it says so by errRaced.
func (v *vault) startConversation(ctx context.Context, c conversation) error {
	err := v.db.Tx(ctx, func(tx *store.Tx) error {
		n, err := tx.Exec(ctx, startOver, c.id, time.Now().UnixMicro())
		if err != nil {
			return err
		}
		if n > 0 {
			if _, err := tx.Exec(ctx, dropPairs, c.id); err != nil {
				return err
			}
		}
		_, err = tx.Exec(ctx, addConversation, c.id, c.owner, c.secret, c.expires)
		return err
	})
	if store.IsUnique(err) {
		return errRaced
	}
	return err
}

// growConversation adds pairs to a row as it was read, and lets it live until c.expires. When it has changed meanwhile, nothing is
// written and the answer is errRaced.
func (v *vault) growConversation(ctx context.Context, c conversation, sealed [][]byte) error {
	err := v.db.Tx(ctx, func(tx *store.Tx) error {
		n, err := tx.Exec(ctx, growConversation, len(sealed), c.expires, c.id, c.pairs, c.secret)
		if err != nil {
			return err
		}
		if n != 1 {
			return errRaced
		}
		for i, b := range sealed {
			if _, err := tx.Exec(ctx, addPair, c.id, c.pairs+int64(i), b); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		fault.Point("guard.pseudonyms_kept")
	}
	return err
}

// dropExpired forgets conversations whose time is over, some at a time. It returns how many.
func (v *vault) dropExpired(ctx context.Context, most int) (int, error) {
	return v.drop(ctx, expired, time.Now().UnixMicro(), most)
}

// dropOwned forgets all conversations of an owner.
func (v *vault) dropOwned(ctx context.Context, owner string) error {
	_, err := v.drop(ctx, ofOwner, owner)
	return err
}

// drop deletes the conversations that a query lists, and overwrites them.
func (v *vault) drop(ctx context.Context, query string, args ...any) (n int, err error) {
	err = v.db.Tx(ctx, func(tx *store.Tx) error {
		ids, err := listIDs(ctx, tx, query, args...)
		if err != nil || len(ids) == 0 {
			return err
		}
		if err := tx.Overwrite(ctx); err != nil {
			return err
		}
		for _, id := range ids {
			if _, err := tx.Exec(ctx, dropPairs, id); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, dropConversation, id); err != nil {
				return err
			}
		}
		n = len(ids)
		return nil
	})
	return n, err
}

func listIDs(ctx context.Context, tx *store.Tx, query string, args ...any) (out []string, err error) {
	rows, err := tx.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		out = append(out, id)
	}
	return out, rows.Err()
}
