// Package limittest is what every limiter must pass.
//
// A limiter passes when it cannot be told from a leaky bucket that is computed beside it, and when what it says
// about itself (Remaining, RetryAfter, Reset) comes true.
package limittest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"aran/platform/fault"
	"aran/platform/limit"
)

// Setup says how to test a limiter.
type Setup struct {
	Open  func(t *testing.T) limit.Limiter           // a limiter that has counted nothing
	In    func(t *testing.T, run func(t *testing.T)) // runs a case: synctest.Test, or plainly where time is real
	Slack time.Duration                              // what the limiter's clock may differ from time.Now by
}

// Run tests a limiter.
func Run(t *testing.T, s Setup) {
	t.Helper()
	for _, c := range []struct {
		name string
		run  func(t *testing.T, l limit.Limiter, slack time.Duration)
	}{
		{"it decides as a leaky bucket does", equalsReference},
		{"rates that do not divide evenly are exact", odd},
		{"what is refused is allowed when RetryAfter is over", comesTrue},
		{"looking and being refused cost nothing", costsNothing},
		{"keys do not disturb each other", keys},
		{"of many at once as many are allowed as there are", concurrent},
		{"another rate on the same key keeps its debt", changes},
		{"what can't be asked for is refused", refuses},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.In(t, func(t *testing.T) { c.run(t, s.Open(t), s.Slack) })
		})
	}
}

func wait(d time.Duration) { time.Sleep(d) } //nolint:forbidigo // synctest's clock, or a server's that nothing else can move

func ask(t *testing.T, l limit.Limiter, key string, r limit.Rate, n int) limit.Result {
	t.Helper()
	res, err := l.Allow(t.Context(), key, r, n)
	if err != nil {
		t.Fatalf("Allow(%q, %+v, %d): %v", key, r, n, err)
	}
	return res
}

// reference knows when a bucket is full again only as well as it knows when it was asked: between low and high.
type reference struct {
	rate      limit.Rate
	unit      time.Duration
	low, high time.Time
}

// check compares an answer that was given between a and b, and takes it over.
func (ref *reference) check(n int, got limit.Result, a, b time.Time) error {
	owedLow, owedHigh := max(ref.low.Sub(b), 0), max(ref.high.Sub(a), 0)
	cost, whole := ref.unit*time.Duration(n), ref.unit*time.Duration(ref.rate.Burst)
	overLow, overHigh := owedLow+cost-whole, owedHigh+cost-whole
	if got.Allowed && overLow > 0 || !got.Allowed && overHigh <= 0 {
		return fmt.Errorf("%d of %+v: allowed is %v, and the bucket is over by %s to %s", n, ref.rate, got.Allowed, overLow, overHigh)
	}
	if got.Limit != ref.rate.Burst {
		return fmt.Errorf("limit %d of %+v", got.Limit, ref.rate)
	}
	if got.Allowed {
		owedLow, owedHigh = owedLow+cost, owedHigh+cost
		if n > 0 {
			ref.low, ref.high = later(ref.low, a).Add(cost), later(ref.high, b).Add(cost)
		}
		overLow, overHigh = 0, 0
	}
	if got.RetryAfter < overLow || got.RetryAfter > overHigh {
		return fmt.Errorf("%d of %+v: retry after %s, want %s to %s", n, ref.rate, got.RetryAfter, overLow, overHigh)
	}
	if got.Reset < owedLow || got.Reset > owedHigh {
		return fmt.Errorf("%d of %+v: reset in %s, want %s to %s", n, ref.rate, got.Reset, owedLow, owedHigh)
	}
	if least, most := int((whole-owedHigh)/ref.unit), int((whole-owedLow)/ref.unit); got.Remaining < least || got.Remaining > most {
		return fmt.Errorf("%d of %+v: %d remain, want %d to %d", n, ref.rate, got.Remaining, least, most)
	}
	return nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// walk asks at random for a while.
func walk(t *testing.T, l limit.Limiter, key string, rate limit.Rate, steps int, slack time.Duration) {
	rnd := rand.New(rand.NewPCG(7, uint64(len(key)))) //nolint:gosec // the same each time, not a secret
	ref := &reference{rate: rate, unit: rate.Period / time.Duration(rate.Count)}
	for step := range steps {
		wait(time.Duration(rnd.Int64N(int64(2 * ref.unit))))
		n := rnd.IntN(rate.Burst + 1)
		a := time.Now().Round(0).Add(-slack)
		got, err := l.Allow(t.Context(), key, rate, n)
		b := time.Now().Round(0).Add(slack)
		if err != nil {
			t.Errorf("step %d: %v", step, err)
			return
		}
		if err := ref.check(n, got, a, b); err != nil {
			t.Errorf("key %s, step %d: %v", key, step, err)
			return
		}
	}
}

func equalsReference(t *testing.T, l limit.Limiter, slack time.Duration) {
	rnd := rand.New(rand.NewPCG(7, 7)) //nolint:gosec // the same each time, not a secret
	var wg sync.WaitGroup
	for i := range 40 {
		rate := limit.Rate{Count: 1 + rnd.IntN(5), Burst: 1 + rnd.IntN(6)}
		rate.Period = time.Duration((1+rnd.IntN(9))*rate.Count) * time.Millisecond
		wg.Go(func() { walk(t, l, strings.Repeat("k", i+1), rate, 150, slack) })
	}
	wg.Wait()
}

// odd rates show whether parts of a microsecond get lost: over the thousands of units here it would show.
func odd(t *testing.T, l limit.Limiter, slack time.Duration) {
	for i, c := range []struct {
		rate limit.Rate
		n    int
	}{
		{limit.Rate{Count: 3, Period: time.Second, Burst: 3}, 1},
		{limit.Rate{Count: 7_000_000, Period: time.Minute, Burst: 7_000_000}, 123_457},
		{limit.Rate{Count: 600_000_000, Period: time.Minute, Burst: 600_000_000}, 12_345_679},
		{limit.Rate{Count: math.MaxInt, Period: time.Hour, Burst: 1 << 40}, 1 << 33},
		{limit.Rate{Count: 1, Period: 10 * 365 * 24 * time.Hour, Burst: 7}, 1},
	} {
		key := fmt.Sprint("odd", i)
		ref := &reference{rate: c.rate, unit: max(c.rate.Period/time.Duration(c.rate.Count), 1)}
		for step := range c.rate.Burst/c.n + 3 {
			a := time.Now().Round(0).Add(-slack)
			got := ask(t, l, key, c.rate, c.n)
			if err := ref.check(c.n, got, a, time.Now().Round(0).Add(slack)); err != nil {
				t.Fatalf("step %d: %v", step, err)
			}
		}
	}
}

func comesTrue(t *testing.T, l limit.Limiter, _ time.Duration) {
	rate := limit.Rate{Count: 10, Period: time.Second, Burst: 3}
	if res := ask(t, l, "k", rate, 3); !res.Allowed || res.Remaining != 0 {
		t.Fatalf("the burst: %+v", res)
	}
	for range 3 {
		res := ask(t, l, "k", rate, 2)
		if res.Allowed || res.RetryAfter <= 0 || res.RetryAfter > 200*time.Millisecond {
			t.Fatalf("over the burst: %+v", res)
		}
		wait(res.RetryAfter)
		if res := ask(t, l, "k", rate, 2); !res.Allowed {
			t.Fatalf("refused when RetryAfter is over: %+v", res)
		}
	}
	wait(ask(t, l, "k", rate, 0).Reset)
	if res := ask(t, l, "k", rate, 0); res.Reset != 0 || res.Remaining != 3 {
		t.Errorf("when Reset is over: %+v", res)
	}
}

// slowly comes back within no test.
func slowly(burst int) limit.Rate { return limit.Rate{Count: 1, Period: time.Hour, Burst: burst} }

func costsNothing(t *testing.T, l limit.Limiter, _ time.Duration) {
	for range 20 {
		if res := ask(t, l, "k", slowly(2), 0); !res.Allowed || res.Remaining != 2 || res.Reset != 0 || res.RetryAfter != 0 {
			t.Fatalf("looking at a full bucket: %+v", res)
		}
	}
	if res := ask(t, l, "k", slowly(2), 1); !res.Allowed || res.Remaining != 1 {
		t.Fatalf("one of two: %+v", res)
	}
	for range 20 {
		if res := ask(t, l, "k", slowly(2), 2); res.Allowed || res.Remaining != 1 || res.RetryAfter <= 0 {
			t.Fatalf("two of one: %+v", res)
		}
	}
	if res := ask(t, l, "k", slowly(2), 1); !res.Allowed || res.Remaining != 0 {
		t.Fatalf("the second of two: %+v", res)
	}
	if res := ask(t, l, "k", slowly(2), 0); !res.Allowed || res.Remaining != 0 || res.Reset <= time.Hour {
		t.Fatalf("looking at an empty bucket: %+v", res)
	}
}

func keys(t *testing.T, l limit.Limiter, _ time.Duration) {
	all := []string{"", "a", "a:b", "a b", "ä", "a\x00b", "a\r\nb", "{a}", "%61", strings.Repeat("k", 100_000), "a*"}
	for _, k := range all {
		if res := ask(t, l, k, slowly(1), 1); !res.Allowed {
			t.Errorf("key %.20q shares a bucket with another: %+v", k, res)
		}
	}
	for _, k := range all {
		if res := ask(t, l, k, slowly(1), 1); res.Allowed {
			t.Errorf("key %.20q is not counted", k)
		}
	}
}

func concurrent(t *testing.T, l limit.Limiter, _ time.Duration) {
	var allowed atomic.Int64
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			for range 20 {
				res, err := l.Allow(t.Context(), "k", slowly(150), 1)
				if err != nil {
					t.Error(err)
				}
				if res.Allowed {
					allowed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if n := allowed.Load(); n != 150 {
		t.Errorf("%d are allowed of 150", n)
	}
}

func changes(t *testing.T, l limit.Limiter, _ time.Duration) {
	ask(t, l, "k", slowly(10), 8)
	if res := ask(t, l, "k", slowly(4), 1); res.Allowed || res.Remaining != 0 || res.RetryAfter <= 4*time.Hour {
		t.Errorf("with less burst than is owed: %+v", res)
	}
	if res := ask(t, l, "k", slowly(10), 2); !res.Allowed || res.Remaining != 0 {
		t.Errorf("with the first rate again: %+v", res)
	}
}

func refuses(t *testing.T, l limit.Limiter, _ time.Duration) {
	ok := limit.Rate{Count: 1, Period: time.Second, Burst: 1}
	if _, err := l.Allow(t.Context(), "k", ok, 2); fault.KindOf(err) != fault.TooLarge || fault.From(err).Code != "over_burst" {
		t.Errorf("more than the burst: %v", err)
	}
	for _, c := range []struct {
		name string
		rate limit.Rate
		n    int
	}{
		{"no count", limit.Rate{Period: time.Second, Burst: 1}, 1},
		{"no period", limit.Rate{Count: 1, Burst: 1}, 1},
		{"no burst", limit.Rate{Count: 1, Period: time.Second}, 1},
		{"a negative amount", ok, -1},
		{"overflow", limit.Rate{Count: 1, Period: 24 * time.Hour, Burst: 1 << 40}, 1},
	} {
		if res, err := l.Allow(t.Context(), "k", c.rate, c.n); err == nil {
			t.Errorf("%s: %+v and no error", c.name, res)
		}
	}
	if res := ask(t, l, "k", ok, 1); !res.Allowed {
		t.Errorf("what was refused was counted: %+v", res)
	}
}
