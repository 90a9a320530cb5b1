package queue

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Batcher does work in batches that it makes of whatever waits when a worker is free, of several calls and tenants: it
// never waits for a batch to fill. Safe for concurrent use.
type Batcher[I, O any] struct {
	o     Options
	batch int
	cost  func(I) int
	run   func(ctx context.Context, in []I) ([]O, error)
	hands sync.WaitGroup

	mu      sync.Mutex
	line    *line
	running int
	jobs    map[*call]*job[I, O]
}

// job is a call with its input and output.
type job[I, O any] struct {
	*call
	in     []I
	out    []O
	todo   int // parts without an output
	err    error
	done   chan struct{}
	cancel map[*hand]bool // the batches that it has parts in
}

// hand is a batch at work; it goes on while somebody waits for a part of it.
type hand struct {
	wanted int // jobs
	stop   context.CancelFunc
}

// NewBatcher makes an idle batcher. run gives one output for each input, in order, and keeps nothing of the slice; it is called on at
// most o.AtOnce goroutines, with inputs whose costs add up to no more than batch, or with a single one.
func NewBatcher[I, O any](o Options, batch int, cost func(I) int, run func(context.Context, []I) ([]O, error)) *Batcher[I, O] {
	return &Batcher[I, O]{o: o, batch: batch, cost: cost, run: run, line: newLine(), jobs: map[*call]*job[I, O]{}}
}

// Do returns one output for each input, in order. The error is fault.Exhausted with RetryAfter when the call is
// refused, the context's when that ends, else run's. A batch of several calls that fails is done again call by call,
// so that nobody fails by another's input.
func (b *Batcher[I, O]) Do(ctx context.Context, tenant string, in []I) ([]O, error) {
	if err := ctx.Err(); err != nil || len(in) == 0 {
		return nil, err
	}
	costs := make([]int, len(in))
	for i := range in {
		costs[i] = b.cost(in[i])
	}
	j := &job[I, O]{call: newCall(tenant, costs...), in: in, out: make([]O, len(in)), todo: len(in), done: make(chan struct{}), cancel: map[*hand]bool{}}
	evicted := false
	j.evict = func() {
		evicted = true
		b.finish(j, nil)
	}
	if err := b.enter(ctx, j); err != nil {
		return nil, err
	}
	patience := time.NewTimer(b.o.Wait)
	defer patience.Stop()
	select {
	case <-j.begun:
	case <-j.done:
	case <-ctx.Done():
	case <-patience.C:
		if after, gone := b.giveUp(j); gone {
			return nil, b.o.refuse(ctx, ReasonSlow, after)
		}
	}
	select {
	case <-j.done:
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case evicted:
		return nil, b.o.refuse(ctx, ReasonFull, b.line.estimate(tenant, 1, b.o.AtOnce))
	case j.err != nil:
		return nil, j.err
	case j.todo == 0:
		return j.out, nil
	default:
		b.leave(j)
		return nil, ctx.Err()
	}
}

// giveUp takes a job out that was not begun.
func (b *Batcher[I, O]) giveUp(j *job[I, O]) (after time.Duration, gone bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, there := b.jobs[j.call]; !there || j.next > 0 {
		return 0, false
	}
	b.leave(j)
	return b.line.estimate(j.tenant, 1, b.o.AtOnce), true
}

// Waiting is how many calls wait, or have parts that do.
func (b *Batcher[I, O]) Waiting() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.line.calls
}

// Present is how many calls wait or are at work.
func (b *Batcher[I, O]) Present() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.jobs)
}

// Close waits for what is at work. Calls that come later are done, too.
func (b *Batcher[I, O]) Close() { b.hands.Wait() }

func (b *Batcher[I, O]) enter(ctx context.Context, j *job[I, O]) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	idle := b.running < b.o.AtOnce
	add := b.line.wait
	if idle {
		add = b.line.admit
	}
	if err := add(ctx, &b.o, j.call); err != nil {
		return err
	}
	b.jobs[j.call] = j
	if idle {
		b.running++
		first := b.take()
		b.hands.Go(func() { b.work(first) })
	}
	return nil
}

// leave forgets a job whose caller is gone. The lock is held.
func (b *Batcher[I, O]) leave(j *job[I, O]) {
	b.line.remove(j.call)
	delete(b.jobs, j.call)
	for h := range j.cancel {
		if h.wanted--; h.wanted == 0 {
			h.stop()
		}
	}
	clear(j.cancel)
}

// finish ends a job. The lock is held.
func (b *Batcher[I, O]) finish(j *job[I, O], err error) {
	if _, there := b.jobs[j.call]; !there {
		return
	}
	j.err = err
	b.leave(j)
	close(j.done)
}

// part is one input of a job.
type part[I, O any] struct {
	j  *job[I, O]
	at int
}

// batch is what a worker does at once.
type batch[I, O any] struct {
	*hand
	ctx   context.Context //nolint:containedctx // of the batch, which has no caller
	parts []part[I, O]
	cost  int
}

func (b *Batcher[I, O]) work(w batch[I, O]) {
	for ; len(w.parts) > 0; w = b.next() {
		began := time.Now()
		out, err := b.compute(w.ctx, w.parts)
		took := time.Since(began)
		if err != nil && w.ctx.Err() == nil && several(w.parts) {
			b.apart(w)
		} else {
			b.settle(w.hand, w.parts, out, err)
		}
		if err == nil {
			b.mu.Lock()
			b.line.learn(w.cost, took)
			b.mu.Unlock()
		}
		w.stop()
	}
}

func (b *Batcher[I, O]) next() batch[I, O] {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.take()
}

// take makes a batch; without one the worker has ended. The lock is held.
func (b *Batcher[I, O]) take() batch[I, O] {
	if b.line.calls == 0 {
		b.running--
		return batch[I, O]{}
	}
	ctx, stop := context.WithCancel(context.Background())
	w := batch[I, O]{hand: &hand{stop: stop}, ctx: ctx}
	for b.line.calls > 0 {
		first := b.line.order[0].calls[0]
		if cost := first.costs[first.next]; w.cost > 0 && w.cost+cost > b.batch {
			break
		}
		c, at := b.line.pop()
		w.cost += c.costs[at]
		j := b.jobs[c]
		if !j.cancel[w.hand] {
			j.cancel[w.hand] = true
			w.wanted++
		}
		w.parts = append(w.parts, part[I, O]{j, at})
	}
	return w
}

func several[I, O any](parts []part[I, O]) bool {
	return slices.ContainsFunc(parts, func(p part[I, O]) bool { return p.j != parts[0].j })
}

func (b *Batcher[I, O]) compute(ctx context.Context, parts []part[I, O]) (out []O, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	in := make([]I, len(parts))
	for i, p := range parts {
		in[i] = p.j.in[p.at]
	}
	out, err = b.run(ctx, in)
	if err == nil && len(out) != len(in) {
		err = fmt.Errorf("%d outputs for %d inputs", len(out), len(in))
	}
	return out, err
}

// apart does a batch again, a job at a time.
func (b *Batcher[I, O]) apart(w batch[I, O]) {
	of := map[*job[I, O]][]part[I, O]{}
	var jobs []*job[I, O]
	for _, p := range w.parts {
		if of[p.j] == nil {
			jobs = append(jobs, p.j)
		}
		of[p.j] = append(of[p.j], p)
	}
	for _, j := range jobs {
		out, err := b.compute(w.ctx, of[j])
		b.settle(w.hand, of[j], out, err)
	}
}

// settle hands the outputs of a batch to its jobs.
func (b *Batcher[I, O]) settle(h *hand, parts []part[I, O], out []O, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, p := range parts {
		if _, there := b.jobs[p.j.call]; !there {
			continue
		}
		if err != nil {
			b.finish(p.j, err)
			continue
		}
		p.j.out[p.at] = out[i]
		if p.j.todo--; p.j.todo == 0 {
			b.finish(p.j, nil)
		}
	}
	for _, p := range parts {
		if p.j.cancel[h] { // it has parts elsewhere
			delete(p.j.cancel, h)
			h.wanted--
		}
	}
}
