package store

import (
	"context"
	"errors"
	"hash/fnv"
)

// Alone runs fn unless another replica runs it under the same name now, and says whether it did. On SQLite there is no
// other replica. fn may use the database, inside transactions and outside.
func (db *DB) Alone(ctx context.Context, name string, fn func(ctx context.Context) error) (ran bool, err error) {
	if !db.Shared() {
		return true, fn(ctx)
	}
	conn, err := db.pool.Acquire(ctx)
	if err != nil {
		return false, classify(err)
	}
	defer conn.Release()
	h := fnv.New64a()
	_, _ = h.Write([]byte(name)) // never fails
	key := int64(h.Sum64())      //nolint:gosec // any number will do
	if key == lockWriter || key == lockMigrate {
		key++
	}
	if err := conn.QueryRow(ctx, `SELECT pg_try_advisory_lock($1)`, key).Scan(&ran); err != nil || !ran {
		return false, classify(err)
	}
	defer func() {
		if _, unlock := conn.Exec(context.WithoutCancel(ctx), `SELECT pg_advisory_unlock($1)`, key); unlock != nil {
			err = errors.Join(err, classify(unlock), conn.Conn().Close(context.WithoutCancel(ctx))) // with it goes the lock
		}
	}()
	return true, fn(ctx)
}
