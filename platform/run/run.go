// Package run starts parts in order and stops them in reverse, each with a deadline.
//
// It owns the process's life and nothing else: what a part is, it does not know.
package run

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Part is something that lives from Start to Stop. Either may be nil.
type Part struct {
	Name string
	// Start returns when the part works. Its context ends with the start deadline: it is not for what runs on.
	Start func(ctx context.Context) error
	// Stop returns when nothing of the part runs any more.
	Stop func(ctx context.Context) error
}

// Took is how long a part needed to start.
type Took struct {
	Name string
	Took time.Duration
}

// Group runs parts. Make one with New; it is used once.
type Group struct {
	log          *slog.Logger
	startTimeout time.Duration
	stopTimeout  time.Duration

	mu      sync.Mutex
	parts   []Part
	started int
	took    []Took
	failed  chan error
}

// New makes an empty group. The time-outs are per part.
func New(log *slog.Logger, startTimeout, stopTimeout time.Duration) *Group {
	return &Group{log: log, startTimeout: startTimeout, stopTimeout: stopTimeout, failed: make(chan error, 1)}
}

// Add appends a part; all are added before Start.
func (g *Group) Add(p Part) { g.parts = append(g.parts, p) }

// Fail reports that a part broke while running. The first report ends Wait; later ones are only logged.
func (g *Group) Fail(name string, err error) {
	select {
	case g.failed <- fmt.Errorf("%s: %w", name, err):
	default:
		g.log.LogAttrs(context.Background(), slog.LevelError, "part failed while stopping", slog.String("part", name), slog.String("error", err.Error()))
	}
}

// Start starts the parts in order. When one fails, those before it are stopped and its error is returned.
func (g *Group) Start(ctx context.Context) error {
	for _, p := range g.parts {
		begin := time.Now()
		if err := g.start(ctx, p); err != nil {
			return errors.Join(fmt.Errorf("start %s: %w", p.Name, err), g.Stop(context.WithoutCancel(ctx)))
		}
		g.mu.Lock()
		g.started++
		g.took = append(g.took, Took{p.Name, time.Since(begin)})
		g.mu.Unlock()
	}
	return nil
}

func (g *Group) start(ctx context.Context, p Part) error {
	if p.Start == nil {
		return ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, g.startTimeout)
	defer cancel()
	return p.Start(ctx)
}

// Wait returns nil when ctx ends, or the first failure of a running part.
func (g *Group) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-g.failed:
		return err
	}
}

// Stop stops what was started, in reverse order. A part that misses its deadline is left behind and named in the error.
func (g *Group) Stop(ctx context.Context) error {
	g.mu.Lock()
	n := g.started
	g.started = 0
	g.mu.Unlock()
	var errs []error
	for i := n - 1; i >= 0; i-- {
		if err := g.stop(ctx, g.parts[i]); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", g.parts[i].Name, err))
		}
	}
	return errors.Join(errs...)
}

func (g *Group) stop(ctx context.Context, p Part) error {
	if p.Stop == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, g.stopTimeout)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- p.Stop(ctx) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Took says what the start cost, part by part.
func (g *Group) Took() []Took {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]Took(nil), g.took...)
}
