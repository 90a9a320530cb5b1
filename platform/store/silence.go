package store

import (
	"context"
	"errors"
	"time"

	"aran/platform/fault"
)

// silence is how long a read waits for the first word of a server that is another process. One that was stopped or lies
// behind a network that swallows everything keeps its connections open and says nothing. statement_timeout can't help
// there: the server enforces it. A variable for tests.
var silence = 10 * time.Second //nolint:gochecknoglobals // see above

var errSilent = errors.New("the database server said nothing")

// wait is for the first word of an answer. Nil waits without end.
type wait struct {
	ctx    context.Context //nolint:containedctx // of one statement
	cancel context.CancelCauseFunc
	timer  *time.Timer
}

// patient bounds the wait of a statement that reads, on a server.
func (db *DB) patient(ctx context.Context) (context.Context, *wait) {
	if db.pool == nil {
		return ctx, nil
	}
	return patient(ctx)
}

func patient(ctx context.Context) (context.Context, *wait) {
	inner, cancel := context.WithCancelCause(ctx)
	return inner, &wait{inner, cancel, time.AfterFunc(silence, func() { cancel(errSilent) })}
}

// heard ends the wait: the rows may take as long as they take. It turns an error of ours into what it means.
func (w *wait) heard(err error) error {
	if w == nil {
		return classify(err)
	}
	w.timer.Stop()
	if err == nil {
		return nil
	}
	cause := context.Cause(w.ctx)
	w.cancel(nil)
	if errors.Is(cause, errSilent) {
		return fault.New(fault.Unavailable, "database_away", "The database does not answer; try again.").After(time.Second).Because(errors.Join(cause, err))
	}
	return classify(err)
}

// over releases what the statement held.
func (w *wait) over() {
	if w != nil {
		w.timer.Stop()
		w.cancel(nil)
	}
}
