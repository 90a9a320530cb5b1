package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgxpool"
	_ "modernc.org/sqlite" // the database/sql driver

	"aran/platform/fault"
)

// engine is what differs between the databases: how they are opened and how a write transaction begins.
type engine struct {
	write, read *sql.DB
	pool        *pgxpool.Pool // nil: SQLite
	begin       string        // begins a transaction that is the only one to write
	snapshot    sql.IsolationLevel
	macros      []string // of migrations
	close       func() error
}

func open(ctx context.Context, o Options) (*engine, error) {
	if !o.URL.Empty() {
		return postgres(ctx, o)
	}
	return sqlite(o)
}

// sqlite opens a file: one connection writes, several read.
func sqlite(o Options) (*engine, error) {
	if err := os.MkdirAll(filepath.Dir(o.Path), 0o700); err != nil {
		return nil, err
	}
	write, err := openFile(o.Path, "_txlock=immediate", "_pragma=journal_mode(WAL)", "_pragma=synchronous(FULL)", "_pragma=foreign_keys(1)", "_pragma=journal_size_limit(16777216)")
	if err != nil {
		return nil, err
	}
	write.SetMaxOpenConns(1)
	if err := errors.Join(write.Ping(), os.Chmod(o.Path, 0o600)); err != nil { //nolint:noctx // a local file
		return nil, errors.Join(classify(err), write.Close())
	}
	read, err := openFile(o.Path, "_pragma=query_only(1)")
	if err != nil {
		return nil, errors.Join(err, write.Close())
	}
	read.SetMaxOpenConns(o.Readers)
	read.SetMaxIdleConns(o.Readers)
	return &engine{
		write: write, read: read, begin: "BEGIN IMMEDIATE",
		macros: []string{"{{blob}}", "BLOB", "{{clustered}}", "WITHOUT ROWID", "{{serial}}", "INTEGER PRIMARY KEY AUTOINCREMENT"},
		close:  func() error { return errors.Join(read.Close(), write.Close()) },
	}, nil
}

func openFile(path string, params ...string) (*sql.DB, error) {
	var dsn strings.Builder
	dsn.WriteString("file:" + (&url.URL{Path: path}).EscapedPath() + fmt.Sprintf("?_pragma=busy_timeout(%d)", busyTimeout.Milliseconds()))
	for _, p := range params {
		dsn.WriteString("&" + p)
	}
	return sql.Open("sqlite", dsn.String())
}

// expand replaces the macros of a migration.
func (e *engine) expand(text string) string { return strings.NewReplacer(e.macros...).Replace(text) }

// lost reports whether a connection broke under a statement.
func lost(err error) bool {
	return errors.Is(err, driver.ErrBadConn) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || errors.Is(err, sql.ErrConnDone)
}

// storable refuses text that one of the databases could not keep: it must be UTF-8 without NUL.
func storable(args []any) error {
	for _, a := range args {
		s, ok := a.(string)
		if ok && (strings.IndexByte(s, 0) >= 0 || !utf8.ValidString(s)) {
			return fault.New(fault.Invalid, "text_not_storable", "A text holds a NUL character or is not UTF-8.")
		}
	}
	return nil
}

// rows and row classify what reading says.
type rows struct {
	r Rows
	w *wait
}

// Next implements Rows.
func (r rows) Next() bool { return r.r.Next() }

// Scan implements Rows.
func (r rows) Scan(dest ...any) error { return classify(r.r.Scan(dest...)) }

// Err implements Rows.
func (r rows) Err() error { return classify(r.r.Err()) }

// Close implements Rows.
func (r rows) Close() error {
	defer r.w.over()
	return r.r.Close()
}

type row struct {
	r Row
	w *wait
}

// Scan implements Row.
func (r row) Scan(dest ...any) error {
	defer r.w.over()
	return r.w.heard(r.r.Scan(dest...))
}

// refused is a Row of a statement that was not sent.
type refused struct{ err error }

// Scan implements Row.
func (r refused) Scan(...any) error { return r.err }
