package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"aran/platform/fault"
)

// lockWriter is the advisory lock of who writes, for the time of a transaction. It is the same number in all databases:
// such a lock is of the database that it is taken in.
const lockWriter = 0x4152414e

const (
	dialTimeout   = 3 * time.Second
	firstRetry    = 250 * time.Millisecond
	longestRetry  = 5 * time.Second
	idleConn      = time.Minute
	batchDeadline = 20 * time.Second // of a whole commit, so that a server that went silent does not hold the writer
)

// postgres opens a pool. A server that is away is waited for until ctx ends; one that refuses us is an error.
func postgres(ctx context.Context, o Options) (*engine, error) {
	c, err := pgxpool.ParseConfig(o.URL.Reveal())
	if err != nil {
		return nil, errBadURL
	}
	c.MaxConns = int32(o.Readers) + 2 //nolint:gosec // small; the writer, and who listens for sagas
	c.MinConns, c.MaxConnIdleTime = 0, idleConn
	c.ConnConfig.ConnectTimeout = dialTimeout
	maps.Copy(c.ConnConfig.RuntimeParams, map[string]string{
		"application_name": "aran-" + o.Service, "timezone": "UTC", "search_path": "public", "default_transaction_isolation": "read committed",
		"lock_timeout": "10s", "statement_timeout": "30s", "idle_in_transaction_session_timeout": "15s",
	})
	pool, err := pgxpool.NewWithConfig(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := awaitServer(ctx, pool, o.Log); err != nil {
		pool.Close()
		return nil, err
	}
	if err := checkServer(ctx, pool); err != nil {
		pool.Close()
		return nil, err
	}
	shared := stdlib.OpenDBFromPool(pool)
	return &engine{
		write: shared, read: shared, pool: pool, snapshot: sql.LevelRepeatableRead,
		begin:  fmt.Sprintf("BEGIN; SELECT pg_advisory_xact_lock(%d)", lockWriter),
		macros: []string{"{{blob}}", "BYTEA", "{{clustered}}", "", "{{serial}}", "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY"},
		close:  func() error { err := shared.Close(); pool.Close(); return err },
	}, nil
}

var errBadURL = errors.New("the database URL cannot be read: use postgres://role:password@host:port/database") // pgx's own error would show the password

func awaitServer(ctx context.Context, pool *pgxpool.Pool, log *slog.Logger) error {
	pause := firstRetry
	for {
		err := pool.Ping(ctx)
		if err == nil || !away(err) || ctx.Err() != nil {
			return err
		}
		if log != nil {
			log.LogAttrs(ctx, slog.LevelWarn, "database is away; waiting for it", slog.String("address", address(pool)), slog.Duration("again_in", pause), slog.String("error", err.Error()))
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return errors.Join(ctx.Err(), err)
		}
		pause = min(2*pause, longestRetry)
	}
}

func address(pool *pgxpool.Pool) string {
	c := pool.Config().ConnConfig
	return fmt.Sprintf("%s:%d/%s", c.Host, c.Port, c.Database)
}

// checkServer refuses a database in which text would sort or be stored in another way than everywhere else.
func checkServer(ctx context.Context, pool *pgxpool.Pool) error {
	var encoding, order, version string
	const q = `SELECT pg_encoding_to_char(encoding), datcollate, current_setting('server_version_num') FROM pg_database WHERE datname = current_database()`
	if err := pool.QueryRow(ctx, q).Scan(&encoding, &order, &version); err != nil {
		return err
	}
	if encoding != "UTF8" || (order != "C" && order != "C.UTF-8" && order != "C.utf8" && order != "POSIX") {
		return fault.New(fault.Conflict, "database_locale", "The database %s has encoding %s and sorts by %s; create it with TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'.", address(pool), encoding, order)
	}
	if len(version) < 6 || version < "150000" {
		return fault.New(fault.Conflict, "database_version", "PostgreSQL %s is too old; 15 or newer is needed.", version)
	}
	return nil
}

// away reports whether the server could not be reached or was not in service: the same statement may work later.
func away(err error) bool {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch pg.Code[:2] {
		case "08", "57": // connection exceptions, operator intervention
			return pg.Code != queryCanceled
		}
		return pg.Code == "53300" // too many connections
	}
	var refused *pgconn.ConnectError
	var network net.Error
	return errors.As(err, &refused) || errors.As(err, &network) || pgconn.SafeToRetry(err) || lost(err)
}

const (
	queryCanceled   = "57014"
	uniqueViolation = "23505"
)

// classifyPostgres is classify for what PostgreSQL says (its manual, appendix A).
func classifyPostgres(err error) error {
	if errors.Is(err, sql.ErrNoRows) || errors.Is(err, context.Canceled) {
		return err
	}
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		_, connecting := errors.AsType[*pgconn.ConnectError](err) // its deadline is ours, not the caller's
		if errors.Is(err, context.DeadlineExceeded) && !connecting || !away(err) {
			return err
		}
		return fault.New(fault.Unavailable, "database_away", "The database cannot be reached; try again.").After(time.Second).Because(err)
	}
	switch {
	case away(err):
		return fault.New(fault.Unavailable, "database_away", "The database is not in service; try again.").After(time.Second).Because(err)
	case pg.Code == "53100":
		return fault.New(fault.Unavailable, "disk_full", "The disk is full; nothing was changed.").Because(err)
	case pg.Code[:2] == "53", pg.Code[:2] == "40", pg.Code == "55P03", pg.Code == queryCanceled, pg.Code == "25006":
		return fault.New(fault.Unavailable, "database_busy", "The database cannot do it now; try again.").After(time.Second).Because(err)
	case pg.Code[:2] == "58", pg.Code[:2] == "XX":
		return fault.New(fault.Unavailable, "disk_error", "The database server cannot read or write its files.").Because(err)
	case pg.Code[:2] == "23":
		return fault.New(fault.Conflict, "constraint", "It exists already, or breaks a rule of the data.").Because(err)
	}
	return err
}
