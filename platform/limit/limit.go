// Package limit holds rate limits by the generic cell rate algorithm (GCRA, ITU-T I.371).
//
// It counts and decides; what is counted, under which key, and what a refused caller is told belong to the
// caller. A limiter that cannot keep one more key forgets the one whose bucket is nearest to full: it never
// refuses somebody because strangers fill its memory, and it never forgets a debt while a smaller one is there.
package limit

import (
	"container/heap"
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"aran/platform/fault"
)

// Rate is how much is allowed: Burst at once, Count per Period on average.
type Rate struct {
	Count  int
	Period time.Duration
	Burst  int
}

// interval is what one unit costs in time, and the whole bucket's worth of it.
func (r Rate) interval() (unit, bucket time.Duration, err error) {
	if r.Count <= 0 || r.Period <= 0 || r.Burst <= 0 {
		return 0, 0, fmt.Errorf("rate limit %+v: count, period and burst must be positive", r)
	}
	unit = max(r.Period/time.Duration(r.Count), 1)
	if int64(r.Burst) > math.MaxInt64/4/int64(unit) {
		return 0, 0, fmt.Errorf("rate limit %+v: the burst would take more than 70 years to come back", r)
	}
	return unit, unit * time.Duration(r.Burst), nil
}

// Result of asking.
type Result struct {
	Allowed    bool
	Limit      int
	Remaining  int
	RetryAfter time.Duration // when not allowed
	Reset      time.Duration // until the whole burst is there again
}

// Limiter decides. limittest.Run says what all of them hold to.
type Limiter interface {
	// Allow takes n from the key's bucket when they are there. n of 0 only looks. More than the burst can never
	// be allowed: that is a fault.TooLarge. A rate that makes no sense is an error.
	Allow(ctx context.Context, key string, r Rate, n int) (Result, error)
}

// price of one unit and of a full bucket, in time; or why n of them this can't be asked for.
func (r Rate) price(n int) (unit, whole time.Duration, err error) {
	if unit, whole, err = r.interval(); err != nil {
		return 0, 0, err
	}
	if n < 0 {
		return 0, 0, fmt.Errorf("rate limit: %d units asked for", n)
	}
	if n > r.Burst {
		return 0, 0, fault.New(fault.TooLarge, "over_burst", "This asks for %d units at once; the limit is %d.", n, r.Burst)
	}
	return unit, whole, nil
}

// NewMemory keeps at most max keys; the oldest full ones are dropped first (a full bucket carries no information).
func NewMemory(max int) *Memory {
	if max < 1 {
		max = 1
	}
	return &Memory{max: max, epoch: time.Now(), byKey: map[string]*bucket{}}
}

// Memory is a Limiter in this process. Safe for concurrent use.
type Memory struct {
	max   int
	epoch time.Time

	mu     sync.Mutex
	byKey  map[string]*bucket
	byFull buckets // a heap: the first is full earliest
}

type bucket struct {
	key  string
	full time.Duration // since epoch: when the whole burst is there again (GCRA's theoretical arrival time)
	at   int           // place in the heap
}

// Allow is Limiter's; it never waits.
func (m *Memory) Allow(_ context.Context, key string, r Rate, n int) (Result, error) {
	unit, whole, err := r.price(n)
	if err != nil {
		return Result{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Since(m.epoch)
	b := m.byKey[key]
	full := now
	if b != nil && b.full > now {
		full = b.full
	}
	next := full + unit*time.Duration(n)
	if over := next - now - whole; over > 0 {
		return Result{Limit: r.Burst, Remaining: remaining(full-now, unit, whole), RetryAfter: over, Reset: full - now}, nil
	}
	if n > 0 {
		m.put(b, key, next, now)
	}
	return Result{Allowed: true, Limit: r.Burst, Remaining: remaining(next-now, unit, whole), Reset: next - now}, nil
}

func remaining(debt, unit, whole time.Duration) int { return max(0, int((whole-debt)/unit)) }

func (m *Memory) put(b *bucket, key string, full, now time.Duration) {
	if b != nil {
		b.full = full
		heap.Fix(&m.byFull, b.at)
		return
	}
	for drops := 0; len(m.byFull) > 0 && (len(m.byFull) >= m.max || (drops < 2 && m.byFull[0].full <= now)); drops++ {
		old := heap.Pop(&m.byFull).(*bucket)
		delete(m.byKey, old.key)
	}
	b = &bucket{key: key, full: full}
	m.byKey[key] = b
	heap.Push(&m.byFull, b)
}

// Len counts the keys that are kept.
func (m *Memory) Len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.byKey)
}

// buckets is a heap.Interface in order of full.
type buckets []*bucket

// Len is the number of buckets.
func (h *buckets) Len() int { return len(*h) }

// Less puts first what is full first.
func (h *buckets) Less(i, j int) bool { return (*h)[i].full < (*h)[j].full }

// Swap exchanges two.
func (h *buckets) Swap(i, j int) {
	b := *h
	b[i], b[j] = b[j], b[i]
	b[i].at, b[j].at = i, j
}

// Push appends x.
func (h *buckets) Push(x any) {
	b := x.(*bucket)
	b.at = len(*h)
	*h = append(*h, b)
}

// Pop takes the last.
func (h *buckets) Pop() any {
	old := *h
	b := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return b
}
