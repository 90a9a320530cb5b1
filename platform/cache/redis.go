package cache

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"

	"aran/platform/redis"
)

const (
	generationLife = 2 * MaxTTL // of a namespace that nobody puts to; its values are over before
	maxOwed        = 10_000     // Forgets that Redis did not take
	settleAtOnce   = 64         // of them are sent again with one call
)

// RedisStore is a Store that all processes with the same Redis, service and key share. Redis is trusted with
// nothing but keeping: names are keyed hashes, and values are sealed with their key, namespace, generation and
// end. What others changed, moved or made up is not found; who can write to Redis can at most bring back a value
// that was deleted or forgotten before its time is over, together with its generation.
//
// A Forget or Delete that Redis did not take is remembered: this process finds nothing of that namespace until
// Redis took it.
type RedisStore struct {
	client  *redis.Client
	service string
	seal    sealer
	scripts scripts
	strange metric.Int64Counter

	mu    sync.Mutex
	owed  map[string]uint64 // namespaces to forget, with the number of the wish
	wish  uint64
	blind time.Time // until then nothing is found: more was owed than is remembered
}

type scripts struct{ get, put, generation *goredis.Script }

// NewRedisStore keeps under a service's own keys. key is 32 secret bytes that all replicas of the service have and
// nobody else; it is used for nothing but what is derived from it.
func NewRedisStore(c *redis.Client, service string, key []byte) (*RedisStore, error) {
	seal, err := newSealer(service, key)
	if err != nil {
		return nil, err
	}
	strange, err := otel.Meter("aran/platform/cache").Int64Counter("aran_cache_rejected_total",
		metric.WithDescription("Values found in Redis that this service did not put there as they are."))
	if err != nil {
		otel.Handle(err)
	}
	return &RedisStore{
		client: c, service: service, seal: seal, strange: strange, owed: map[string]uint64{},
		scripts: scripts{goredis.NewScript(getScript), goredis.NewScript(putScript), goredis.NewScript(generationScript)},
	}, nil
}

// A value stands under its key with the generation that it was put in before it; the generation of a namespace is
// random, so that one that Redis lost never comes again. Keys that hold something else, or more than a value can
// be, are as good as empty.
const (
	getScript = `
local g = redis.pcall('GET', KEYS[1])
local n = redis.pcall('STRLEN', KEYS[2])
if type(g) ~= 'string' or #g ~= tonumber(ARGV[2]) or type(n) ~= 'number' or n > tonumber(ARGV[1]) then return false end
local v = redis.call('GET', KEYS[2])
if not v or string.sub(v, 1, #g) ~= g then return false end
return v
`
	putScript = `
if redis.pcall('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[1] .. ARGV[2], 'PX', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
`
	generationScript = `
local g = redis.pcall('GET', KEYS[1])
if type(g) == 'string' and #g == #ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return g
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ARGV[1]
`
)

// Get is Store's, in one round trip.
func (s *RedisStore) Get(ctx context.Context, k Key) ([]byte, bool, error) {
	if err := k.check(); err != nil {
		return nil, false, err
	}
	if err := s.settle(ctx, k.Namespace); err != nil {
		return nil, false, fmt.Errorf("cache: get: %w", err)
	}
	var raw string
	err := s.client.Do(ctx, func(ctx context.Context, r goredis.Cmdable) (err error) {
		raw, err = s.scripts.get.Run(ctx, r, []string{s.generationKey(k.Namespace), s.valueKey(k)}, generationSize+sealedSize, generationSize).Text()
		if errors.Is(err, goredis.Nil) {
			raw, err = "", nil
		}
		return err
	})
	if err != nil {
		return nil, false, fmt.Errorf("cache: get: %w", err)
	}
	if raw == "" {
		return nil, false, nil
	}
	value, expires, ok := s.open(k, raw)
	if !ok {
		s.strange.Add(ctx, 1)
		return nil, false, nil
	}
	if err := s.sees(); err != nil {
		return nil, false, fmt.Errorf("cache: get: %w", err)
	}
	if !time.Now().Before(expires) || s.owes(k.Namespace) {
		return nil, false, nil
	}
	return value, true, nil
}

func (s *RedisStore) open(k Key, raw string) (value []byte, expires time.Time, ok bool) {
	if len(raw) < generationSize {
		return nil, time.Time{}, false
	}
	return s.seal.open(k, raw[:generationSize], []byte(raw[generationSize:]))
}

// Put is Store's, in two round trips.
func (s *RedisStore) Put(ctx context.Context, k Key, value []byte, ttl time.Duration) error {
	if err := checkPut(k, value, ttl); err != nil {
		return err
	}
	g, err := s.Generation(ctx, k.Namespace)
	if err != nil {
		return err
	}
	return s.PutIn(ctx, g, k, value, ttl)
}

// PutIn is Store's, in one round trip.
func (s *RedisStore) PutIn(ctx context.Context, g Generation, k Key, value []byte, ttl time.Duration) error {
	if err := checkPut(k, value, ttl); err != nil {
		return err
	}
	if len(g.id) != generationSize || g.namespace != k.Namespace {
		return nil // it is not this store's: one that is over
	}
	if err := s.settle(ctx, k.Namespace); err != nil {
		return fmt.Errorf("cache: put: %w", err)
	}
	sealed, err := s.seal.seal(k, g.id, value, time.Now().Add(ttl))
	if err != nil {
		return fmt.Errorf("cache: put: %w", err)
	}
	err = s.client.Do(ctx, func(ctx context.Context, r goredis.Cmdable) error {
		keys := []string{s.generationKey(k.Namespace), s.valueKey(k)}
		return s.scripts.put.Run(ctx, r, keys, g.id, sealed, max(ttl.Milliseconds(), 1), generationLife.Milliseconds()).Err()
	})
	if err != nil {
		return fmt.Errorf("cache: put: %w", err)
	}
	return nil
}

// Generation is Store's, in one round trip.
func (s *RedisStore) Generation(ctx context.Context, namespace string) (Generation, error) {
	if err := checkNamespace(namespace); err != nil {
		return Generation{}, err
	}
	if err := s.settle(ctx, namespace); err != nil {
		return Generation{}, fmt.Errorf("cache: generation: %w", err)
	}
	var id string
	err := s.client.Do(ctx, func(ctx context.Context, r goredis.Cmdable) (err error) {
		id, err = s.scripts.generation.Run(ctx, r, []string{s.generationKey(namespace)}, newGeneration(), generationLife.Milliseconds()).Text()
		return err
	})
	if err != nil {
		return Generation{}, fmt.Errorf("cache: generation: %w", err)
	}
	return Generation{namespace, id}, nil
}

// Delete is Store's. When Redis did not take it, the whole namespaces are to be forgotten.
func (s *RedisStore) Delete(ctx context.Context, keys ...Key) error {
	names := make([]string, len(keys))
	for i, k := range keys {
		if err := k.check(); err != nil {
			return err
		}
		names[i] = s.valueKey(k)
	}
	if len(names) == 0 {
		return nil
	}
	err := s.client.Do(ctx, func(ctx context.Context, r goredis.Cmdable) error { return r.Unlink(ctx, names...).Err() })
	if err != nil {
		for _, k := range keys {
			s.owe(k.Namespace)
		}
		return fmt.Errorf("cache: delete: %w", err)
	}
	return nil
}

// Forget is Store's, in one round trip.
func (s *RedisStore) Forget(ctx context.Context, namespace string) error {
	if err := checkNamespace(namespace); err != nil {
		return err
	}
	wish := s.owe(namespace) // before it is sent: nobody here finds an old value meanwhile
	batch := s.debts(namespace)
	if _, ok := batch[namespace]; !ok { // another call paid it, or there are too many to remember
		batch[namespace] = wish
	}
	if err := s.send(ctx, batch); err != nil {
		return fmt.Errorf("cache: forget: %w", err)
	}
	return nil
}

// owe remembers a Forget until Redis took it. What can't be remembered makes this process blind: 0.
func (s *RedisStore) owe(namespace string) (wish uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.owed[namespace]; !ok && len(s.owed) >= maxOwed {
		s.blind = time.Now().Add(MaxTTL)
		return 0
	}
	s.wish++
	s.owed[namespace] = s.wish
	return s.wish
}

var errBlind = errors.New("more namespaces were to be forgotten while Redis was away than are remembered: nothing is found until all that is old is over")

// owes reports whether a namespace is still to be forgotten.
func (s *RedisStore) owes(namespace string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.owed[namespace]
	return ok
}

// sees is nil unless this process is blind.
func (s *RedisStore) sees() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Now().Before(s.blind) {
		return errBlind
	}
	return nil
}

// settle sends Forgets that are owed, this namespace's first.
func (s *RedisStore) settle(ctx context.Context, namespace string) error {
	batch := s.debts(namespace)
	if len(batch) == 0 {
		return nil
	}
	return s.send(ctx, batch)
}

func (s *RedisStore) debts(namespace string) map[string]uint64 {
	batch := map[string]uint64{}
	s.mu.Lock()
	defer s.mu.Unlock()
	if wish, ok := s.owed[namespace]; ok {
		batch[namespace] = wish
	}
	for name, wish := range s.owed {
		if len(batch) >= settleAtOnce {
			break
		}
		batch[name] = wish
	}
	return batch
}

// send gives namespaces new generations.
func (s *RedisStore) send(ctx context.Context, batch map[string]uint64) error {
	err := s.client.Do(ctx, func(ctx context.Context, r goredis.Cmdable) error {
		_, err := r.Pipelined(ctx, func(p goredis.Pipeliner) error {
			for name := range batch {
				p.Set(ctx, s.generationKey(name), newGeneration(), generationLife)
			}
			return nil
		})
		return err
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, wish := range batch {
		if s.owed[name] == wish { // else it was wished again meanwhile, maybe after this was sent
			delete(s.owed, name)
		}
	}
	return nil
}

func (s *RedisStore) valueKey(k Key) string {
	return s.client.Key(s.service, "cache", base64.RawURLEncoding.EncodeToString(s.seal.name(k)))
}

func (s *RedisStore) generationKey(namespace string) string {
	return s.client.Key(s.service, "generation", base64.RawURLEncoding.EncodeToString(s.seal.name(Key{Namespace: namespace})))
}

const generationSize = 16

func newGeneration() string {
	b := make([]byte, generationSize)
	_, _ = rand.Read(b) // never fails
	return string(b)
}
