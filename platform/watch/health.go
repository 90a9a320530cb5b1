package watch

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Health collects what must be well before requests are taken. Safe for concurrent use.
type Health struct {
	mu      sync.Mutex
	checks  map[string]func(ctx context.Context) error
	opened  bool
	closing bool
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

// Open says that everything was started; until then nothing is ready.
func (h *Health) Open() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.opened = true
}

// Drain says that the process is about to stop: it is not ready any more.
func (h *Health) Drain() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closing = true
}

// Check is one check's outcome. The error is for the operator only.
type Check struct {
	Name  string `json:"name"`
	OK    bool   `json:"ok"`
	Error string `json:"error,omitempty"`
}

const checkTimeout = 2 * time.Second

// Ready runs all checks, each with its own time-out, and returns them by name.
func (h *Health) Ready(ctx context.Context) (ok bool, checks []Check) {
	h.mu.Lock()
	names := make([]string, 0, len(h.checks))
	funcs := make(map[string]func(context.Context) error, len(h.checks))
	for n, f := range h.checks {
		names, funcs[n] = append(names, n), f
	}
	ok = h.opened && !h.closing
	h.mu.Unlock()
	slices.Sort(names)
	checks = make([]Check, len(names))
	var wg sync.WaitGroup
	for i, n := range names {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, checkTimeout)
			defer cancel()
			checks[i] = Check{Name: n, OK: true}
			if err := funcs[n](ctx); err != nil {
				checks[i] = Check{Name: n, Error: err.Error()}
			}
		})
	}
	wg.Wait()
	for _, c := range checks {
		ok = ok && c.OK
	}
	return ok, checks
}
