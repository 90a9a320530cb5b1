// Package saga runs durable workflows with compensation, on DBOS in the service's own database.
package saga

import (
	"context"
	"log/slog"

	"aran/platform/store"
)

// Engine runs the sagas of one service.
type Engine struct{}

// Open prepares an engine on the service's own database. version names the set of definitions: change it when steps change.
func Open(ctx context.Context, db *store.DB, service, version string, log *slog.Logger) (*Engine, error) {
	panic("not built")
}

// Saga is a defined workflow with input I (ids only; it is stored as JSON).
type Saga[I any] struct{}

// Define registers a saga; all are defined before Launch.
func Define[I any](e *Engine, name string, body func(r *Run, in I) error) *Saga[I] {
	panic("not built")
}

// Start begins a run once: a second call with the same id does nothing.
func (s *Saga[I]) Start(ctx context.Context, id string, in I) error { panic("not built") }

// Launch resumes what an earlier process left and begins to work.
func (e *Engine) Launch(ctx context.Context) error { panic("not built") }

// Stop ends the engine; runs in hand are resumed at the next Launch.
func (e *Engine) Stop(ctx context.Context) error { panic("not built") }

// Run is one execution. ID is the run's id.
type Run struct{ ID string }

// Tx is a step whose writes, its record and its events are one transaction: exactly once. Non-fault errors are retried a few times.
func (r *Run) Tx(name string, fn func(ctx context.Context, tx *store.Tx) error) error {
	panic("not built")
}

// Do is a step outside the database: at least once; its result is stored as JSON (no content: ids, digests, counts), so that a resumed run does not repeat it.
// Errors of kind Unavailable and Internal are retried with back-off.
func Do[T any](r *Run, name string, fn func(ctx context.Context) (T, error)) (T, error) {
	panic("not built")
}

// Undo names a compensation; when the body returns an error they run in reverse, each as a transactional step.
func (r *Run) Undo(name string, fn func(ctx context.Context, tx *store.Tx) error) { panic("not built") }
