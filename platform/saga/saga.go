// Package saga runs durable workflows with compensation, on DBOS Transact in the service's own database.
//
// A step's effect, its record and the events it emits are one transaction, so that a run that was cut off
// goes on where it was and does nothing twice: in the next process, or on PostgreSQL in another replica. Inputs and results are stored as JSON: ids, digests and
// counts, never content. The package decides how steps are recorded and retried, not what they do.
package saga

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dbos-inc/dbos-transact-golang/dbos"
	_ "github.com/dbos-inc/dbos-transact-golang/dbos/driver/sqlite" // the engine's SQLite dialect
	"github.com/google/uuid"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"

	"aran/platform/fault"
	"aran/platform/store"
)

const (
	concurrent    = 8  // runs that work at once
	waitingRuns   = 64 // runs that were started and wait; then Start waits
	rarely        = time.Hour
	shutdownGrace = 100 * time.Millisecond
)

var names = regexp.MustCompile(`^[a-z][a-z_-]{1,40}$`)

// Engine runs the sagas of one service. Safe for concurrent use.
type Engine struct {
	db   *store.DB
	ctx  dbos.Context
	data *dbos.DataSource
	log  *slog.Logger
	text texts

	bodies map[string]func(r *Run, in json.RawMessage) error // by name; complete before Launch

	id, version          string   // of this executor, and of its set of definitions
	former, succession   string   // the executor of the process that this one comes after, and the file that names it
	previous             []string // sets whose runs the definitions here can finish
	beatEvery, deadAfter time.Duration
	silent               atomic.Bool // as if this process hung: only tests set it

	slots chan struct{} // one per run that works
	queue chan struct{} // one per run that was started

	end     context.CancelFunc // of what accompanies other replicas
	company sync.WaitGroup

	stopping chan struct{}
	stop     sync.Once
	mu       sync.Mutex
	running  int           // runs that may still take a step, and starts
	quiet    chan struct{} // replaced and closed when running changes
	launched bool
}

// Open prepares an engine on the service's own database. version names the set of definitions: change it when steps
// change, keep the former definition beside the new one under its name, and list the former version as previous, so that
// the runs of before the upgrade are finished. ctx bounds only the set-up.
func Open(ctx context.Context, db *store.DB, service, version string, log *slog.Logger, previous ...string) (*Engine, error) {
	if !names.MatchString(service) || version == "" {
		return nil, fmt.Errorf("saga: service %q, version %q", service, version)
	}
	e := &Engine{
		db: db, log: log, text: textsFor(service, db.Shared()), id: service, version: version, previous: previous, beatEvery: beatEvery, deadAfter: deadAfter,
		bodies: map[string]func(*Run, json.RawMessage) error{}, slots: make(chan struct{}, concurrent), queue: make(chan struct{}, waitingRuns),
		stopping: make(chan struct{}), quiet: make(chan struct{}),
	}
	if db.Shared() {
		e.id = service + "-" + uuid.NewString()
	}
	// In turn: of replicas that start together, one makes the tables.
	if err := db.InTurn(ctx, "saga set-up", e.open); err != nil {
		return nil, fmt.Errorf("saga engine of %s: %w", service, err)
	}
	dbos.RegisterWorkflow(e.ctx, e.flow, dbos.WithWorkflowName("saga"))
	return e, nil
}

// open makes the tables, ours and the library's, and the library's engine on the service's own handle: a step's record
// and its effects are one transaction, and durable.
func (e *Engine) open(ctx context.Context) (err error) {
	if err := e.exec(ctx, e.text.create); err != nil {
		return err
	}
	e.ctx, err = dbos.NewContext(context.WithoutCancel(ctx), dbos.Config{
		AppName: "aran-" + e.db.Service(), SQLiteSystemDB: e.db.Writer(), SystemDBPool: e.db.Pool(), ApplicationVersion: e.version, ExecutorID: e.id,
		Logger: slog.New(quieter{e.log.Handler()}), SchedulerPollingInterval: rarely, AutoUpgradeInterval: rarely,
	})
	if err != nil {
		return err
	}
	e.data, err = e.source()
	return err
}

func (e *Engine) source() (*dbos.DataSource, error) {
	if e.db.Shared() {
		return dbos.NewDataSource(e.ctx, e.db.Pool(), dbos.WithDataSourceName("own"))
	}
	return dbos.NewDataSource(e.ctx, e.db.Writer(), dbos.WithDataSourceName("own"))
}

// Saga is a defined workflow with input I (ids only; it is stored as JSON).
type Saga[I any] struct {
	e    *Engine
	name string
}

// Outcomes of a finished run.
const (
	done        = "done"
	compensated = "compensated"
)

// call is the input of every run, as the engine stores it.
type call struct {
	Saga  string          `json:"saga"`
	In    json.RawMessage `json:"in"`
	Trace string          `json:"trace,omitempty"` // W3C traceparent of whoever started it
}

// traceParent is the trace of a caller, to be stored.
func traceParent(ctx context.Context) string {
	c := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, c)
	return c.Get("traceparent")
}

// Define registers a saga; all are defined before Launch. A body must do the same steps in the same order each time it
// runs for an input: what it decides on comes from the input and from steps' results.
func Define[I any](e *Engine, name string, body func(r *Run, in I) error) *Saga[I] {
	if _, twice := e.bodies[name]; twice {
		panic("saga: defined twice: " + name)
	}
	e.bodies[name] = func(r *Run, raw json.RawMessage) error {
		var in I
		if err := json.Unmarshal(raw, &in); err != nil {
			return fmt.Errorf("input: %w", err)
		}
		return body(r, in)
	}
	return &Saga[I]{e, name}
}

// flow is the one workflow that the engine knows: it tells them apart by the function, and ours are closures of one.
func (e *Engine) flow(ctx dbos.Context, c call) (string, error) {
	id, err := dbos.GetWorkflowID(ctx)
	if err != nil {
		return "", err
	}
	_, span := otel.Tracer("aran/platform/saga").Start(propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": c.Trace}), "saga "+c.Saga)
	defer span.End()
	r := &Run{ID: id, e: e, ctx: ctx, span: span}
	e.enter()
	defer e.leave()
	fault.Point("saga.run_started")
	body, ok := e.bodies[c.Saga]
	if !ok {
		return "", fmt.Errorf("no saga is called %q", c.Saga)
	}
	err = r.body(func() error { return body(r, c.In) })
	if err == nil {
		fault.Point("saga.run_done")
		return done, nil
	}
	if errors.Is(err, dbos.ErrConflictingWorkflowID) {
		e.log.LogAttrs(ctx, slog.LevelWarn, "another replica took the saga over", slog.String("saga", c.Saga), slog.String("run", id))
		return "", err // not recorded: the run is not ours any more
	}
	e.log.LogAttrs(ctx, slog.LevelWarn, "saga failed; compensating", slog.String("saga", c.Saga), slog.String("run", id), slog.String("error", err.Error()))
	if undo := r.compensate(); undo != nil {
		return "", fmt.Errorf("saga %s: %w", c.Saga, errors.Join(err, undo))
	}
	return compensated, nil
}

// Start begins a run once: a second call with the same id does nothing. It waits when too many runs are waiting.
// It must not be called inside a transaction of the same database.
func (s *Saga[I]) Start(ctx context.Context, id string, in I) error {
	select {
	case s.e.queue <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.e.stopping:
		return stoppingFault()
	}
	if !s.e.admit() {
		<-s.e.queue
		return stoppingFault()
	}
	raw, err := json.Marshal(in)
	var h dbos.WorkflowHandle[string]
	if err == nil {
		h, err = dbos.RunWorkflow(s.e.ctx, s.e.flow, call{s.name, raw, traceParent(ctx)}, dbos.WithWorkflowID(id))
	}
	s.e.add(-1)
	if err != nil {
		<-s.e.queue
		return fmt.Errorf("start saga %s: %w", s.name, err)
	}
	fault.Point("saga.recorded")
	go func() { // ends with the run, or with the process when the run is parked by Stop
		defer func() { <-s.e.queue }()
		_, _ = h.GetResult()
	}()
	return nil
}

func stoppingFault() error {
	return fault.New(fault.Unavailable, "stopping", "The service is stopping.").After(time.Second)
}

// Launch resumes what an earlier process left and begins to work.
func (e *Engine) Launch(ctx context.Context) error {
	if err := e.join(ctx); err != nil {
		return fmt.Errorf("launch sagas: %w", err)
	}
	if err := dbos.Launch(e.ctx); err != nil {
		return fmt.Errorf("launch sagas: %w", err)
	}
	if e.db.Shared() {
		life, end := context.WithCancel(context.WithoutCancel(ctx))
		e.end = end
		e.company.Go(func() { e.accompany(life) })
	}
	e.mu.Lock()
	e.launched = true
	e.mu.Unlock()
	return nil
}

// Rest ends the work; runs in hand finish their step and are resumed at the next Launch. The database stays open, for what
// the last steps emitted.
func (e *Engine) Rest(ctx context.Context) error {
	e.stop.Do(func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		close(e.stopping)
	})
	err := e.awaitQuiet(ctx)
	if e.end != nil {
		e.end()
		e.company.Wait()
		err = errors.Join(err, e.leaveOthers(ctx))
	}
	return err
}

// Stop ends the engine, resting before. It closes the database's handle: the library does so with every one that it was
// handed. Nothing that uses the database may run after it.
func (e *Engine) Stop(ctx context.Context) error {
	err := e.Rest(ctx)
	e.mu.Lock()
	launched := e.launched
	e.mu.Unlock()
	if launched {
		// Parked runs never return, so that nothing is recorded of them: the grace is for the engine's own loops.
		dbos.Shutdown(e.ctx, shutdownGrace) //nolint:errcheck,gosec // it says that parked runs did not return, which is meant
	}
	return err
}

func (e *Engine) awaitQuiet(ctx context.Context) error {
	for {
		e.mu.Lock()
		n, changed := e.running, e.quiet
		e.mu.Unlock()
		if n == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%d saga steps did not end: %w", n, ctx.Err())
		}
	}
}

// admit counts a start as work in hand; false when the engine stops. What it admitted is over before the library's
// engine is shut down, which must not be handed a run meanwhile.
func (e *Engine) admit() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	select {
	case <-e.stopping:
		return false
	default:
	}
	e.count(1)
	return true
}

func (e *Engine) add(n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.count(n)
}

// count is called with the lock held.
func (e *Engine) count(n int) {
	e.running += n
	close(e.quiet)
	e.quiet = make(chan struct{})
}

// enter waits for a slot; when the engine stops first, the run is parked.
func (e *Engine) enter() {
	select {
	case <-e.stopping:
		park()
	default:
	}
	select {
	case e.slots <- struct{}{}:
	case <-e.stopping:
		park()
	}
	e.add(1)
}

func (e *Engine) leave() {
	<-e.slots
	e.add(-1)
}

// parkIfStopping ends the run's life in this process without recording an end.
func (e *Engine) parkIfStopping() {
	select {
	case <-e.stopping:
		e.add(-1)
		park()
	default:
	}
}

// park never returns: the process is about to end, and the next one resumes the run.
func park() { select {} }

// State of a run.
type State string

// States.
const (
	Running State = "running"
	Done    State = "done"
	Undone  State = "compensated"
	Failed  State = "failed" // and the compensation failed too
)

// Status says how a run stands; fault.Missing when it was never started.
func (e *Engine) Status(_ context.Context, id string) (State, error) {
	ws, err := dbos.ListWorkflows(e.ctx, dbos.WithFilterWorkflowIDs(id), dbos.WithFilterLoadOutput(true), dbos.WithFilterLoadInput(false))
	if err != nil {
		return "", fmt.Errorf("saga status: %w", err)
	}
	if len(ws) == 0 {
		return "", fault.NotFound("run", id)
	}
	switch {
	case ws[0].Status == dbos.WorkflowStatusSuccess && strings.Contains(fmt.Sprint(ws[0].Output), compensated):
		return Undone, nil
	case ws[0].Status == dbos.WorkflowStatusSuccess:
		return Done, nil
	case ws[0].Status == dbos.WorkflowStatusPending || ws[0].Status == dbos.WorkflowStatusEnqueued:
		return Running, nil
	}
	return Failed, nil
}

// quieter lowers the engine's own information to debug.
type quieter struct{ slog.Handler }

func (q quieter) Enabled(ctx context.Context, l slog.Level) bool {
	return q.Handler.Enabled(ctx, lower(l))
}

func (q quieter) Handle(ctx context.Context, r slog.Record) error {
	r.Level = lower(r.Level)
	return q.Handler.Handle(ctx, r)
}

func (q quieter) WithAttrs(a []slog.Attr) slog.Handler { return quieter{q.Handler.WithAttrs(a)} }

func (q quieter) WithGroup(n string) slog.Handler { return quieter{q.Handler.WithGroup(n)} }

func lower(l slog.Level) slog.Level {
	if l == slog.LevelInfo {
		return slog.LevelDebug
	}
	return l
}
