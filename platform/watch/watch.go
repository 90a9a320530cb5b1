// Package watch is how an operator sees the platform: logs, metrics, traces, health.
package watch

import (
	"context"
	"sync"
)

// Health collects what must be well before requests are taken. Safe for concurrent use.
type Health struct {
	mu     sync.Mutex
	checks map[string]func(ctx context.Context) error
}

// Add registers a readiness check under a name ("search: encoder").
func (h *Health) Add(name string, check func(ctx context.Context) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.checks == nil {
		h.checks = map[string]func(context.Context) error{}
	}
	h.checks[name] = check
}
