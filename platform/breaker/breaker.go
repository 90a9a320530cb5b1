// Package breaker stops calling what keeps failing.
//
// It owns one target's state (closed, open, half-open; failsafe-go does the counting) and decides what a
// failure is: errors that are the caller's own fault prove that the target answers. It never retries and
// never answers in the target's place; that is the caller's fallback. A permission from Allow must be
// given back by its done, or the half-open state waits for ever.
package breaker

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"aran/platform/fault"
)

// Config is when to open and for how long.
type Config struct {
	Failures int           // failures …
	Of       int           // … among so many calls open it
	Delay    time.Duration // then it stays open for this long before a trial call
}

// Default opens at 5 of 10 for 5 s.
func Default() Config { return Config{Failures: 5, Of: 10, Delay: 5 * time.Second} }

// CodeOpen is the code of the fault that an open breaker answers with.
const CodeOpen = "circuit_open"

// Breaker guards one target. Safe for concurrent use.
type Breaker struct {
	name  string
	delay time.Duration
	cb    circuitbreaker.CircuitBreaker[any]
	epoch atomic.Int64 // counts state changes: a call that began in an earlier state says nothing about this one
}

// New makes a closed breaker; state changes are logged and counted under name, which must come from a closed set.
// Values of c that are not positive are replaced by those of Default.
func New(name string, c Config, log *slog.Logger) *Breaker {
	d := Default()
	if c.Failures <= 0 {
		c.Failures = d.Failures
	}
	if c.Of < c.Failures {
		c.Of = max(d.Of, c.Failures)
	}
	if c.Delay <= 0 {
		c.Delay = d.Delay
	}
	changes, err := otel.Meter("aran/platform/breaker").Int64Counter("aran_breaker_changes_total",
		metric.WithDescription("State changes of a circuit breaker, by target and new state."))
	if err != nil {
		otel.Handle(err)
	}
	b := &Breaker{name: name, delay: c.Delay}
	b.cb = circuitbreaker.NewBuilder[any]().
		WithFailureThresholdRatio(uint(c.Failures), uint(c.Of)).
		WithSuccessThreshold(1).
		WithDelay(c.Delay).
		OnStateChanged(func(e circuitbreaker.StateChangedEvent) {
			b.epoch.Add(1)
			log.LogAttrs(e.Context(), slog.LevelWarn, "circuit breaker changed",
				slog.String("target", name), slog.String("from", e.OldState.String()), slog.String("to", e.NewState.String()))
			changes.Add(e.Context(), 1, metric.WithAttributes(
				attribute.String("target", name), attribute.String("state", e.NewState.String())))
		}).
		Build()
	return b
}

// Do runs fn unless the breaker is open, then it returns fault.Unavailable with RetryAfter. Faults that are the caller's own
// (Invalid, Denied, Missing, Conflict, TooLarge, Exhausted, Blocked, Canceled, Unauthenticated, Unsupported) do not count as failures.
// A panic of fn counts as one and goes on.
func (b *Breaker) Do(ctx context.Context, fn func(ctx context.Context) error) error {
	done, err := b.Allow()
	if err != nil {
		return err
	}
	outcome := errPanic
	defer func() { done(outcome) }()
	outcome = fn(ctx)
	return outcome
}

var errPanic = errors.New("panic")

// Allow asks for permission for a call whose end is reported by done (for streams). done may be called more
// than once: the first call counts.
func (b *Breaker) Allow() (done func(err error), err error) {
	if !b.cb.TryAcquirePermit() {
		return nil, fault.New(fault.Unavailable, CodeOpen, "%s is failing and is not called for the moment.", b.name).
			After(max(b.cb.RemainingDelay(), b.delay/5)) // half-open: a trial is under way
	}
	epoch := b.epoch.Load()
	var reported atomic.Bool
	return func(err error) {
		if reported.Swap(true) || b.epoch.Load() != epoch {
			return
		}
		b.report(err)
	}, nil
}

func (b *Breaker) report(err error) {
	switch verdict(err) {
	case failure:
		b.cb.RecordFailure()
	case nothing:
		if b.cb.IsHalfOpen() { // the trial proved nothing: wait for another
			b.cb.Open()
		}
	default:
		b.cb.RecordSuccess()
	}
}

const (
	success = iota
	failure
	nothing
)

func verdict(err error) int {
	if err == nil {
		return success
	}
	if fault.From(err) == nil && errors.Is(err, context.Canceled) {
		return nothing
	}
	switch fault.KindOf(err) {
	case fault.Internal, fault.Unavailable, fault.Deadline:
		return failure
	case fault.Canceled:
		return nothing
	default:
		return success
	}
}

// State is "closed", "open" or "half-open". An open breaker whose delay is over stays "open" until someone calls.
func (b *Breaker) State() string { return b.cb.State().String() }
