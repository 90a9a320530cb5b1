package infer

import (
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"aran/platform/fault"
)

// gate lets some callers work at once and some wait, in order, for a while. More are refused at once.
type gate struct {
	what    string
	places  *semaphore.Weighted
	limit   int64 // inside and waiting
	wait    time.Duration
	present atomic.Int64
	refused func(ctx context.Context)
}

func newGate(what string, atOnce, queue int, wait time.Duration) *gate {
	return &gate{what: what, places: semaphore.NewWeighted(int64(atOnce)), limit: int64(atOnce + queue), wait: wait, refused: func(context.Context) {}}
}

// place is a caller's place inside a gate.
type place struct {
	g    *gate
	held bool
}

// enter waits for a place. The error is fault.Exhausted with RetryAfter when too many wait or it took too long,
// else the context's.
func (g *gate) enter(ctx context.Context) (*place, error) {
	if g.present.Add(1) > g.limit {
		g.present.Add(-1)
		g.refused(ctx)
		return nil, g.full()
	}
	limited, cancel := context.WithTimeout(ctx, g.wait)
	defer cancel()
	if err := g.places.Acquire(limited, 1); err != nil {
		g.present.Add(-1)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		g.refused(ctx)
		return nil, g.full()
	}
	return &place{g: g, held: true}, nil
}

// turn gives the place to whoever waits longest, and waits to get one again.
func (p *place) turn(ctx context.Context) error {
	p.g.places.Release(1)
	err := p.g.places.Acquire(ctx, 1)
	p.held = err == nil
	return err
}

func (p *place) leave() {
	if p.held {
		p.g.places.Release(1)
	}
	p.g.present.Add(-1)
}

func (g *gate) full() error {
	return fault.New(fault.Exhausted, "queue_full", "Too many %s at once; try again.", g.what).After(time.Second)
}
