package limit

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"aran/platform/redis"
)

// Redis is a Limiter that all processes with the same Redis and service name share. The clock is Redis's. Only a
// digest of the key is kept there, and only until the bucket is full again. When Redis is away, Allow says so
// with the fault of redis.Client.Do; see Shared. Safe for concurrent use.
type Redis struct {
	client  *redis.Client
	service string
	script  *goredis.Script
}

// NewRedis counts under a service's own keys.
func NewRedis(c *redis.Client, service string) *Redis {
	return &Redis{client: c, service: service, script: goredis.NewScript(decide)}
}

// decide is Memory.Allow in one step on the server. Lua's numbers are exact to 2^53 only, so a time is a pair:
// whole microseconds (since 1970, Redis's clock) and the nanoseconds of their last one.
//
// The key keeps when the bucket is full again, and the greatest debt that its writer could owe: when Redis's
// clock is set back, nobody waits longer than a whole bucket takes. A key that holds anything else is as good as
// none, for somebody else wrote it.
const decide = `
local cost, cost_ns = tonumber(ARGV[1]), tonumber(ARGV[2])
local whole, whole_ns = tonumber(ARGV[3]), tonumber(ARGV[4])
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000000 + tonumber(t[2])
local debt, debt_ns = 0, 0
local kept = redis.pcall('GET', KEYS[1])
if type(kept) == 'string' then
  local full, full_ns, most = string.match(kept, '^(%d+) (%d%d?%d?) (%d+)$')
  if full then
    debt, debt_ns = tonumber(full) - now, tonumber(full_ns)
    most = math.min(tonumber(most), 2305843009213693)
    if debt < 0 then debt, debt_ns = 0, 0 end
    if debt > most then debt, debt_ns = most, 0 end
  end
end
local next, next_ns = debt + cost, debt_ns + cost_ns
if next_ns >= 1000 then next, next_ns = next + 1, next_ns - 1000 end
if next > whole or (next == whole and next_ns > whole_ns) then
  return {0, debt, debt_ns}
end
if cost > 0 or cost_ns > 0 then
  redis.call('SET', KEYS[1], string.format('%.0f %d %.0f', now + next, next_ns, whole + 1),
    'PX', string.format('%.0f', math.floor(next / 1000) + 1))
end
return {1, next, next_ns}
`

// Allow is Limiter's, in one round trip.
func (l *Redis) Allow(ctx context.Context, key string, r Rate, n int) (Result, error) {
	unit, whole, err := r.price(n)
	if err != nil {
		return Result{}, err
	}
	cost := unit * time.Duration(n)
	var answer []int64
	err = l.client.Do(ctx, func(ctx context.Context, c goredis.Cmdable) (err error) {
		answer, err = l.script.Run(ctx, c, []string{l.key(key)}, micros(cost), nanos(cost), micros(whole), nanos(whole)).Int64Slice()
		return err
	})
	if err != nil {
		return Result{}, fmt.Errorf("rate limit: %w", err)
	}
	if len(answer) != 3 {
		return Result{}, fmt.Errorf("rate limit: Redis answered %d numbers", len(answer))
	}
	debt := time.Duration(answer[1])*time.Microsecond + time.Duration(answer[2])
	res := Result{Allowed: answer[0] == 1, Limit: r.Burst, Remaining: remaining(debt, unit, whole), Reset: debt}
	if !res.Allowed {
		res.RetryAfter = debt + cost - whole
	}
	return res, nil
}

func micros(d time.Duration) int64 { return int64(d / time.Microsecond) }
func nanos(d time.Duration) int64  { return int64(d % time.Microsecond) }

// key is short whatever is counted, and does not show it.
func (l *Redis) key(key string) string {
	sum := sha256.Sum256([]byte(key))
	return l.client.Key(l.service, "limit", base64.RawURLEncoding.EncodeToString(sum[:]))
}
