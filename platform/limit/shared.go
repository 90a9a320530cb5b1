package limit

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// Config of Shared.
type Config struct {
	Replicas int `yaml:"replicas" doc:"processes that share the limits; while Redis is away each of them allows its part of every rate, at least 1"`
	MaxKeys  int `yaml:"max_keys" doc:"callers that a process counts itself while Redis is away"`
}

// Default is for two replicas.
func Default() Config { return Config{Replicas: 2, MaxKeys: 100_000} }

// Check names the first setting that can't be used.
func (c Config) Check() error {
	switch {
	case c.Replicas < 1:
		return errors.New("limit.replicas: use 1 or more")
	case c.MaxKeys < 1:
		return errors.New("limit.max_keys: use 1 or more")
	}
	return nil
}

// Shared is a Limiter that counts in one shared place and, whenever that does not answer, allows this process's
// part of the rate from its own memory: limits hold on, they never open. It asks the shared place at every call,
// which must fail fast while it is away (redis.Client does) and so returns to it by itself.
//
// What all replicas allow while Redis is away is at most the limit, as long as the burst and the count divide
// by their number; each part is at least 1 per period and 1 at once. A change between the two places forgets
// what the other counted: it can cost one burst. While Redis is away, what asks for more at once than the part's
// burst, but not than the limit's, is refused with RetryAfter. Safe for concurrent use.
type Shared struct {
	far      Limiter
	near     *Memory
	replicas int
	log      *slog.Logger
	alone    atomic.Bool // the last answer was near's
	local    metric.Int64Counter
}

// NewShared counts in far, which is a Redis.
func NewShared(far Limiter, cfg Config, log *slog.Logger) (*Shared, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	local, err := otel.Meter("aran/platform/limit").Int64Counter("aran_limit_local_decisions_total",
		metric.WithDescription("Rate limit decisions that a process made from its own part, because the shared count was away; by outcome."))
	if err != nil {
		otel.Handle(err)
	}
	return &Shared{far: far, near: NewMemory(cfg.MaxKeys), replicas: cfg.Replicas, log: log, local: local}, nil
}

// Allow is Limiter's. It fails only for what can't be asked for, and when ctx is over.
func (s *Shared) Allow(ctx context.Context, key string, r Rate, n int) (Result, error) {
	if _, _, err := r.price(n); err != nil {
		return Result{}, err
	}
	res, err := s.far.Allow(ctx, key, r, n)
	if err == nil {
		if s.alone.CompareAndSwap(true, false) {
			s.log.LogAttrs(ctx, slog.LevelInfo, "rate limits are shared again")
		}
		return res, nil
	}
	if ctx.Err() != nil {
		return Result{}, err
	}
	if s.alone.CompareAndSwap(false, true) {
		s.log.LogAttrs(ctx, slog.LevelWarn, "rate limits are not shared for now: every replica allows its part",
			slog.Int("replicas", s.replicas), slog.String("error", err.Error()))
	}
	res, err = s.part(ctx, key, r, n)
	if err == nil {
		s.local.Add(ctx, 1, metric.WithAttributes(attribute.Bool("allowed", res.Allowed)))
	}
	return res, err
}

func (s *Shared) part(ctx context.Context, key string, r Rate, n int) (Result, error) {
	mine := r.part(s.replicas)
	if n <= mine.Burst {
		return s.near.Allow(ctx, key, mine, n)
	}
	res, err := s.near.Allow(ctx, key, mine, 0)
	res.Allowed, res.RetryAfter = false, max(res.Reset, time.Second) // by then the count may be shared again
	return res, err
}

// part is one of n replicas' share: the burst divided, and units that take n times as long to come back, but
// at least one a period.
func (r Rate) part(n int) Rate {
	factor := min(n, r.Count)
	if r.Period > math.MaxInt64/time.Duration(factor) {
		return Rate{Count: 1, Period: r.Period, Burst: max(1, r.Burst/n)}
	}
	return Rate{Count: r.Count, Period: r.Period * time.Duration(factor), Burst: max(1, r.Burst/n)}
}
