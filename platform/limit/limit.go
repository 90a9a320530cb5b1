// Package limit holds rate limits (GCRA).
package limit

import (
	"context"
	"time"
)

// Rate is how much is allowed: Burst at once, Count per Period on average.
type Rate struct {
	Count  int
	Period time.Duration
	Burst  int
}

// Result of asking.
type Result struct {
	Allowed    bool
	Limit      int
	Remaining  int
	RetryAfter time.Duration // when not allowed
	Reset      time.Duration // until the whole burst is there again
}

// Limiter decides. Memory is one process's; Redis comes beside it.
type Limiter interface {
	Allow(ctx context.Context, key string, r Rate, n int) (Result, error)
}

// NewMemory keeps at most max keys; the oldest full ones are dropped first (a full bucket carries no information).
func NewMemory(max int) *Memory { panic("not built") }

// Memory is a Limiter in this process.
type Memory struct{}

// Allow takes n from the key's bucket when they are there.
func (m *Memory) Allow(ctx context.Context, key string, r Rate, n int) (Result, error) {
	panic("not built")
}
