// Package redis is a process's connection to a Redis that several processes share.
//
// It owns the connection and the knowledge whether Redis is there: every call is bounded in time, and while
// Redis is away calls fail at once. It never retries, never answers in Redis's place, and needs no Redis to
// start. A caller must know: what is kept there can be gone, late or changed by others at any time; it is for
// counts and caches, not for records.
package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"aran/platform/breaker"
	"aran/platform/fault"
)

// CodeAway is the code of the fault for a call that Redis did not serve.
const CodeAway = "redis_away"

const (
	callTimeout = time.Second     // for one call, connecting included
	dialTimeout = time.Second     // to connect
	ioTimeout   = time.Second / 2 // to write a command, and to read its answer
	idleTimeout = 5 * time.Minute // for a connection that nobody uses
	trialEvery  = time.Second     // while Redis is away, one call in this time tries it
)

// Client is the shared connection. Safe for concurrent use.
type Client struct {
	rdb     *goredis.Client
	log     *slog.Logger
	breaker *breaker.Breaker
	away    atomic.Bool // what was logged last
	calls   metric.Int64Counter
	escape  *strings.Replacer
}

// Open makes a client; it connects when it is first used, and again whenever Redis comes back.
func Open(cfg Config, log *slog.Logger) (*Client, error) {
	o, err := cfg.options()
	if err != nil {
		return nil, err
	}
	redirect(log)
	calls, err := otel.Meter("aran/platform/redis").Int64Counter("aran_redis_calls_total",
		metric.WithDescription("Calls of Redis, by outcome: ok, failed, or skipped while it is away."))
	if err != nil {
		otel.Handle(err)
	}
	return &Client{
		rdb: goredis.NewClient(o), log: log, calls: calls, escape: strings.NewReplacer("%", "%25", ":", "%3A"),
		// its changes are counted; what an operator must read of them is logged in settle
		breaker: breaker.New("redis", breaker.Config{Failures: 3, Of: 10, Delay: trialEvery}, slog.New(slog.DiscardHandler)),
	}, nil
}

// Key names what a service keeps: aran:<service>:<part>:… Different parts never make the same key.
func (c *Client) Key(service string, parts ...string) string {
	var b strings.Builder
	b.WriteString("aran:")
	b.WriteString(c.escape.Replace(service))
	for _, p := range parts {
		b.WriteByte(':')
		b.WriteString(c.escape.Replace(p))
	}
	return b.String()
}

// Do runs fn, which may send several commands, within a second and one connection attempt. While Redis is away
// fn is not run. When Redis did not serve, the error is a fault.Unavailable with RetryAfter; what the caller's
// own context ended is that context's error; a command that Redis refused as wrong is an ordinary error.
// goredis.Nil is fn's to handle. What a failed fn sent may or may not have happened.
func (c *Client) Do(ctx context.Context, fn func(ctx context.Context, r goredis.Cmdable) error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	done, err := c.breaker.Allow()
	if err != nil {
		c.count(ctx, "skipped")
		return away(err, fault.From(err).RetryAfter)
	}
	outcome := errPanic
	defer func() { done(outcome) }()
	bound, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err = fn(bound, c.rdb)
	switch {
	case err == nil || refused(err):
		outcome = nil
	case errors.Is(ctx.Err(), context.Canceled):
		outcome = context.Canceled
	default:
		outcome = err
	}
	done(outcome)
	c.settle(ctx, outcome)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("redis: %w", ctx.Err())
	case outcome == nil:
		return fmt.Errorf("redis: %w", err)
	default:
		return away(err, trialEvery)
	}
}

var errPanic = errors.New("panic")

func away(cause error, d time.Duration) error {
	return fault.New(fault.Unavailable, CodeAway, "A shared store is away for the moment.").After(d).Because(cause)
}

// refused reports whether Redis is well and said no to this command: asking again, or later, changes nothing.
func refused(err error) bool {
	if _, ok := errors.AsType[goredis.Error](err); !ok || goredis.IsMaxClientsError(err) {
		return false
	}
	for _, prefix := range []string{"ERR", "WRONGTYPE", "NOSCRIPT", "EXECABORT"} {
		if goredis.HasErrorPrefix(err, prefix) {
			return true
		}
	}
	return errors.Is(err, goredis.Nil)
}

// settle counts a call's outcome and logs when Redis goes and when it comes back.
func (c *Client) settle(ctx context.Context, outcome error) {
	switch {
	case outcome == nil:
		c.count(ctx, "ok")
		if c.away.CompareAndSwap(true, false) {
			c.log.LogAttrs(ctx, slog.LevelInfo, "redis is back")
		}
	case errors.Is(outcome, context.Canceled):
	default:
		c.count(ctx, "failed")
		if c.breaker.State() != "closed" && c.away.CompareAndSwap(false, true) {
			c.log.LogAttrs(ctx, slog.LevelWarn, "redis is away", slog.String("error", outcome.Error()))
		}
	}
}

func (c *Client) count(ctx context.Context, outcome string) {
	c.calls.Add(ctx, 1, metric.WithAttributes(attribute.String("outcome", outcome)))
}

// Ping asks Redis for a sign of life; for health checks.
func (c *Client) Ping(ctx context.Context) error {
	return c.Do(ctx, func(ctx context.Context, r goredis.Cmdable) error { return r.Ping(ctx).Err() })
}

// Close ends the connections.
func (c *Client) Close() error {
	if err := c.rdb.Close(); err != nil && !errors.Is(err, goredis.ErrClosed) {
		return fmt.Errorf("close redis: %w", err)
	}
	return nil
}

// dial is bounded by the context in both forms; go-redis's own TLS dialer does not look at it.
func dial(t *tls.Config) func(ctx context.Context, network, addr string) (net.Conn, error) {
	plain := &net.Dialer{Timeout: dialTimeout, KeepAlive: time.Minute}
	if t == nil {
		return plain.DialContext
	}
	return (&tls.Dialer{NetDialer: plain, Config: t}).DialContext
}

var redirected sync.Once //nolint:gochecknoglobals // go-redis has one logger for the process

// redirect sends go-redis's own words, at level debug, to the first log that is given: settle says what matters.
func redirect(log *slog.Logger) {
	redirected.Do(func() { goredis.SetLogger(printer{log}) })
}

type printer struct{ log *slog.Logger }

// Printf is go-redis's logging.
func (p printer) Printf(ctx context.Context, format string, v ...any) {
	if p.log.Enabled(ctx, slog.LevelDebug) {
		p.log.LogAttrs(ctx, slog.LevelDebug, "redis client", slog.String("says", fmt.Sprintf(format, v...)))
	}
}
