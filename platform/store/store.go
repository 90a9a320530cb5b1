// Package store opens a service's own database and gives it transactions with an outbox.
//
// It is an SQLite file or a PostgreSQL database, with one text and one behaviour: write transactions of a
// database come one after the other, also those of several replicas, and those that wait in one process share
// a commit, so that a sync of the disk is paid once for all of them. A transaction that returned without error
// is on disk. Events that a transaction emits are rows of it (the outbox), and what a consumer has seen is a
// row of its effect's transaction (the inbox). The package knows no table of a service.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"regexp"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"aran/platform/secret"
)

// Options say which database, and what is in it.
type Options struct {
	Service    string        // prefix of the service's tables
	Path       string        // SQLite file, when there is no URL
	URL        secret.String // of a PostgreSQL database of the service's own
	Migrations fs.FS         // *.sql in order of name, each run once in a transaction; {{blob}} is BLOB or BYTEA, {{clustered}} WITHOUT ROWID or nothing, {{serial}} a growing primary key
	Readers    int           // 0 means 4
	Log        *slog.Logger
}

const (
	defaultReaders = 4
	busyTimeout    = 5 * time.Second
	queueLength    = 1024
)

var serviceName = regexp.MustCompile(`^[a-z][a-z_]{1,30}$`)

// DB is one service's database: one writer with group commit, several readers. Safe for concurrent use.
type DB struct {
	*engine

	service string
	log     *slog.Logger
	text    texts

	jobs chan *job
	quit chan struct{}
	idle chan struct{} // closed when the writer has ended
	once sync.Once
	wake chan struct{}

	mu       sync.Mutex
	unstored []Outgoing // events that bypass the outbox, only in a build that takes it out
}

// Open opens and migrates. A database that a later version of the migrations made is used as long as none of those it
// does not know says that it breaks older programs. A PostgreSQL server that is away is waited for until ctx ends.
func Open(ctx context.Context, o Options) (*DB, error) {
	if !serviceName.MatchString(o.Service) {
		return nil, fmt.Errorf("store: service name %q", o.Service)
	}
	if o.Readers == 0 {
		o.Readers = defaultReaders
	}
	e, err := open(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", o.Service, classify(err))
	}
	db := &DB{
		service: o.Service, engine: e, log: o.Log, text: textsFor(o.Service),
		jobs: make(chan *job, queueLength), quit: make(chan struct{}), idle: make(chan struct{}), wake: make(chan struct{}, 1),
	}
	err = db.InTurn(ctx, "migrations", func(ctx context.Context) error { return db.migrate(ctx, o.Migrations) })
	if err != nil {
		return nil, errors.Join(fmt.Errorf("store %s: %w", o.Service, classify(err)), e.close())
	}
	go db.writer()
	return db, nil
}

// ReadOnly is a database opened for looking only.
type ReadOnly struct{ db *sql.DB }

// OpenReadOnly opens a database file for offline tools: it takes no lock and works beside a running process.
func OpenReadOnly(ctx context.Context, path string) (*ReadOnly, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("database: %w", err)
	}
	db, err := openFile(path, "mode=ro", "_pragma=query_only(1)")
	if err != nil {
		return nil, fmt.Errorf("database %s: %w", path, err)
	}
	if err := db.PingContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("database %s: %w", path, err), db.Close())
	}
	return &ReadOnly{db}, nil
}

// OpenReadOnlyURL is OpenReadOnly for a PostgreSQL database.
func OpenReadOnlyURL(ctx context.Context, u secret.String) (*ReadOnly, error) {
	c, err := pgx.ParseConfig(u.Reveal())
	if err != nil {
		return nil, errBadURL
	}
	c.ConnectTimeout = dialTimeout
	c.RuntimeParams["default_transaction_read_only"], c.RuntimeParams["default_transaction_isolation"] = "on", "repeatable read"
	c.RuntimeParams["search_path"], c.RuntimeParams["timezone"] = "public", "UTC"
	db := stdlib.OpenDB(*c)
	if err := db.PingContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("database: %w", classify(err)), db.Close())
	}
	return &ReadOnly{db}, nil
}

// Query reads.
func (r *ReadOnly) Query(ctx context.Context, query string, args ...any) (Rows, error) {
	rows, err := r.db.QueryContext(ctx, query, args...) //nolint:rowserrcheck // the caller's
	if err != nil {
		return nil, classify(err)
	}
	return rows, nil
}

// QueryRow reads one row.
func (r *ReadOnly) QueryRow(ctx context.Context, query string, args ...any) Row {
	return r.db.QueryRowContext(ctx, query, args...)
}

// Snapshot runs fn in one read transaction: it sees one state of the database however long it takes.
func (r *ReadOnly) Snapshot(ctx context.Context, fn func(q Querier) error) error {
	tx, err := r.db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return classify(err)
	}
	defer tx.Rollback() //nolint:errcheck // it only read
	return fn(snapshot{tx: tx})
}

// Close closes.
func (r *ReadOnly) Close() error { return r.db.Close() }

// Querier reads.
type Querier interface {
	Query(ctx context.Context, query string, args ...any) (Rows, error)
	QueryRow(ctx context.Context, query string, args ...any) Row
}

type snapshot struct {
	tx     *sql.Tx
	remote bool
}

func (s snapshot) patient(ctx context.Context) (context.Context, *wait) {
	if !s.remote {
		return ctx, nil
	}
	return patient(ctx)
}

func (s snapshot) Query(ctx context.Context, query string, args ...any) (Rows, error) {
	if err := storable(args); err != nil {
		return nil, err
	}
	ctx, w := s.patient(ctx)
	r, err := s.tx.QueryContext(ctx, query, args...) //nolint:rowserrcheck // the caller's
	if err := w.heard(err); err != nil {
		return nil, err
	}
	return rows{r, w}, nil
}

func (s snapshot) QueryRow(ctx context.Context, query string, args ...any) Row {
	if err := storable(args); err != nil {
		return refused{err}
	}
	ctx, w := s.patient(ctx)
	return row{s.tx.QueryRowContext(ctx, query, args...), w}
}

// Service is the name that prefixes the tables.
func (db *DB) Service() string { return db.service }

// Query reads outside a transaction, from a snapshot.
func (db *DB) Query(ctx context.Context, query string, args ...any) (Rows, error) {
	if err := storable(args); err != nil {
		return nil, err
	}
	ctx, w := db.patient(ctx)
	r, err := db.read.QueryContext(ctx, query, args...) //nolint:rowserrcheck // the caller's
	if err := w.heard(err); err != nil {
		return nil, err
	}
	return rows{r, w}, nil
}

// QueryRow reads one row; Scan returns sql.ErrNoRows when there is none.
func (db *DB) QueryRow(ctx context.Context, query string, args ...any) Row {
	if err := storable(args); err != nil {
		return refused{err}
	}
	ctx, w := db.patient(ctx)
	return row{db.read.QueryRowContext(ctx, query, args...), w}
}

// Snapshot runs fn in one read transaction: it sees one state of the database however many statements it takes.
func (db *DB) Snapshot(ctx context.Context, fn func(q Querier) error) error {
	inner, w := db.patient(ctx)
	defer w.over()
	tx, err := db.read.BeginTx(inner, &sql.TxOptions{ReadOnly: true, Isolation: db.snapshot})
	if err := w.heard(err); err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // it only read
	return fn(snapshot{tx, db.pool != nil})
}

// Writer is the handle that sagas share with us on SQLite: one connection, synchronous=FULL. Nil on PostgreSQL.
func (db *DB) Writer() *sql.DB {
	if db.pool != nil {
		return nil
	}
	return db.write
}

// Pool is the handle that sagas share with us on PostgreSQL. Nil on SQLite.
func (db *DB) Pool() *pgxpool.Pool { return db.pool }

// Shared reports whether other replicas may work on this database at the same time.
func (db *DB) Shared() bool { return db.pool != nil }

// Ping fails when the database can't be read.
func (db *DB) Ping(ctx context.Context) error { return classify(db.read.PingContext(ctx)) }

// Close waits for transactions in hand, refuses new ones, and closes.
func (db *DB) Close() error {
	db.once.Do(func() { close(db.quit) })
	<-db.idle
	return db.close()
}

// Rows and Row are what database/sql and a saga step's transaction have in common.
type Rows interface {
	Next() bool
	Scan(dest ...any) error
	Err() error
	Close() error
}

// Row is one row.
type Row interface{ Scan(dest ...any) error }

// NoRows reports whether a Scan failed because there is no such row.
func NoRows(err error) bool { return errors.Is(err, sql.ErrNoRows) }
