// Package store opens a service's own database and gives it transactions with an outbox.
//
// One connection writes, several read. Concurrent transactions share one commit, so that a sync of the
// disk is paid once for all of them; a transaction that returned without error is on disk. Events that a
// transaction emits are rows of it (the outbox), and what a consumer has seen is a row of its effect's
// transaction (the inbox). The package knows no table of a service.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	_ "modernc.org/sqlite" // the database/sql driver
)

// Options say which database, and what is in it.
type Options struct {
	Service    string // prefix of the service's tables
	Path       string // SQLite file
	Migrations fs.FS  // *.sql in order of name, each run once in a transaction; {{blob}} is BLOB or BYTEA, {{clustered}} WITHOUT ROWID or nothing
	Readers    int    // 0 means 4
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
	service string
	write   *sql.DB
	read    *sql.DB
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

// Open opens and migrates. A database that another version of the migrations made is refused.
func Open(ctx context.Context, o Options) (*DB, error) {
	if !serviceName.MatchString(o.Service) {
		return nil, fmt.Errorf("store: service name %q", o.Service)
	}
	if o.Readers == 0 {
		o.Readers = defaultReaders
	}
	if err := os.MkdirAll(filepath.Dir(o.Path), 0o700); err != nil {
		return nil, fmt.Errorf("store %s: %w", o.Service, err)
	}
	write, err := openFile(o.Path, "_txlock=immediate", "_pragma=journal_mode(WAL)", "_pragma=synchronous(FULL)", "_pragma=foreign_keys(1)", "_pragma=journal_size_limit(16777216)")
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", o.Service, err)
	}
	write.SetMaxOpenConns(1)
	db := &DB{
		service: o.Service, write: write, log: o.Log, text: textsFor(o.Service),
		jobs: make(chan *job, queueLength), quit: make(chan struct{}), idle: make(chan struct{}), wake: make(chan struct{}, 1),
	}
	if err := db.migrate(ctx, o.Migrations); err != nil {
		return nil, errors.Join(fmt.Errorf("store %s: %w", o.Service, classify(err)), write.Close())
	}
	if err := os.Chmod(o.Path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("store %s: %w", o.Service, err), write.Close())
	}
	db.read, err = openFile(o.Path, "_pragma=query_only(1)")
	if err != nil {
		return nil, errors.Join(fmt.Errorf("store %s: %w", o.Service, err), write.Close())
	}
	db.read.SetMaxOpenConns(o.Readers)
	db.read.SetMaxIdleConns(o.Readers)
	go db.writer()
	return db, nil
}

func openFile(path string, params ...string) (*sql.DB, error) {
	var dsn strings.Builder
	dsn.WriteString("file:" + (&url.URL{Path: path}).EscapedPath() + fmt.Sprintf("?_pragma=busy_timeout(%d)", busyTimeout.Milliseconds()))
	for _, p := range params {
		dsn.WriteString("&" + p)
	}
	return sql.Open("sqlite", dsn.String())
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
	return fn(snapshot{tx})
}

// Close closes.
func (r *ReadOnly) Close() error { return r.db.Close() }

// Querier reads.
type Querier interface {
	Query(ctx context.Context, query string, args ...any) (Rows, error)
	QueryRow(ctx context.Context, query string, args ...any) Row
}

type snapshot struct{ tx *sql.Tx }

func (s snapshot) Query(ctx context.Context, query string, args ...any) (Rows, error) {
	rows, err := s.tx.QueryContext(ctx, query, args...) //nolint:rowserrcheck // the caller's
	if err != nil {
		return nil, classify(err)
	}
	return rows, nil
}

func (s snapshot) QueryRow(ctx context.Context, query string, args ...any) Row {
	return s.tx.QueryRowContext(ctx, query, args...)
}

// Service is the name that prefixes the tables.
func (db *DB) Service() string { return db.service }

// Query reads outside a transaction, from a snapshot.
func (db *DB) Query(ctx context.Context, query string, args ...any) (Rows, error) {
	rows, err := db.read.QueryContext(ctx, query, args...) //nolint:rowserrcheck // the caller's
	if err != nil {
		return nil, classify(err)
	}
	return rows, nil
}

// QueryRow reads one row; Scan returns sql.ErrNoRows when there is none.
func (db *DB) QueryRow(ctx context.Context, query string, args ...any) Row {
	return db.read.QueryRowContext(ctx, query, args...)
}

// Writer is the handle that sagas share with us: one connection, synchronous=FULL.
func (db *DB) Writer() *sql.DB { return db.write }

// Ping fails when the database can't be read.
func (db *DB) Ping(ctx context.Context) error { return classify(db.read.PingContext(ctx)) }

// Close waits for transactions in hand, refuses new ones, and closes.
func (db *DB) Close() error {
	db.once.Do(func() { close(db.quit) })
	<-db.idle
	return errors.Join(db.read.Close(), db.write.Close())
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
