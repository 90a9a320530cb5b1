package limit_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"aran/platform/fault"
	"aran/platform/limit"
	"aran/platform/limit/limittest"
	"aran/platform/redis/redistest"
)

// shaky is a Limiter that a test takes away.
type shaky struct {
	limit.Limiter
	away atomic.Bool
}

var errAway = errors.New("away")

func (s *shaky) Allow(ctx context.Context, key string, r limit.Rate, n int) (limit.Result, error) {
	if s.away.Load() {
		return limit.Result{}, errAway
	}
	return s.Limiter.Allow(ctx, key, r, n)
}

// journal is a log that a test reads.
type journal struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.Write(b)
}

func (j *journal) count(s string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Count(j.buf.String(), s)
}

func shared(t *testing.T, far limit.Limiter, replicas int) (*limit.Shared, *journal) {
	t.Helper()
	j := &journal{}
	cfg := limit.Default()
	cfg.Replicas = replicas
	s, err := limit.NewShared(far, cfg, slog.New(slog.NewTextHandler(j, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return s, j
}

func TestShared(t *testing.T) {
	limittest.Run(t, limittest.Setup{
		Open: func(t *testing.T) limit.Limiter {
			s, _ := shared(t, limit.NewMemory(1000), 2)
			return s
		},
		In: synctest.Test,
	})
}

// One replica that is alone for ever is a limiter as any other.
func TestSharedAlone(t *testing.T) {
	limittest.Run(t, limittest.Setup{
		Open: func(t *testing.T) limit.Limiter {
			far := &shaky{}
			far.away.Store(true)
			s, _ := shared(t, far, 1)
			return s
		},
		In: synctest.Test,
	})
}

func TestParts(t *testing.T) {
	for _, c := range []struct {
		name     string
		rate     limit.Rate
		replicas int
		burst    int           // of a part
		unit     time.Duration // until one unit of a part is back
	}{
		{"it divides evenly", limit.Rate{Count: 60, Period: time.Minute, Burst: 20}, 4, 5, 4 * time.Second},
		{"the count does not divide", limit.Rate{Count: 5, Period: time.Minute, Burst: 5}, 2, 2, 24 * time.Second},
		{"more replicas than units: one each", limit.Rate{Count: 2, Period: time.Minute, Burst: 1}, 10, 1, time.Minute},
		{"one replica has it all", limit.Rate{Count: 60, Period: time.Minute, Burst: 20}, 1, 20, time.Second},
		{"a period that can't be multiplied", limit.Rate{Count: 100, Period: 200 * 365 * 24 * time.Hour, Burst: 1}, 100, 1, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			far := &shaky{}
			far.away.Store(true)
			l, _ := shared(t, far, c.replicas)
			res, err := l.Allow(t.Context(), "k", c.rate, 0)
			if c.unit == 0 {
				if err == nil && res.Limit != c.burst {
					t.Errorf("%s: %+v", c.name, res)
				}
				return
			}
			if err != nil || res.Limit != c.burst || res.Remaining != c.burst {
				t.Errorf("%s: %+v, %v", c.name, res, err)
			}
			if res, err = l.Allow(t.Context(), "k", c.rate, 1); err != nil || !res.Allowed || res.Reset != c.unit {
				t.Errorf("%s: one unit: %+v, %v", c.name, res, err)
			}
		})
	}
}

func TestWhileAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		far := &shaky{Limiter: limit.NewMemory(10)}
		l, j := shared(t, far, 2)
		rate := limit.Rate{Count: 1, Period: time.Hour, Burst: 10}
		take := func(n int) limit.Result {
			t.Helper()
			res, err := l.Allow(t.Context(), "k", rate, n)
			if err != nil {
				t.Fatal(err)
			}
			return res
		}
		take(4)
		far.away.Store(true)
		if res := take(6); res.Allowed || res.RetryAfter < time.Second {
			t.Errorf("more than the part's burst: %+v", res)
		}
		if res := take(5); !res.Allowed || res.Limit != 5 {
			t.Errorf("the part's burst: %+v", res)
		}
		if res := take(1); res.Allowed || res.RetryAfter <= 0 {
			t.Errorf("after it: %+v", res)
		}
		if res := take(6); res.Allowed || res.RetryAfter <= time.Hour {
			t.Errorf("more than the part's burst, after it: %+v", res)
		}
		if _, err := l.Allow(t.Context(), "k", rate, 11); fault.KindOf(err) != fault.TooLarge {
			t.Errorf("more than the limit's burst: %v", err)
		}
		far.away.Store(false)
		if res := take(6); !res.Allowed || res.Limit != 10 {
			t.Errorf("what was left of the shared burst: %+v", res)
		}
		for _, line := range []string{"rate limits are not shared for now", "rate limits are shared again"} {
			if n := j.count(line); n != 1 {
				t.Errorf("%q is logged %d times", line, n)
			}
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		far.away.Store(true)
		if res, err := l.Allow(gone, "k", rate, 1); err == nil {
			t.Errorf("a caller that left: %+v", res)
		}
		if j.count("not shared") != 1 {
			t.Error("a caller that left changed the state")
		}
	})
}

func TestConfig(t *testing.T) {
	if err := limit.Default().Check(); err != nil {
		t.Error(err)
	}
	for _, c := range []limit.Config{{Replicas: 0, MaxKeys: 1}, {Replicas: 1, MaxKeys: 0}} {
		if _, err := limit.NewShared(limit.NewMemory(1), c, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
}

// traffic asks all limiters for one unit each in turn, without a pause, from several goroutines.
type traffic struct {
	allowed atomic.Int64
	slowest atomic.Int64 // nanoseconds
	asked   atomic.Int64
	stop    chan struct{}
	wg      sync.WaitGroup
}

func start(t *testing.T, rate limit.Rate, limiters ...limit.Limiter) *traffic {
	t.Helper()
	tr := &traffic{stop: make(chan struct{})}
	ctx := context.WithoutCancel(t.Context())
	for i := range 4 * len(limiters) {
		tr.wg.Go(func() {
			for {
				select {
				case <-tr.stop:
					return
				case <-time.After(time.Millisecond):
				}
				began := time.Now()
				res, err := limiters[i%len(limiters)].Allow(ctx, "k", rate, 1)
				took := int64(time.Since(began))
				for old := tr.slowest.Load(); took > old && !tr.slowest.CompareAndSwap(old, took); old = tr.slowest.Load() {
				}
				if err != nil {
					t.Errorf("Allow: %v", err)
				}
				if res.Allowed {
					tr.allowed.Add(1)
				}
				tr.asked.Add(1)
			}
		})
	}
	return tr
}

// flows waits until n more decisions were made.
func (tr *traffic) flows(t *testing.T, n int64) {
	t.Helper()
	eventually(t, fmt.Sprint(n, " decisions"), func() func() bool {
		from := tr.asked.Load()
		return func() bool { return tr.asked.Load() >= from+n }
	}())
}

func (tr *traffic) end() {
	close(tr.stop)
	tr.wg.Wait()
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !cond(); <-time.After(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

// Two replicas under traffic, while Redis is killed and started again, and while it hangs: what they allow
// together is bounded, nobody waits long, and they go back to Redis by themselves.
func TestRedisGoesAndComes(t *testing.T) {
	for _, c := range []struct {
		name       string
		take, give func(*redistest.Server)
		again      int64 // bursts that Redis allows afterwards: after a kill it has forgotten
	}{
		{"kill -9", (*redistest.Server).Kill, (*redistest.Server).Restart, 1},
		{"a hang", (*redistest.Server).Pause, (*redistest.Server).Resume, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := redistest.Launch(t)
			const burst = 100
			rate := limit.Rate{Count: 1, Period: time.Hour, Burst: burst} // nothing comes back within the test
			first, j := shared(t, limit.NewRedis(connect(t, s.URL()), "gateway"), 2)
			second, j2 := shared(t, limit.NewRedis(connect(t, s.URL()), "gateway"), 2)
			tr := start(t, rate, first, second)
			defer tr.end()

			tr.flows(t, 3*burst)
			if n := tr.allowed.Load(); n != burst {
				t.Errorf("with Redis there, %d are allowed of %d", n, burst)
			}
			c.take(s)
			tr.flows(t, 20*burst)
			if n := tr.allowed.Load(); n != burst+burst {
				t.Errorf("with Redis away, %d are allowed: the limit's %d and two parts of %d were", n, burst, burst/2)
			}
			if d := time.Duration(tr.slowest.Load()); d > 3*time.Second {
				t.Errorf("a decision took %s", d)
			}
			tr.slowest.Store(0)
			c.give(s)
			again := func(j *journal) bool {
				return j.count("shared again") == j.count("not shared") && j.count("not shared") > 0
			}
			eventually(t, "both share again", func() bool { return again(j) && again(j2) })
			tr.flows(t, 3*burst)
			if n := tr.allowed.Load(); n > (2+c.again)*burst {
				t.Errorf("after Redis came back, %d are allowed", n)
			}
			if n := j.count("\n"); n > 6 {
				t.Errorf("%d lines are logged for two changes", n)
			}
		})
	}
}

// While Redis hangs and that is known, decisions are made at the speed of memory but for one trial a second.
func TestAloneIsFast(t *testing.T) {
	s := redistest.Launch(t)
	l, j := shared(t, limit.NewRedis(connect(t, s.URL()), "gateway"), 2)
	rate := limit.Rate{Count: 1, Period: time.Hour, Burst: 10}
	s.Pause()
	defer s.Resume()
	ask := func() {
		if _, err := l.Allow(t.Context(), "k", rate, 1); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		ask()
	}
	if j.count("not shared") != 1 {
		t.Fatal("it does not know that Redis is away")
	}
	began, slow := time.Now(), 0
	for range 2000 {
		one := time.Now()
		ask()
		if time.Since(one) > 100*time.Millisecond {
			slow++
		}
	}
	if trials := int(time.Since(began)/time.Second) + 1; slow > trials {
		t.Errorf("%d of 2000 decisions waited, in %s", slow, time.Since(began))
	}
}
