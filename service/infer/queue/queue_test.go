package queue

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"aran/platform/fault"
)

// cost of a text is its length.
func cost(s string) int { return len(s) }

// slow is an engine that takes a millisecond for each character.
type slow struct {
	mu      sync.Mutex
	batches [][]string
}

func (e *slow) run(ctx context.Context, in []string) ([]string, error) {
	e.mu.Lock()
	e.batches = append(e.batches, slices.Clone(in))
	e.mu.Unlock()
	n := 0
	for _, s := range in {
		n += len(s)
	}
	select {
	case <-time.After(time.Duration(n) * time.Millisecond):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	out := make([]string, len(in))
	for i, s := range in {
		out[i] = strings.ToUpper(s)
	}
	return out, nil
}

func options() Options {
	return Options{What: "texts are read", AtOnce: 1, Calls: 100, Wait: time.Hour}
}

func TestOutputsAreInTheOrderOfInputs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &slow{}
		o := options()
		o.AtOnce = 3
		b := NewBatcher(o, 10, cost, e.run)
		var calls sync.WaitGroup
		for i := range 40 {
			calls.Go(func() {
				in := make([]string, rand.IntN(20)+1)
				for k := range in {
					in[k] = fmt.Sprintf("t%d.%d", i, k)
				}
				out, err := b.Do(t.Context(), fmt.Sprint("tenant", i%5), in)
				if err != nil || len(out) != len(in) {
					t.Errorf("%v, %v", out, err)
					return
				}
				for k := range in {
					if out[k] != strings.ToUpper(in[k]) {
						t.Errorf("%q for %q", out[k], in[k])
					}
				}
			})
		}
		calls.Wait()
		b.Close()
		shared := 0
		for _, batch := range e.batches {
			n := 0
			for _, s := range batch {
				n += len(s)
			}
			if n > 10 && len(batch) > 1 {
				t.Errorf("a batch of %d", n)
			}
			if len(batch) > 1 {
				shared++
			}
		}
		if shared == 0 {
			t.Error("nothing was done together")
		}
		if b.Present() != 0 || b.Waiting() != 0 {
			t.Errorf("%d present, %d waiting", b.Present(), b.Waiting())
		}
	})
}

// A tenant with a hundred documents and one that asks a question now and then: the question waits for a batch at most.
func TestShortQuestionDoesNotWaitForDocuments(t *testing.T) {
	for _, tenant := range []string{"other", "same"} {
		synctest.Test(t, func(t *testing.T) {
			b := NewBatcher(options(), 100, cost, (&slow{}).run)
			docs := make([]string, 100)
			for i := range docs {
				docs[i] = strings.Repeat("d", 100)
			}
			var bulk sync.WaitGroup
			bulk.Go(func() {
				if _, err := b.Do(t.Context(), "same", docs); err != nil {
					t.Error(err)
				}
			})
			<-time.After(150 * time.Millisecond)
			began := time.Now()
			soon, cancel := context.WithTimeout(t.Context(), time.Second) // far less than all that waits takes
			defer cancel()
			if _, err := b.Do(soon, tenant, []string{"why"}); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took > 200*time.Millisecond {
				t.Errorf("%s tenant waited for %s", tenant, took)
			}
			bulk.Wait()
		})
	}
}

// Tenants get the same share of the work, however many calls they make.
func TestTenantsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options()
		o.Calls = 1000
		b := NewBatcher(o, 1, cost, (&slow{}).run)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		var done [2]atomic.Int64
		var all sync.WaitGroup
		for tenant, callers := range []int{1, 50} {
			for range callers {
				all.Go(func() {
					for ctx.Err() == nil {
						if _, err := b.Do(ctx, fmt.Sprint(tenant), []string{"abcd"}); err != nil {
							return
						}
						done[tenant].Add(1)
					}
				})
			}
		}
		all.Wait()
		few, many := done[0].Load(), done[1].Load()
		if few < many*8/10 {
			t.Errorf("one caller of a tenant had %d turns, fifty of another %d", few, many)
		}
	})
}

func TestRefusedAtOnceWhenItCannotBeDoneInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reasons []string
		o := options()
		o.Refused = func(_ context.Context, r string) { reasons = append(reasons, r) }
		b := NewBatcher(o, 100, cost, (&slow{}).run)
		if _, err := b.Do(t.Context(), "a", []string{strings.Repeat("x", 100)}); err != nil { // now it knows its speed
			t.Fatal(err)
		}
		var bulk sync.WaitGroup
		bulk.Go(func() { _, _ = b.Do(t.Context(), "a", slices.Repeat([]string{strings.Repeat("x", 100)}, 100)) })
		synctest.Wait()
		short, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		began := time.Now()
		_, err := b.Do(short, "a", slices.Repeat([]string{strings.Repeat("y", 100)}, 60))
		if fault.KindOf(err) != fault.Exhausted || time.Since(began) != 0 || !slices.Equal(reasons, []string{ReasonLate}) {
			t.Errorf("%v after %s, %v", err, time.Since(began), reasons)
		}
		if f, _ := errors.AsType[*fault.Error](err); f == nil || f.RetryAfter < 5*time.Second {
			t.Errorf("it says to try again too early: %+v", f)
		}
		if _, err := b.Do(short, "b", []string{"in time"}); err != nil {
			t.Error(err)
		}
		bulk.Wait()
	})
}

func TestFullMakesRoomForWhoHasLess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options()
		o.Calls = 4
		b := NewBatcher(o, 1, cost, (&slow{}).run)
		var all sync.WaitGroup
		var refused atomic.Int64
		for range 8 {
			all.Go(func() {
				if _, err := b.Do(t.Context(), "greedy", []string{"xxxxxxxxxx"}); fault.KindOf(err) == fault.Exhausted {
					refused.Add(1)
				} else if err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if refused.Load() != 3 { // one at work, four wait
			t.Errorf("%d refused", refused.Load())
		}
		if _, err := b.Do(t.Context(), "modest", []string{"x"}); err != nil {
			t.Errorf("the modest tenant: %v", err)
		}
		all.Wait()
		if refused.Load() != 4 {
			t.Errorf("%d refused", refused.Load())
		}
	})
}

func TestNobodyIsRefusedWhenSomebodyIsIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options()
		o.Calls, o.AtOnce = 0, 4
		b := NewBatcher(o, 1, cost, (&slow{}).run)
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				if _, err := b.Do(t.Context(), "a", []string{"x"}); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if _, err := b.Do(t.Context(), "b", []string{"x"}); fault.KindOf(err) != fault.Exhausted {
			t.Error(err)
		}
		all.Wait()
	})
}

func TestWaitsNoLongerThanItsPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options()
		o.Wait = 30 * time.Millisecond
		b := NewBatcher(o, 100, cost, (&slow{}).run)
		var first sync.WaitGroup
		first.Go(func() {
			if _, err := b.Do(t.Context(), "a", []string{strings.Repeat("x", 80)}); err != nil { // begun at once: takes what it takes
				t.Error(err)
			}
		})
		synctest.Wait()
		began := time.Now()
		_, err := b.Do(t.Context(), "b", []string{"y"})
		if fault.KindOf(err) != fault.Exhausted || time.Since(began) != 30*time.Millisecond {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		first.Wait()
	})
}

func TestNobodyFailsByAnothersInput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &slow{}
		b := NewBatcher(options(), 100, cost, func(ctx context.Context, in []string) ([]string, error) {
			out, err := e.run(ctx, in)
			if slices.Contains(in, "poison") {
				return nil, errors.New("poisoned")
			}
			if slices.Contains(in, "panic") {
				panic("at the engine")
			}
			return out, err
		})
		var all sync.WaitGroup
		all.Go(func() { _, _ = b.Do(t.Context(), "x", []string{strings.Repeat("x", 10)}) })
		synctest.Wait() // those that follow wait together
		for _, text := range []string{"good", "poison", "fine", "panic"} {
			all.Go(func() {
				out, err := b.Do(t.Context(), text, []string{text})
				if bad := text == "poison" || text == "panic"; bad != (err != nil) {
					t.Errorf("%s: %v, %v", text, out, err)
				}
			})
		}
		all.Wait()
	})
}

func TestBatchEndsWhenNobodyWantsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan error, 1)
		b := NewBatcher(options(), 100, cost, func(ctx context.Context, in []string) ([]string, error) {
			<-ctx.Done()
			ended <- ctx.Err()
			return nil, ctx.Err()
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := b.Do(ctx, "a", []string{"x"}); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		b.Close()
	})
}

func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(Options{What: "questions are asked", AtOnce: 2, Calls: 3, Wait: time.Second})
		a, err := g.Enter(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		b, _ := g.Enter(t.Context(), "a")
		var order []string
		var mu sync.Mutex
		var all sync.WaitGroup
		for _, tenant := range []string{"a", "a", "b"} {
			all.Go(func() {
				leave, err := g.Enter(t.Context(), tenant)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				order = append(order, tenant)
				mu.Unlock()
				<-time.After(10 * time.Millisecond)
				leave()
			})
			synctest.Wait()
		}
		if _, err := g.Enter(t.Context(), "b"); fault.KindOf(err) != fault.Exhausted {
			t.Errorf("a fourth waits: %v", err)
		}
		if g.Present() != 5 {
			t.Errorf("%d present", g.Present())
		}
		a()
		a()
		b()
		all.Wait()
		if len(order) != 3 || order[2] == "b" {
			t.Errorf("turns: %v", order)
		}
		if g.Present() != 0 {
			t.Errorf("%d present", g.Present())
		}
		// Patience, and a caller who leaves.
		a, _ = g.Enter(t.Context(), "a")
		b, _ = g.Enter(t.Context(), "a")
		if _, err := g.Enter(t.Context(), "c"); fault.KindOf(err) != fault.Exhausted {
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		g.line.rate = 0
		if _, err := g.Enter(ctx, "c"); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		a()
		b()
		if g.Present() != 0 {
			t.Errorf("%d present", g.Present())
		}
	})
}

// Whatever is pushed, taken and removed: sums are right, and every part comes once.
func TestLineAddsUp(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	l := newLine()
	var there []*call
	pushed, popped, removed := 0, 0, 0
	for range 20_000 {
		switch n := r.IntN(10); {
		case n < 4:
			costs := make([]int, r.IntN(5)+1)
			for i := range costs {
				costs[i] = r.IntN(9) + 1
				pushed += costs[i]
			}
			c := newCall(fmt.Sprint(r.IntN(6)), costs...)
			l.push(c)
			there = append(there, c)
		case n < 9 && l.calls > 0:
			c, part := l.pop()
			popped += c.costs[part]
		case len(there) > 0:
			c := there[r.IntN(len(there))]
			if c.place >= 0 {
				removed += c.left
			}
			l.remove(c)
		}
		if l.left != pushed-popped-removed || len(l.shares) != len(l.order) {
			t.Fatalf("%d left of %d - %d - %d", l.left, pushed, popped, removed)
		}
	}
	for l.calls > 0 {
		l.pop()
	}
	if l.left != 0 || len(l.shares) != 0 || len(l.order) != 0 {
		t.Errorf("%d left", l.left)
	}
}
