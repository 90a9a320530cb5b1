package saga

import (
	"context"
	"time"
)

// Hurry makes an engine look after others more often than a service does; before Launch.
func Hurry(e *Engine) { e.beatEvery, e.deadAfter = 50*time.Millisecond, 500*time.Millisecond }

// Silence makes an engine one that hangs: it neither beats nor looks after others, but its runs go on.
func Silence(e *Engine) { e.silent.Store(true) }

// AwaitQuiet returns when no run of the engine may still take a step.
func AwaitQuiet(ctx context.Context, e *Engine) { _ = e.awaitQuiet(ctx) }

// DeadAfter is how long a service's engine waits before it takes another for dead.
const DeadAfter = deadAfter
