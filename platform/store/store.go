// Package store opens a service's own database and gives it transactions with an outbox.
package store

import (
	"context"
	"database/sql"
	"io/fs"
	"log/slog"
)

// Options say which database, and what is in it.
type Options struct {
	Service    string // prefix of the service's tables
	Path       string // SQLite file
	Migrations fs.FS  // *.sql in order of name, each run once in a transaction; {{blob}} is BLOB or BYTEA
	Readers    int    // 0 means 4
	Log        *slog.Logger
}

// DB is one service's database: one writer with group commit, several readers.
type DB struct{}

// Open opens, locks and migrates.
func Open(ctx context.Context, o Options) (*DB, error) { panic("not built") }

// Tx runs fn in a write transaction. Concurrent calls share one commit (each in its own savepoint): an error
// or panic of fn undoes only its own writes. fn must not block on anything but the database, must not
// call db.Tx again, and may be run again when the shared commit fails. Tx returns after the commit is durable.
func (db *DB) Tx(ctx context.Context, fn func(tx *Tx) error) error { panic("not built") }

// Query reads outside a transaction, from a snapshot.
func (db *DB) Query(ctx context.Context, query string, args ...any) (Rows, error) { panic("not built") }

// QueryRow reads one row; Scan returns sql.ErrNoRows when there is none.
func (db *DB) QueryRow(ctx context.Context, query string, args ...any) Row { panic("not built") }

// Writer is the handle that sagas share with us: one connection, synchronous=FULL.
func (db *DB) Writer() *sql.DB { panic("not built") }

// Close waits for the writer and closes.
func (db *DB) Close() error { panic("not built") }

// Rows and Row are what database/sql and a saga step's transaction have in common.
type Rows interface {
	Next() bool
	Scan(dest ...any) error
	Err() error
	Close() error
}

// Row is one row.
type Row interface{ Scan(dest ...any) error }

// Tx is a write transaction: of DB.Tx, or of a saga's step.
type Tx struct{}

// Exec returns how many rows changed.
func (tx *Tx) Exec(ctx context.Context, query string, args ...any) (int64, error) { panic("not built") }

// ExecOne is Exec that fails with a fault.Conflict unless exactly one row changed.
func (tx *Tx) ExecOne(ctx context.Context, query string, args ...any) error { panic("not built") }

// Query reads inside the transaction; rows must be closed before the next statement.
func (tx *Tx) Query(ctx context.Context, query string, args ...any) (Rows, error) { panic("not built") }

// QueryRow reads one row inside the transaction.
func (tx *Tx) QueryRow(ctx context.Context, query string, args ...any) Row { panic("not built") }

// Emit writes the event to the outbox of this transaction; it is published after the commit, at least once.
func (tx *Tx) Emit(ctx context.Context, e Event) error { panic("not built") }

// Event is what happened, before it is sent. Ids and digests only: content does not travel in events.
type Event struct {
	ID      string // UUIDv7; made when empty (set it when the caller must know the id beforehand)
	Type    string // "aran.search.document_indexed.v1", also the subject on the bus
	Tenant  string // whose it is
	Actor   string // who caused it: subject of the identity
	Subject string // the thing: a document's id
	Data    any    // marshalled to JSON
}
