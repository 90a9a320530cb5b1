package queue

import (
	"context"
	"sync"
	"time"
)

// Gate lets some callers work at once, and the others wait for their turn. Safe for concurrent use.
type Gate struct {
	o Options

	mu   sync.Mutex
	line *line
	busy int
}

// NewGate makes a gate that nobody is behind.
func NewGate(o Options) *Gate { return &Gate{o: o, line: newLine()} }

// Enter waits for a place, which leave gives back. The error is fault.Exhausted with RetryAfter when it is refused,
// else the context's.
func (g *Gate) Enter(ctx context.Context, tenant string) (leave func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c := newCall(tenant, 1)
	evicted := make(chan struct{})
	c.evict = func() { close(evicted) }
	g.mu.Lock()
	if g.busy < g.o.AtOnce && g.line.calls == 0 {
		g.busy++
		g.mu.Unlock()
		return g.leaver(), nil
	}
	err = g.line.wait(ctx, &g.o, c)
	g.mu.Unlock()
	if err != nil {
		return nil, err
	}
	patience := time.NewTimer(g.o.Wait)
	defer patience.Stop()
	reason := ReasonSlow
	select {
	case <-c.begun:
		return g.leaver(), nil
	case <-evicted:
		reason = ReasonFull
	case <-patience.C:
	case <-ctx.Done():
		reason = ""
	}
	g.mu.Lock()
	began := c.next > 0
	g.line.remove(c)
	after := g.line.estimate(tenant, 1, g.o.AtOnce)
	g.mu.Unlock()
	if began { // at the last moment
		leave := g.leaver()
		if reason == "" {
			leave()
			return nil, ctx.Err()
		}
		return leave, nil
	}
	if reason == "" {
		return nil, ctx.Err()
	}
	return nil, g.o.refuse(ctx, reason, after)
}

// Present is how many callers are inside or wait.
func (g *Gate) Present() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.busy + g.line.calls
}

func (g *Gate) leaver() func() {
	began := time.Now()
	return sync.OnceFunc(func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.line.learn(1, time.Since(began))
		if g.line.calls > 0 {
			g.line.pop() // its caller has our place now
			return
		}
		g.busy--
	})
}
