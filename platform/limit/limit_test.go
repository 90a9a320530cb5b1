package limit_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"aran/platform/fault"
	"aran/platform/limit"
)

func wait(d time.Duration) { time.Sleep(d) } //nolint:forbidigo // synctest's clock

// slow is the reference: a leaky bucket that is drained tick by tick.
type slow struct{ level int }

func (s *slow) tick() { s.level = max(0, s.level-1) }
func (s *slow) allow(n, unit, burst int) bool {
	if s.level+n*unit > burst*unit {
		return false
	}
	s.level += n * unit
	return true
}

// For random rates, waits and amounts the limiter decides as the reference does, and what it says about
// itself (Remaining, RetryAfter, Reset) comes true.
func TestEqualsReference(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(7, 7))
		m := limit.NewMemory(1000)
		for round := range 60 {
			unit := 1 + r.IntN(9) // ticks a unit costs
			rate := limit.Rate{Count: 1 + r.IntN(5), Burst: 1 + r.IntN(6)}
			rate.Period = time.Duration(unit*rate.Count) * time.Millisecond
			key, ref := fmt.Sprint(round), &slow{}
			for step := range 200 {
				for range r.IntN(2 * unit) {
					wait(time.Millisecond)
					ref.tick()
				}
				n := r.IntN(rate.Burst + 1)
				want := ref.allow(n, unit, rate.Burst)
				got, err := m.Allow(t.Context(), key, rate, n)
				if err != nil {
					t.Fatal(err)
				}
				if got.Allowed != want {
					t.Fatalf("round %d step %d: %+v asked %d, allowed %v, reference says %v", round, step, rate, n, got.Allowed, want)
				}
				left := (rate.Burst*unit - ref.level) / unit
				if got.Remaining != left || got.Limit != rate.Burst || got.Reset != time.Duration(ref.level)*time.Millisecond {
					t.Fatalf("round %d step %d: %+v, reference has %d left and level %d", round, step, got, left, ref.level)
				}
				if !want {
					over := ref.level + n*unit - rate.Burst*unit
					if got.RetryAfter != time.Duration(over)*time.Millisecond {
						t.Fatalf("round %d step %d: retry after %s, reference says %d ms", round, step, got.RetryAfter, over)
					}
				}
			}
		}
	})
}

func TestRetryAfterIsExact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := limit.NewMemory(10)
		rate := limit.Rate{Count: 10, Period: time.Minute, Burst: 3}
		ask := func(n int) limit.Result {
			t.Helper()
			res, err := m.Allow(t.Context(), "k", rate, n)
			if err != nil {
				t.Fatal(err)
			}
			return res
		}
		if res := ask(3); !res.Allowed || res.Remaining != 0 {
			t.Fatalf("the burst: %+v", res)
		}
		res := ask(2)
		if res.Allowed || res.RetryAfter != 12*time.Second {
			t.Fatalf("over the burst: %+v", res)
		}
		wait(res.RetryAfter - 1)
		if ask(2).Allowed {
			t.Error("allowed before RetryAfter is over")
		}
		wait(1)
		if !ask(2).Allowed {
			t.Error("refused when RetryAfter is over")
		}
	})
}

func TestBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := limit.NewMemory(3)
		rate := limit.Rate{Count: 1, Period: time.Second, Burst: 10}
		take := func(key string, n int) bool {
			t.Helper()
			res, err := m.Allow(t.Context(), key, rate, n)
			if err != nil {
				t.Fatal(err)
			}
			return res.Allowed
		}
		take("empty", 10)
		take("small debt", 1)
		take("half", 5)
		for i := range 100 {
			take(fmt.Sprint("stranger", i), 1)
			if m.Len() > 3 {
				t.Fatalf("%d keys in a limiter of 3", m.Len())
			}
		}
		if take("empty", 1) {
			t.Error("strangers washed away the greatest debt")
		}
		wait(20 * time.Second)
		take("new", 1)
		take("newer", 1)
		if m.Len() > 2 {
			t.Errorf("%d keys are kept, full buckets among them", m.Len())
		}
	})
}

func TestRefused(t *testing.T) {
	m := limit.NewMemory(10)
	ok := limit.Rate{Count: 1, Period: time.Second, Burst: 1}
	if _, err := m.Allow(t.Context(), "k", ok, 2); fault.KindOf(err) != fault.TooLarge {
		t.Errorf("more than the burst: %v", err)
	}
	for name, c := range map[string]struct {
		rate limit.Rate
		n    int
	}{
		"no count":        {limit.Rate{Period: time.Second, Burst: 1}, 1},
		"no period":       {limit.Rate{Count: 1, Burst: 1}, 1},
		"no burst":        {limit.Rate{Count: 1, Period: time.Second}, 1},
		"negative amount": {ok, -1},
		"overflow":        {limit.Rate{Count: 1, Period: 24 * time.Hour, Burst: 1 << 40}, 1},
	} {
		if res, err := m.Allow(t.Context(), "k", c.rate, c.n); err == nil {
			t.Errorf("%s: %+v and no error", name, res)
		}
	}
}

func BenchmarkAllow(b *testing.B) {
	m := limit.NewMemory(100_000)
	rate := limit.Rate{Count: 100, Period: time.Second, Burst: 100}
	keys := make([]string, 50_000)
	for i := range keys {
		keys[i] = fmt.Sprint("key", i)
	}
	for i := 0; b.Loop(); i++ {
		if _, err := m.Allow(b.Context(), keys[i%len(keys)], rate, 1); err != nil {
			b.Fatal(err)
		}
	}
}
