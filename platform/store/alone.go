package store

import (
	"context"
	"errors"
	"hash/fnv"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
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
	key := lockOf(name)
	if err := conn.QueryRow(ctx, `SELECT pg_try_advisory_lock($1)`, key).Scan(&ran); err != nil || !ran {
		return false, classify(err)
	}
	defer func() { err = errors.Join(err, unlock(ctx, conn, key)) }()
	return true, fn(ctx)
}

// InTurn runs fn once no other replica runs it under the same name, waiting for that.
func (db *DB) InTurn(ctx context.Context, name string, fn func(ctx context.Context) error) (err error) {
	if !db.Shared() {
		return fn(ctx)
	}
	conn, err := db.pool.Acquire(ctx)
	if err != nil {
		return classify(err)
	}
	defer conn.Release()
	key := lockOf(name)
	if err := await(ctx, conn, key); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock(ctx, conn, key)) }()
	return fn(ctx)
}

const turnPause = 50 * time.Millisecond

// await asks again and again: a statement that waits for the lock would hold a snapshot, and CREATE INDEX CONCURRENTLY
// of whoever has the lock waits for the end of every snapshot.
func await(ctx context.Context, conn *pgxpool.Conn, key int64) error {
	tick := time.NewTicker(turnPause)
	defer tick.Stop()
	for {
		var mine bool
		if err := conn.QueryRow(ctx, `SELECT pg_try_advisory_lock($1)`, key).Scan(&mine); err != nil || mine {
			return classify(err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// lockOf is the number of an advisory lock; those below 2^32 are the package's own.
func lockOf(name string) int64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	return int64(h.Sum64() | 1<<40) //nolint:gosec // any number will do
}

// unlock gives the lock back; when that fails the connection is closed, and with it goes the lock.
func unlock(ctx context.Context, conn *pgxpool.Conn, key int64) error {
	ctx = context.WithoutCancel(ctx)
	_, err := conn.Exec(ctx, `SELECT pg_advisory_unlock($1)`, key)
	if err != nil {
		return errors.Join(classify(err), conn.Conn().Close(ctx))
	}
	return nil
}
