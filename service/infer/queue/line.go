// Package queue decides whose work a model does next.
//
// Tenants take turns by the cost of their work, and so do the calls of one tenant: a short question does not wait for
// somebody's whole batch of documents. What waits is bounded, and a call that cannot be done before its deadline is
// refused at once, when its caller can still do something else. A call that was refused has not begun.
package queue

import (
	"container/heap"
	"context"
	"time"

	"aran/platform/fault"
)

// Options of a Batcher or a Gate.
type Options struct {
	What   string        // in plural with a verb, for messages: "texts are embedded"
	AtOnce int           // batches, or callers, at work at the same time
	Calls  int           // that may wait; more are refused
	Wait   time.Duration // how long a call waits to be begun, at most
	// Refused is told why a call is refused: ReasonFull, ReasonLate or ReasonSlow.
	Refused func(ctx context.Context, reason string)
}

// Why a call is refused.
const (
	ReasonFull = "full" // too many wait
	ReasonLate = "late" // its deadline would be over before it is done
	ReasonSlow = "slow" // it waited for Options.Wait and was not begun
)

func (o *Options) refuse(ctx context.Context, reason string, after time.Duration) error {
	if o.Refused != nil {
		o.Refused(ctx, reason)
	}
	after = max(time.Second, (after + time.Second - 1).Truncate(time.Second))
	if reason == ReasonLate {
		return fault.New(fault.Exhausted, "deadline_too_near", "Too many %s at once to be done in time; try again.", o.What).After(after)
	}
	return fault.New(fault.Exhausted, "queue_full", "Too many %s at once; try again.", o.What).After(after)
}

// call is some work of a tenant: parts with a cost each, taken one after the other.
type call struct {
	tenant string
	costs  []int
	next   int           // part that was not taken yet
	left   int           // cost of what was not taken yet
	begun  chan struct{} // closed when the first part is taken
	evict  func()        // called when it has to make room; the lock of the line is held

	start // of its next part, in the heap of its share
}

func newCall(tenant string, costs ...int) *call {
	c := &call{tenant: tenant, costs: costs, begun: make(chan struct{}), start: start{place: -1}}
	for i := range costs {
		costs[i] = max(1, costs[i])
		c.left += costs[i]
	}
	return c
}

// share is what a tenant has waiting.
type share struct {
	calls byStart[*call]
	clock int64 // virtual time within the tenant
	left  int   // cost of all
	start       // in the order of the line
}

// line is what waits, in the order of start-time fair queueing (Goyal, Vin & Cheng 1997) on two levels: tenants, and the
// calls of each. It is not safe for concurrent use.
type line struct {
	shares map[string]*share
	order  byStart[*share]
	clock  int64
	calls  int
	left   int // cost of all

	rate float64 // seconds for a cost of 1, on one worker; 0: not known yet
}

func newLine() *line { return &line{shares: map[string]*share{}} }

// push adds a call.
func (l *line) push(c *call) {
	s := l.shares[c.tenant]
	if s == nil {
		s = &share{start: start{at: l.clock}}
		l.shares[c.tenant] = s
		heap.Push(&l.order, s)
	}
	c.at = s.clock
	heap.Push(&s.calls, c)
	s.left += c.left
	l.left += c.left
	l.calls++
}

// pop takes the next part: its call, and which part it is. There must be one.
func (l *line) pop() (c *call, part int) {
	s := l.order[0]
	c, part = s.calls[0], s.calls[0].next
	cost := c.costs[part]
	l.clock, s.clock = s.at, c.at
	s.at += int64(cost)
	c.at += int64(cost)
	c.next++
	c.left -= cost
	s.left -= cost
	l.left -= cost
	if part == 0 {
		close(c.begun)
	}
	if c.next == len(c.costs) {
		l.drop(s, c)
	} else {
		heap.Fix(&s.calls, 0)
	}
	if len(s.calls) > 0 {
		heap.Fix(&l.order, s.place)
	}
	return c, part
}

// remove takes out what is left of a call. A call that is not in the line is left alone.
func (l *line) remove(c *call) {
	if c.place < 0 {
		return
	}
	s := l.shares[c.tenant]
	s.left -= c.left
	l.left -= c.left
	l.drop(s, c)
}

func (l *line) drop(s *share, c *call) {
	heap.Remove(&s.calls, c.place)
	l.calls--
	if len(s.calls) == 0 {
		heap.Remove(&l.order, s.place)
		delete(l.shares, c.tenant)
	}
}

// room makes place for a call of a tenant when the line holds limit calls: the last call, not yet begun, of the tenant
// with the most calls goes, when that one has at least two more. It reports whether there is place.
func (l *line) room(tenant string, limit int) bool {
	if l.calls < limit {
		return true
	}
	mine := 0
	if s := l.shares[tenant]; s != nil {
		mine = len(s.calls)
	}
	var most *share
	for _, s := range l.order {
		if most == nil || len(s.calls) > len(most.calls) {
			most = s
		}
	}
	if most == nil || len(most.calls) < mine+2 {
		return false
	}
	var last *call
	for _, c := range most.calls {
		if c.next == 0 && (last == nil || c.at >= last.at) {
			last = c
		}
	}
	if last == nil {
		return false
	}
	l.remove(last)
	last.evict()
	return true
}

// estimate is when work of a cost for a tenant would be done, with what waits now and fair turns: while it is done, each
// other call of the tenant gets as much as it does, and each other tenant as much as the tenant.
func (l *line) estimate(tenant string, cost, workers int) time.Duration {
	ahead, tenants := cost, len(l.shares)
	if s := l.shares[tenant]; s != nil {
		ahead += min(s.left, len(s.calls)*cost)
	} else {
		tenants++
	}
	ahead = min(l.left+cost, tenants*ahead)
	return time.Duration(float64(ahead) * l.rate / float64(workers) * float64(time.Second))
}

// learn takes in how long work of a cost took on one worker.
func (l *line) learn(cost int, took time.Duration) {
	r := took.Seconds() / float64(max(1, cost))
	if l.rate == 0 {
		l.rate = r
		return
	}
	l.rate += (r - l.rate) / 8
}

// wait adds a call that has to wait, or says why it can't.
func (l *line) wait(ctx context.Context, o *Options, c *call) error {
	if l.calls >= o.Calls && !l.room(c.tenant, o.Calls) {
		return o.refuse(ctx, ReasonFull, l.estimate(c.tenant, c.left, o.AtOnce))
	}
	return l.admit(ctx, o, c)
}

// admit adds a call that can be done in time.
func (l *line) admit(ctx context.Context, o *Options, c *call) error {
	need := l.estimate(c.tenant, c.left, o.AtOnce)
	if deadline, ok := ctx.Deadline(); ok && need > time.Until(deadline) {
		return o.refuse(ctx, ReasonLate, need)
	}
	l.push(c)
	return nil
}

// start says from when on something in a heap may begin, in virtual time, and where it stands there.
type start struct {
	at    int64
	place int // -1: in none
}

func (s *start) order() *start { return s }

// byStart is a heap (container/heap) of calls or of shares, the first to begin on top.
type byStart[T interface{ order() *start }] []T

func (h *byStart[T]) Len() int           { return len(*h) }
func (h *byStart[T]) Less(i, j int) bool { return (*h)[i].order().at < (*h)[j].order().at }
func (h *byStart[T]) Swap(i, j int) {
	(*h)[i], (*h)[j] = (*h)[j], (*h)[i]
	(*h)[i].order().place, (*h)[j].order().place = i, j
}

// Push implements heap.Interface.
func (h *byStart[T]) Push(x any) {
	t := x.(T) //nolint:forcetypeassert // ours alone
	t.order().place = len(*h)
	*h = append(*h, t)
}

// Pop implements heap.Interface.
func (h *byStart[T]) Pop() any {
	last := len(*h) - 1
	t := (*h)[last]
	clear((*h)[last:])
	*h = (*h)[:last]
	t.order().place = -1
	return t
}
