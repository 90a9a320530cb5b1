package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"aran/platform/fault"
)

// job is one transaction on its way through the writer.
type job struct {
	ctx   context.Context //nolint:containedctx // travels with the work, as a request does
	fn    func(tx *Tx) error
	done  chan struct{}
	err   error
	panic any
	tx    *Tx
}

const (
	maxBatch     = 256                  // transactions in one commit
	maxBatchTime = 5 * time.Millisecond // no new one is added to a commit after this
)

// Tx runs fn in a write transaction. Concurrent calls share one commit (each in its own savepoint): an error
// or panic of fn undoes only its own writes. fn must not block on anything but the database and must not
// call db.Tx again. Tx returns after the commit is durable. A full queue is fault.Exhausted.
func (db *DB) Tx(ctx context.Context, fn func(tx *Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	j := &job{ctx: ctx, fn: fn, done: make(chan struct{})}
	select {
	case <-db.quit:
		return errClosed()
	default:
	}
	select {
	case db.jobs <- j:
	default:
		return fault.New(fault.Exhausted, "store_busy", "Too many changes are waiting to be written; try again.").After(time.Second)
	}
	select {
	case <-j.done:
	case <-db.idle:
		select { // the writer may have done it as its last deed
		case <-j.done:
		default:
			return errClosed()
		}
	}
	if j.panic != nil {
		panic(j.panic)
	}
	if j.err == nil {
		fault.Point("store.tx.committed")
	}
	return j.err
}

func errClosed() error {
	return fault.New(fault.Unavailable, "stopping", "The service is stopping.").After(time.Second)
}

func (db *DB) writer() {
	defer close(db.idle)
	for {
		select {
		case j := <-db.jobs:
			db.batch(j)
		case <-db.quit:
			for {
				select {
				case j := <-db.jobs:
					db.batch(j)
				default:
					return
				}
			}
		}
	}
}

// batch runs j and what else is waiting, commits once, and tells all of them.
func (db *DB) batch(j *job) {
	ctx := context.WithoutCancel(j.ctx)
	if db.Shared() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, batchDeadline)
		defer cancel()
	}
	done, err := db.runBatch(ctx, j)
	for _, d := range done {
		if err != nil && d.err == nil && d.panic == nil {
			d.err = err
		}
		if d.err == nil && d.panic == nil && d.tx != nil {
			db.emitted(d.tx)
		}
		close(d.done)
	}
}

func (db *DB) runBatch(ctx context.Context, j *job) (done []*job, err error) {
	done = []*job{j}
	conn, err := db.write.Conn(ctx)
	if err != nil {
		return done, classify(err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if _, err := conn.ExecContext(ctx, db.begin); err != nil {
		return done, classify(err)
	}
	broken := db.runOne(ctx, conn, j)
	for start := time.Now(); broken == nil && len(done) < maxBatch && time.Since(start) < maxBatchTime; {
		select {
		case next := <-db.jobs:
			done = append(done, next)
			broken = db.runOne(ctx, conn, next)
			continue
		default:
		}
		break
	}
	fault.Point("store.tx.before_commit")
	if broken == nil {
		_, broken = conn.ExecContext(ctx, "COMMIT")
	}
	if broken != nil {
		if _, err := conn.ExecContext(ctx, "ROLLBACK"); err != nil && db.log != nil {
			db.log.LogAttrs(ctx, slog.LevelDebug, "rollback", slog.String("error", err.Error())) // the engine did it itself
		}
		return done, classify(broken)
	}
	return done, nil
}

// runOne runs one transaction in its savepoint. It returns an error only when the shared transaction can't go on.
func (db *DB) runOne(ctx context.Context, conn *sql.Conn, j *job) error {
	if j.err = j.ctx.Err(); j.err != nil {
		return nil //nolint:nilerr // the job failed, not the transaction
	}
	if _, err := conn.ExecContext(ctx, "SAVEPOINT job"); err != nil {
		return err
	}
	j.tx = &Tx{h: connection{conn, ctx}, db: db}
	j.run()
	end := "RELEASE job"
	if j.err != nil || j.panic != nil {
		end = "ROLLBACK TO job; RELEASE job"
	}
	if _, err := conn.ExecContext(ctx, end); err != nil {
		return fmt.Errorf("end of savepoint: %w", errors.Join(err, j.err))
	}
	return nil
}

func (j *job) run() {
	defer func() { j.panic = recover() }()
	j.err = j.fn(j.tx)
}

// connection is a Handle over the writer's connection. Its statements end with the batch, not with the one who asked:
// a caller that gives up must not break the transaction of others.
type connection struct {
	conn *sql.Conn
	ctx  context.Context //nolint:containedctx // of the batch
}

func (c connection) Exec(_ context.Context, query string, args ...any) (int64, error) {
	r, err := c.conn.ExecContext(c.ctx, query, args...) //nolint:contextcheck // see connection
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

func (c connection) Query(_ context.Context, query string, args ...any) (Rows, error) {
	return c.conn.QueryContext(c.ctx, query, args...) //nolint:rowserrcheck,contextcheck // the caller's; see connection
}

func (c connection) QueryRow(_ context.Context, query string, args ...any) Row {
	return c.conn.QueryRowContext(c.ctx, query, args...) //nolint:contextcheck // see connection
}
