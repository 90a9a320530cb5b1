package saga

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"time"

	"github.com/dbos-inc/dbos-transact-golang/dbos"
	"go.opentelemetry.io/otel/trace"

	"aran/platform/fault"
	"aran/platform/store"
)

// Run is one execution. ID is the run's id. It is used by its body's goroutine only.
type Run struct {
	ID   string
	e    *Engine
	ctx  dbos.Context
	span trace.Span // of the run; steps are in its trace
	undo []compensation
}

type compensation struct {
	name string
	fn   func(ctx context.Context, tx *store.Tx) error
}

const (
	firstPause  = 50 * time.Millisecond
	longestWait = 15 * time.Second
	brokenTries = 5         // for errors nobody classified
	awayFor     = time.Hour // for parts that are away
	txTries     = 3
)

// Tx is a step whose writes, its record and its events are one transaction: exactly once. An error that is no fault is retried a few times.
func (r *Run) Tx(name string, fn func(ctx context.Context, tx *store.Tx) error) error {
	r.e.parkIfStopping()
	fault.Point("saga.before_step")
	committed := func() {}
	begin, tries := time.Now(), 0
	again := func(err error) bool {
		r.e.parkIfStopping() // the error may be the stop itself: it must not be recorded
		if f := fault.From(err); f != nil {
			return f.Kind == fault.Unavailable && time.Since(begin) < awayFor // the database died under the step
		}
		tries++
		return tries <= txTries && r.ctx.Err() == nil
	}
	_, err := dbos.RunAsTransaction(r.ctx, r.e.data, func(ctx context.Context, tx dbos.Tx) (bool, error) {
		own, done, err := r.e.db.Adopt(ctx, handle{tx})
		if err != nil {
			return false, err
		}
		committed = done
		return true, fn(trace.ContextWithSpan(ctx, r.span), own)
	}, dbos.WithStepName(name), dbos.WithStepMaxRetries(math.MaxInt32), dbos.WithStepBaseInterval(firstPause), dbos.WithStepRetryPredicate(again))
	if err != nil {
		return fmt.Errorf("step %s: %w", name, err)
	}
	committed()
	fault.Point("saga.step_committed")
	return nil
}

// handle adapts the engine's transaction to the store's.
type handle struct{ tx dbos.Tx }

func (h handle) Exec(ctx context.Context, query string, args ...any) (int64, error) {
	res, err := h.tx.Exec(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

func (h handle) Query(ctx context.Context, query string, args ...any) (store.Rows, error) {
	r, err := h.tx.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	return rows{r}, nil
}

func (h handle) QueryRow(ctx context.Context, query string, args ...any) store.Row {
	return row{h.tx.QueryRow(ctx, query, args...)}
}

// rows and row read what DB reads too. On PostgreSQL the engine's transaction is the driver's own, which does not turn
// numbers into truth values as database/sql does.
type rows struct{ store.Rows }

// Scan implements store.Rows.
func (r rows) Scan(dest ...any) error { return r.Rows.Scan(lenient(dest)...) }

type row struct{ store.Row }

// Scan implements store.Row.
func (r row) Scan(dest ...any) error { return r.Row.Scan(lenient(dest)...) }

// lenient has truth values read by the rules of database/sql.
func lenient(dest []any) []any {
	out := slices.Clone(dest)
	for i, d := range out {
		if b, ok := d.(*bool); ok {
			out[i] = truth{b}
		}
	}
	return out
}

type truth struct{ into *bool }

// Scan implements sql.Scanner.
func (t truth) Scan(src any) error {
	var b sql.NullBool
	if err := b.Scan(src); err != nil {
		return err
	}
	if !b.Valid {
		return errors.New("NULL is no truth value")
	}
	*t.into = b.Bool
	return nil
}

// Do is a step outside the database: at least once; its result is stored as JSON (no content: ids, digests, counts), so that a resumed run does not repeat it.
// A part that is away is tried again with growing pauses for an hour; an error that nobody classified five times; other faults end the run at once.
func Do[T any](r *Run, name string, fn func(ctx context.Context) (T, error)) (T, error) {
	r.e.parkIfStopping()
	fault.Point("saga.before_step")
	out, err := dbos.RunAsStep(r.ctx, func(ctx context.Context) (T, error) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		go func() {
			select {
			case <-r.e.stopping:
				cancel()
			case <-ctx.Done():
			}
		}()
		return attempt(trace.ContextWithSpan(ctx, r.span), r, name, fn)
	}, dbos.WithStepName(name))
	if err != nil {
		var none T
		return none, fmt.Errorf("step %s: %w", name, err)
	}
	fault.Point("saga.step_recorded")
	return out, nil
}

func attempt[T any](ctx context.Context, r *Run, name string, fn func(ctx context.Context) (T, error)) (T, error) {
	begin, pause := time.Now(), firstPause
	for try := 1; ; try++ {
		out, err := fn(ctx)
		if err == nil {
			return out, nil
		}
		r.e.parkIfStopping() // the error may be the stop itself: it must not be recorded
		if !again(err, try, time.Since(begin)) {
			return out, err
		}
		r.e.log.LogAttrs(ctx, slog.LevelDebug, "saga step failed; trying again", slog.String("step", name), slog.String("run", r.ID), slog.Int("try", try), slog.String("error", err.Error()))
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			r.e.parkIfStopping()
			return out, errors.Join(ctx.Err(), err)
		}
		pause = min(2*pause, longestWait)
	}
}

func again(err error, try int, since time.Duration) bool {
	switch fault.KindOf(err) {
	case fault.Unavailable, fault.Exhausted, fault.Deadline, fault.Canceled:
		return since < awayFor
	case fault.Internal:
		return try < brokenTries
	default:
		return false
	}
}

// Undo names a compensation; when the body returns an error they run in reverse, each as a transactional step.
func (r *Run) Undo(name string, fn func(ctx context.Context, tx *store.Tx) error) {
	r.undo = append(r.undo, compensation{name, fn})
}

// body runs fn; a panic becomes an error.
func (r *Run) body(fn func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return fn()
}

func (r *Run) compensate() error {
	for _, v := range slices.Backward(r.undo) {
		fault.Point("saga.before_compensation")
		if err := r.Tx("undo "+v.name, v.fn); err != nil {
			return err
		}
	}
	return nil
}
