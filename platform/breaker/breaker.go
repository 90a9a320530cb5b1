// Package breaker stops calling what keeps failing (failsafe-go).
package breaker

import (
	"context"
	"log/slog"
	"time"
)

// Config is when to open and for how long.
type Config struct {
	Failures int           // failures …
	Of       int           // … among so many calls open it
	Delay    time.Duration // then it stays open for this long before a trial call
}

// Default opens at 5 of 10 for 5 s.
func Default() Config { return Config{Failures: 5, Of: 10, Delay: 5 * time.Second} }

// Breaker guards one target. Safe for concurrent use.
type Breaker struct{}

// New makes a closed breaker; state changes are logged and counted under name.
func New(name string, c Config, log *slog.Logger) *Breaker { panic("not built") }

// Do runs fn unless the breaker is open, then it returns fault.Unavailable with RetryAfter. Faults that are the caller's own
// (Invalid, Denied, Missing, Conflict, TooLarge, Exhausted, Blocked, Canceled, Unauthenticated, Unsupported) do not count as failures.
func (b *Breaker) Do(ctx context.Context, fn func(ctx context.Context) error) error {
	panic("not built")
}

// Allow asks for permission for a call whose end is reported by done (for streams).
func (b *Breaker) Allow() (done func(err error), err error) { panic("not built") }

// State is "closed", "open" or "half-open".
func (b *Breaker) State() string { panic("not built") }
