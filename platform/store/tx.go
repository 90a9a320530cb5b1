package store

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5/pgconn"
	moderncsqlite "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"aran/platform/fault"
)

// Handle is what a transaction stands on: our writer's connection, or the transaction of a saga's step.
type Handle interface {
	Exec(ctx context.Context, query string, args ...any) (int64, error)
	Query(ctx context.Context, query string, args ...any) (Rows, error)
	QueryRow(ctx context.Context, query string, args ...any) Row
}

// Tx is a write transaction: of DB.Tx, or of a saga's step.
type Tx struct {
	h        Handle
	db       *DB
	woken    bool
	unstored []Outgoing
}

// Adopt makes a Tx of someone else's transaction on db.Writer() or db.Pool(), which becomes the only one to write.
// After its commit call the returned function.
func (db *DB) Adopt(ctx context.Context, h Handle) (tx *Tx, committed func(), err error) {
	tx = &Tx{h: h, db: db}
	if db.pool != nil {
		if _, err := tx.Exec(ctx, takeWriter, int64(lockWriter)); err != nil {
			return nil, nil, err
		}
	}
	return tx, func() { db.emitted(tx) }, nil
}

const takeWriter = `SELECT pg_advisory_xact_lock($1)`

// Exec returns how many rows changed.
func (tx *Tx) Exec(ctx context.Context, query string, args ...any) (int64, error) {
	if err := storable(args); err != nil {
		return 0, err
	}
	n, err := tx.h.Exec(ctx, query, args...)
	return n, classify(err)
}

// ExecOne is Exec that fails with a fault.Conflict unless exactly one row changed.
func (tx *Tx) ExecOne(ctx context.Context, query string, args ...any) error {
	n, err := tx.Exec(ctx, query, args...)
	if err != nil {
		return err
	}
	if n != 1 {
		return fault.New(fault.Conflict, "changed_meanwhile", "It was changed meanwhile; read it again.")
	}
	return nil
}

// Query reads inside the transaction; rows must be closed before the next statement.
func (tx *Tx) Query(ctx context.Context, query string, args ...any) (Rows, error) {
	if err := storable(args); err != nil {
		return nil, err
	}
	r, err := tx.h.Query(ctx, query, args...)
	if err != nil {
		return nil, classify(err)
	}
	return rows{r: r}, nil
}

// QueryRow reads one row inside the transaction.
func (tx *Tx) QueryRow(ctx context.Context, query string, args ...any) Row {
	if err := storable(args); err != nil {
		return refused{err}
	}
	return row{r: tx.h.QueryRow(ctx, query, args...)}
}

// IsUnique reports whether a statement broke a uniqueness rule.
func IsUnique(err error) bool {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code == uniqueViolation
	}
	var e *moderncsqlite.Error
	return errors.As(err, &e) && (e.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE || e.Code() == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY)
}

// classify turns what the engine says into faults that a caller can act on.
func classify(err error) error {
	if err == nil || fault.From(err) != nil {
		return err
	}
	var e *moderncsqlite.Error
	if !errors.As(err, &e) {
		return classifyPostgres(err)
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_FULL:
		return fault.New(fault.Unavailable, "disk_full", "The disk is full; nothing was changed.").Because(err)
	case sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY:
		return fault.New(fault.Unavailable, "disk_error", "The disk can't be written; nothing was changed.").Because(err)
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return fault.New(fault.Unavailable, "database_locked", "Another program holds the database.").Because(err)
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return fault.New(fault.Unavailable, "database_damaged", "The database file is damaged; restore it from a backup.").Because(err)
	case sqlite3.SQLITE_CONSTRAINT:
		return fault.New(fault.Conflict, "constraint", "It exists already, or breaks a rule of the data.").Because(err)
	}
	return err
}
