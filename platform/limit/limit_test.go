package limit_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"aran/platform/limit"
	"aran/platform/limit/limittest"
)

func wait(d time.Duration) { time.Sleep(d) } //nolint:forbidigo // synctest's clock

func TestMemory(t *testing.T) {
	limittest.Run(t, limittest.Setup{
		Open: func(*testing.T) limit.Limiter { return limit.NewMemory(1000) },
		In:   synctest.Test,
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
