package limit_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"aran/platform/fault"
	"aran/platform/limit"
	"aran/platform/limit/limittest"
	"aran/platform/redis"
	"aran/platform/redis/redistest"
	"aran/platform/secret"
)

func connect(tb testing.TB, url string) *redis.Client {
	tb.Helper()
	cfg := redis.Default()
	cfg.URL = secret.New(url)
	c, err := redis.Open(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

// do runs commands that a test needs.
func do(tb testing.TB, c *redis.Client, fn func(ctx context.Context, r goredis.Cmdable) error) {
	tb.Helper()
	if err := c.Do(tb.Context(), fn); err != nil {
		tb.Fatal(err)
	}
}

func TestRedis(t *testing.T) {
	c := connect(t, redistest.Start(t))
	opened := 0
	limittest.Run(t, limittest.Setup{
		Open: func(*testing.T) limit.Limiter {
			opened++
			return limit.NewRedis(c, fmt.Sprint("case", opened))
		},
		In:    func(t *testing.T, run func(*testing.T)) { run(t) },
		Slack: time.Microsecond, // Redis's clock is this machine's, in whole microseconds
	})
}

func TestReplicasShareAndServicesDoNot(t *testing.T) {
	url := redistest.Start(t)
	rate := limit.Rate{Count: 1, Period: time.Hour, Burst: 10}
	first, second := limit.NewRedis(connect(t, url), "gateway"), limit.NewRedis(connect(t, url), "gateway")
	for i := range 10 {
		l := first
		if i%2 == 1 {
			l = second
		}
		if res, err := l.Allow(t.Context(), "k", rate, 1); err != nil || !res.Allowed || res.Remaining != 9-i {
			t.Fatalf("%d: %+v, %v", i, res, err)
		}
	}
	for _, l := range []*limit.Redis{first, second} {
		if res, err := l.Allow(t.Context(), "k", rate, 1); err != nil || res.Allowed {
			t.Errorf("after the burst: %+v, %v", res, err)
		}
	}
	if res, err := limit.NewRedis(connect(t, url), "user").Allow(t.Context(), "k", rate, 10); err != nil || !res.Allowed {
		t.Errorf("another service: %+v, %v", res, err)
	}
}

// One command a decision, also after Redis forgot the script once; keys go when their bucket is full, and do
// not show what they count.
func TestWhatItCostsRedis(t *testing.T) {
	c := connect(t, redistest.Start(t))
	l := limit.NewRedis(c, "gateway")
	if _, err := l.Allow(t.Context(), "only looked at", limit.Rate{Count: 1, Period: time.Hour, Burst: 1}, 0); err != nil {
		t.Fatal(err)
	}
	const asks = 50
	for i := range asks {
		if i == asks/2 {
			do(t, c, func(ctx context.Context, r goredis.Cmdable) error { return r.ScriptFlush(ctx).Err() })
		}
		if _, err := l.Allow(t.Context(), "alice@example.com", limit.Rate{Count: 1, Period: time.Millisecond, Burst: 100}, 1); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.Allow(t.Context(), "slow", limit.Rate{Count: 1, Period: time.Minute, Burst: 100}, 3); err != nil {
		t.Fatal(err)
	}
	do(t, c, func(ctx context.Context, r goredis.Cmdable) error {
		stats, err := r.Info(ctx, "commandstats").Result()
		for _, want := range []string{fmt.Sprintf("cmdstat_evalsha:calls=%d,", asks+2), "cmdstat_eval:calls=2,"} {
			if !strings.Contains(stats, want) {
				t.Errorf("no %q in %s", want, stats)
			}
		}
		return err
	})
	for deadline := time.Now().Add(10 * time.Second); ; <-time.After(10 * time.Millisecond) {
		var left []string
		do(t, c, func(ctx context.Context, r goredis.Cmdable) (err error) {
			left, err = r.Keys(ctx, "*").Result()
			return err
		})
		if len(left) == 1 {
			do(t, c, func(ctx context.Context, r goredis.Cmdable) error {
				ttl, err := r.PTTL(ctx, left[0]).Result()
				if ttl < 2*time.Minute || ttl > 3*time.Minute+time.Second {
					t.Errorf("%s goes in %s", left[0], ttl)
				}
				return err
			})
			if strings.Contains(left[0], "slow") || !strings.HasPrefix(left[0], "aran:gateway:limit:") {
				t.Errorf("the key is %q", left[0])
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("keys that are left: %q", left)
		}
	}
}

// What stands at a limiter's key, whoever wrote it, never makes a wait that is longer than one bucket, an error
// for ever, or a crash. The second line is what is there after Redis's clock was set back by a day.
func TestStrangeKeys(t *testing.T) {
	c := connect(t, redistest.Start(t))
	l := limit.NewRedis(c, "gateway")
	rate := limit.Rate{Count: 1, Period: time.Second, Burst: 5}
	plant := func(value string) {
		do(t, c, func(ctx context.Context, r goredis.Cmdable) error {
			keys, err := r.Keys(ctx, "*").Result()
			if err != nil || len(keys) != 1 {
				return fmt.Errorf("keys %q: %w", keys, err)
			}
			if value == "list" {
				if err := r.Del(ctx, keys[0]).Err(); err != nil {
					return err
				}
				return r.LPush(ctx, keys[0], "x").Err()
			}
			return r.Set(ctx, keys[0], value, 0).Err()
		})
	}
	tomorrow := time.Now().Add(24 * time.Hour).UnixMicro()
	for _, value := range []string{
		"", fmt.Sprint(tomorrow, " 7 5000001"), "list", "x", "1 2 3", "-1 -1 -1", "nan nan nan", "99999999999999999999999 0 1", fmt.Sprint(tomorrow, " 1e9 1"),
	} {
		if _, err := l.Allow(t.Context(), "k", rate, 1); err != nil {
			t.Fatal(err)
		}
		plant(value)
		res, err := l.Allow(t.Context(), "k", rate, 0)
		if err != nil || res.Reset < 0 || res.Reset > 5*time.Second+time.Microsecond {
			t.Errorf("with %q at its key: %+v, %v", value, res, err)
		}
		plant("gone")
	}
}

// A debt that no rate can owe, planted by somebody who may write there, is no more than an empty bucket.
func TestAPlantedDebtIsFinite(t *testing.T) {
	c := connect(t, redistest.Start(t))
	l := limit.NewRedis(c, "gateway")
	rate := limit.Rate{Count: 1, Period: time.Second, Burst: 5}
	if _, err := l.Allow(t.Context(), "k", rate, 1); err != nil {
		t.Fatal(err)
	}
	do(t, c, func(ctx context.Context, r goredis.Cmdable) error {
		keys, err := r.Keys(ctx, "*").Result()
		if err != nil {
			return err
		}
		huge := strings.Repeat("9", 300)
		return r.Set(ctx, keys[0], huge+" 0 "+huge, 0).Err()
	})
	res, err := l.Allow(t.Context(), "k", rate, 1)
	if err != nil || res.Allowed || res.Remaining != 0 || res.RetryAfter <= 0 || res.Reset <= 0 {
		t.Errorf("%+v, %v", res, err)
	}
}

func TestRedisAwayIsAnError(t *testing.T) {
	s := redistest.Launch(t)
	s.Kill()
	l := limit.NewRedis(connect(t, s.URL()), "gateway")
	for range 5 {
		res, err := l.Allow(t.Context(), "k", limit.Rate{Count: 1, Period: time.Second, Burst: 1}, 1)
		if f := fault.From(err); f == nil || f.Kind != fault.Unavailable || f.RetryAfter <= 0 || res.Allowed {
			t.Errorf("%+v, %v", res, err)
		}
	}
}

func BenchmarkRedis(b *testing.B) {
	l := limit.NewRedis(connect(b, redistest.Start(b)), "gateway")
	rate := limit.Rate{Count: 100, Period: time.Second, Burst: 100}
	for i := 0; b.Loop(); i++ {
		if _, err := l.Allow(b.Context(), fmt.Sprint("key", i%1000), rate, 1); err != nil {
			b.Fatal(err)
		}
	}
}
