package cache_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"aran/platform/cache"
	"aran/platform/cache/cachetest"
	"aran/platform/fault"
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

func newKey() []byte {
	b := make([]byte, 32)
	_, _ = rand.Read(b)
	return b
}

func newStore(tb testing.TB, c *redis.Client, service string, key []byte) *cache.RedisStore {
	tb.Helper()
	s, err := cache.NewRedisStore(c, service, key)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// do runs commands behind the store's back.
func do(tb testing.TB, c *redis.Client, fn func(ctx context.Context, r goredis.Cmdable) error) {
	tb.Helper()
	if err := c.Do(tb.Context(), fn); err != nil {
		tb.Fatal(err)
	}
}

// valueKeys lists what stands for values in Redis.
func valueKeys(tb testing.TB, c *redis.Client) (keys []string) {
	tb.Helper()
	do(tb, c, func(ctx context.Context, r goredis.Cmdable) (err error) {
		keys, err = r.Keys(ctx, "aran:*:cache:*").Result()
		return err
	})
	return keys
}

func raw(tb testing.TB, c *redis.Client, key string) (v string) {
	tb.Helper()
	do(tb, c, func(ctx context.Context, r goredis.Cmdable) (err error) {
		v, err = r.Get(ctx, key).Result()
		return err
	})
	return v
}

func plant(tb testing.TB, c *redis.Client, key, value string) {
	tb.Helper()
	do(tb, c, func(ctx context.Context, r goredis.Cmdable) error { return r.Set(ctx, key, value, time.Hour).Err() })
}

func mustPut(tb testing.TB, s cache.Store, k cache.Key, value string) {
	tb.Helper()
	if err := s.Put(tb.Context(), k, []byte(value), time.Hour); err != nil {
		tb.Fatal(err)
	}
}

// lookup returns "-" for none.
func lookup(tb testing.TB, s cache.Store, k cache.Key) string {
	tb.Helper()
	v, ok, err := s.Get(tb.Context(), k)
	if err != nil {
		tb.Fatal(err)
	}
	if !ok {
		return "-"
	}
	return string(v)
}

func TestRedisStore(t *testing.T) {
	c := connect(t, redistest.Start(t))
	opened := 0
	cachetest.Run(t, cachetest.Setup{
		Open: func(t *testing.T) cache.Store {
			opened++
			return newStore(t, c, fmt.Sprint("case", opened), newKey())
		},
		In: func(t *testing.T, run func(*testing.T)) { run(t) },
	})
}

// replicas is a Store that goes to one of several at every call.
type replicas struct {
	cache.Store
	others chan cache.Store
}

func (r replicas) with(fn func(cache.Store)) {
	s := <-r.others
	defer func() { r.others <- s }()
	fn(s)
}

func (r replicas) Get(ctx context.Context, k cache.Key) (v []byte, ok bool, err error) {
	r.with(func(s cache.Store) { v, ok, err = s.Get(ctx, k) })
	return v, ok, err
}

func (r replicas) Forget(ctx context.Context, namespace string) (err error) {
	r.with(func(s cache.Store) { err = s.Forget(ctx, namespace) })
	return err
}

// Several replicas of a service are one Store.
func TestReplicas(t *testing.T) {
	url := redistest.Start(t)
	opened := 0
	cachetest.Run(t, cachetest.Setup{
		Open: func(t *testing.T) cache.Store {
			opened++
			service, key := fmt.Sprint("case", opened), newKey()
			r := replicas{newStore(t, connect(t, url), service, key), make(chan cache.Store, 3)}
			for range cap(r.others) {
				r.others <- newStore(t, connect(t, url), service, key)
			}
			return r
		},
		In: func(t *testing.T, run func(*testing.T)) { run(t) },
	})
}

func TestARedisStoreNeedsAKey(t *testing.T) {
	c := connect(t, "redis://127.0.0.1:1")
	for _, n := range []int{0, 16, 31, 33} {
		if _, err := cache.NewRedisStore(c, "gateway", make([]byte, n)); err == nil {
			t.Errorf("a key of %d bytes is taken", n)
		}
	}
}

func TestRedisSeesNothing(t *testing.T) {
	s := redistest.Start(t)
	c := connect(t, s)
	store := newStore(t, c, "gateway", newKey())
	const content = "the patient is called Alice"
	mustPut(t, store, cache.Key{Namespace: "tenant-of-alice", Name: "question-of-alice"}, content)
	mustPut(t, store, cache.Key{Namespace: "tenant-of-alice", Name: "another"}, content)
	var all []string
	do(t, c, func(ctx context.Context, r goredis.Cmdable) (err error) {
		all, err = r.Keys(ctx, "*").Result()
		return err
	})
	if len(all) != 3 {
		t.Fatalf("keys %q: want two values and a generation", all)
	}
	var seen []string
	for _, k := range all {
		v := raw(t, c, k)
		seen = append(seen, v)
		if strings.Contains(k+v, "alice") || strings.Contains(v, "Alice") {
			t.Errorf("Redis sees %q: %q", k, v)
		}
		do(t, c, func(ctx context.Context, r goredis.Cmdable) error {
			ttl, err := r.PTTL(ctx, k).Result()
			if ttl <= 0 || ttl > 2*cache.MaxTTL {
				t.Errorf("%s goes in %s", k, ttl)
			}
			return err
		})
	}
	for i, v := range seen {
		for _, w := range seen[:i] {
			if n := min(len(v), len(w)); n > 40 && bytes.Equal([]byte(v[16:n]), []byte(w[16:n])) {
				t.Error("the same content looks the same")
			}
		}
	}
}

// Whatever somebody with access to Redis does to a value, it is not found, or it is what was put there.
func TestTampering(t *testing.T) {
	c := connect(t, redistest.Start(t))
	key := newKey()
	s := newStore(t, c, "gateway", key)
	k := cache.Key{Namespace: "n", Name: "a"}
	mustPut(t, s, k, "true")
	at := valueKeys(t, c)[0]
	good := raw(t, c, at)
	check := func(name, planted string) {
		t.Helper()
		plant(t, c, at, planted)
		if got := lookup(t, s, k); got != "-" {
			t.Errorf("%s: %q is found", name, got)
		}
	}
	for i := range len(good) {
		b := []byte(good)
		b[i] ^= 1
		check(fmt.Sprint("a bit of byte ", i), string(b))
	}
	for n := range len(good) {
		check(fmt.Sprint("cut to ", n), good[:n])
	}
	check("something at the end", good+"x")
	check("twice", good+good)
	check("nothing of ours", "true")
	plant(t, c, at, good)
	if got := lookup(t, s, k); got != "true" {
		t.Fatalf("as it was: %q: the test shows nothing", got)
	}

	t.Run("moved to another key", func(t *testing.T) {
		other := cache.Key{Namespace: "n", Name: "b"}
		mustPut(t, s, other, "of b")
		for _, to := range valueKeys(t, c) {
			plant(t, c, to, good)
		}
		if got := lookup(t, s, other); got != "-" {
			t.Errorf("b finds %q", got)
		}
		if got := lookup(t, s, k); got != "true" {
			t.Errorf("a finds %q: the test shows nothing", got)
		}
	})
	t.Run("moved to another service with the same key", func(t *testing.T) {
		user := newStore(t, c, "user", key)
		mustPut(t, user, k, "of user")
		moveAll(t, c, at, "aran:user:")
		if got := lookup(t, user, k); got != "-" {
			t.Errorf("user finds %q", got)
		}
	})
	t.Run("moved to a store with another key", func(t *testing.T) {
		search := newStore(t, c, "search", newKey())
		mustPut(t, search, k, "of search")
		moveAll(t, c, at, "aran:search:")
		if got := lookup(t, search, k); got != "-" {
			t.Errorf("search finds %q", got)
		}
	})
	t.Run("a value from before a forget, under the new generation", func(t *testing.T) {
		plant(t, c, at, good)
		if err := s.Forget(t.Context(), "n"); err != nil {
			t.Fatal(err)
		}
		mustPut(t, s, k, "new")
		fresh := raw(t, c, at)
		plant(t, c, at, fresh[:16]+good[16:])
		if got := lookup(t, s, k); got != "-" {
			t.Errorf("%q is found", got)
		}
		plant(t, c, at, good)
		if got := lookup(t, s, k); got != "-" {
			t.Errorf("%q is found", got)
		}
	})
	t.Run("something large", func(t *testing.T) {
		fresh := func() string { mustPut(t, s, k, "new"); return raw(t, c, at)[:16] }()
		plant(t, c, at, fresh+strings.Repeat("x", 8<<20))
		before := outputBytes(t, c)
		if got := lookup(t, s, k); got != "-" {
			t.Errorf("%.20q is found", got)
		}
		if n := outputBytes(t, c) - before; n > 1<<20 {
			t.Errorf("%d bytes were fetched to find nothing", n)
		}
	})
	t.Run("another type", func(t *testing.T) {
		for _, pattern := range []string{"aran:gateway:cache:*", "aran:gateway:generation:*"} {
			mustPut(t, s, k, "new")
			do(t, c, func(ctx context.Context, r goredis.Cmdable) error {
				keys, err := r.Keys(ctx, pattern).Result()
				for _, at := range keys {
					err = errors.Join(err, r.Del(ctx, at).Err(), r.LPush(ctx, at, "x").Err())
				}
				return err
			})
			if got := lookup(t, s, k); got != "-" {
				t.Errorf("%s: %q is found", pattern, got)
			}
			mustPut(t, s, k, "again")
			if got := lookup(t, s, k); got != "again" {
				t.Errorf("%s: afterwards %q is found", pattern, got)
			}
		}
	})
}

// moveAll puts the value at from, and its generation, where another store has its own.
func moveAll(t *testing.T, c *redis.Client, from, prefix string) {
	t.Helper()
	value := raw(t, c, from)
	do(t, c, func(ctx context.Context, r goredis.Cmdable) error {
		keys, err := r.Keys(ctx, prefix+"*").Result()
		if len(keys) != 2 {
			t.Errorf("keys %q: want a value and a generation", keys)
		}
		for _, k := range keys {
			v := value
			if strings.Contains(k, ":generation:") {
				v = value[:16]
			}
			err = errors.Join(err, r.Set(ctx, k, v, time.Hour).Err())
		}
		return err
	})
}

func outputBytes(t *testing.T, c *redis.Client) (n int64) {
	t.Helper()
	do(t, c, func(ctx context.Context, r goredis.Cmdable) error {
		info, err := r.Info(ctx, "stats").Result()
		if err != nil {
			return err
		}
		_, after, _ := strings.Cut(info, "total_net_output_bytes:")
		_, err = fmt.Sscan(after, &n)
		return err
	})
	return n
}

// A value's end is sealed with it: Redis can't keep it alive.
func TestTheEndIsSealed(t *testing.T) {
	c := connect(t, redistest.Start(t))
	s := newStore(t, c, "gateway", newKey())
	k := cache.Key{Namespace: "n", Name: "a"}
	if err := s.Put(t.Context(), k, []byte("v"), 200*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	end := time.After(250 * time.Millisecond)
	at := valueKeys(t, c)[0]
	do(t, c, func(ctx context.Context, r goredis.Cmdable) error { return r.Persist(ctx, at).Err() })
	if got := lookup(t, s, k); got != "v" {
		t.Fatalf("before its end: %q", got)
	}
	<-end
	if got := lookup(t, s, k); got != "-" {
		t.Errorf("after its end: %q", got)
	}
	if raw(t, c, at) == "" {
		t.Error("Redis dropped it: the test shows nothing")
	}
}

// What Redis loses is a miss; a generation that it lost does not come back with the next.
func TestRedisForgets(t *testing.T) {
	c := connect(t, redistest.Start(t))
	s := newStore(t, c, "gateway", newKey())
	k := cache.Key{Namespace: "n", Name: "a"}
	mustPut(t, s, k, "old")
	do(t, c, func(ctx context.Context, r goredis.Cmdable) error {
		keys, err := r.Keys(ctx, "*:generation:*").Result()
		return errors.Join(err, r.Del(ctx, keys...).Err())
	})
	if got := lookup(t, s, k); got != "-" {
		t.Errorf("without its generation: %q", got)
	}
	mustPut(t, s, cache.Key{Namespace: "n", Name: "b"}, "new")
	if got := lookup(t, s, k); got != "-" {
		t.Errorf("with another generation: %q", got)
	}
}

// eventually waits until cond holds.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !cond(); <-time.After(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

// While Redis is away every call is an error soon, and nothing is found.
func TestRedisAway(t *testing.T) {
	for _, c := range []struct {
		name       string
		take, give func(*redistest.Server)
	}{
		{"killed", (*redistest.Server).Kill, (*redistest.Server).Restart},
		{"hangs", (*redistest.Server).Pause, (*redistest.Server).Resume},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := redistest.Launch(t)
			s := newStore(t, connect(t, server.URL()), "gateway", newKey())
			k := cache.Key{Namespace: "n", Name: "a"}
			mustPut(t, s, k, "v")
			g, err := s.Generation(t.Context(), "n")
			if err != nil {
				t.Fatal(err)
			}
			c.take(server)
			began := time.Now()
			for range 50 {
				one := time.Now()
				v, ok, err := s.Get(t.Context(), k)
				if ok || v != nil || fault.KindOf(err) != fault.Unavailable {
					t.Fatalf("Get: %q, %v, %v", v, ok, err)
				}
				_, gerr := s.Generation(t.Context(), "n")
				for name, err := range map[string]error{
					"Put": s.Put(t.Context(), k, nil, time.Hour), "PutIn": s.PutIn(t.Context(), g, k, nil, time.Hour), "Generation": gerr,
				} {
					if fault.KindOf(err) != fault.Unavailable {
						t.Fatalf("%s: %v", name, err)
					}
				}
				if d := time.Since(one); d > 5*time.Second {
					t.Errorf("four calls took %s", d)
				}
			}
			if d := time.Since(began); d > 10*time.Second {
				t.Errorf("200 calls took %s", d)
			}
			c.give(server)
			eventually(t, "back to normal", func() bool {
				_, _, err := s.Get(t.Context(), k)
				return err == nil
			})
			mustPut(t, s, k, "new")
			if got := lookup(t, s, k); got != "new" {
				t.Errorf("afterwards %q", got)
			}
		})
	}
}

// A Forget or Delete that Redis did not take is made good when it is back: this replica never finds the old
// value, and the next call of it, whatever it is about, tells the other replicas.
func TestWhatWasForgottenWhileAwayStaysForgotten(t *testing.T) {
	k := cache.Key{Namespace: "n", Name: "a"}
	for name, forget := range map[string]func(ctx context.Context, s cache.Store) error{
		"Forget": func(ctx context.Context, s cache.Store) error { return s.Forget(ctx, "n") },
		"Delete": func(ctx context.Context, s cache.Store) error { return s.Delete(ctx, k) },
	} {
		t.Run(name, func(t *testing.T) {
			server := redistest.Launch(t)
			key := newKey()
			here, there := newStore(t, connect(t, server.URL()), "gateway", key), newStore(t, connect(t, server.URL()), "gateway", key)
			mustPut(t, here, k, "old")
			if got := lookup(t, there, k); got != "old" {
				t.Fatalf("the other replica finds %q", got)
			}
			server.Pause() // what is in it stays
			if err := forget(t.Context(), here); fault.KindOf(err) != fault.Unavailable {
				t.Fatalf("while Redis hangs: %v", err)
			}
			// the command may lie in the socket of the hanging server: let it be lost there, so that only what is
			// remembered counts
			server.Resume()
			mustRestore(t, there, k)
			eventually(t, "the next call tells the others", func() bool {
				if _, ok, err := here.Get(t.Context(), cache.Key{Namespace: "another", Name: "x"}); ok {
					t.Fatalf("found what was never put, %v", err)
				}
				if got, ok, _ := here.Get(t.Context(), k); ok {
					t.Fatalf("%s, and here %q is found", name, got)
				}
				_, ok, err := there.Get(t.Context(), k)
				return err == nil && !ok
			})
		})
	}
}

// mustRestore waits until Redis serves, and puts the old value back, as if Redis had never seen a command that it
// read too late.
func mustRestore(t *testing.T, s cache.Store, k cache.Key) {
	t.Helper()
	eventually(t, "Redis serves again", func() bool { return s.Put(t.Context(), k, []byte("old"), time.Hour) == nil })
}

// More is to be forgotten than is remembered: then nothing is found rather than something old, and later
// Forgets reach the other replicas all the same.
func TestMoreIsOwedThanIsRemembered(t *testing.T) {
	server := redistest.Launch(t)
	key := newKey()
	here, there := newStore(t, connect(t, server.URL()), "gateway", key), newStore(t, connect(t, server.URL()), "gateway", key)
	k, last := cache.Key{Namespace: "n", Name: "a"}, cache.Key{Namespace: "last", Name: "a"}
	server.Kill()
	for i := range 10_000 {
		if here.Forget(t.Context(), fmt.Sprint(i)) == nil {
			t.Fatal("Forget works without Redis")
		}
	}
	if here.Forget(t.Context(), last.Namespace) == nil {
		t.Fatal("Forget works without Redis")
	}
	server.Restart()
	eventually(t, "Redis serves again", func() bool { return there.Put(t.Context(), last, []byte("old"), time.Hour) == nil })
	mustPut(t, there, k, "v")
	if v, ok, err := here.Get(t.Context(), last); ok || err == nil {
		t.Errorf("%q is found, %v", v, err)
	}
	eventually(t, "Forget works", func() bool { return here.Forget(t.Context(), last.Namespace) == nil })
	if got := lookup(t, there, last); got != "-" {
		t.Errorf("the other replica finds %q", got)
	}
	if got := lookup(t, there, k); got != "v" {
		t.Errorf("the other replica finds %q of another namespace", got)
	}
}

func BenchmarkRedisStore(b *testing.B) {
	s := newStore(b, connect(b, redistest.Start(b)), "gateway", newKey())
	k := cache.Key{Namespace: "n", Name: "a"}
	mustPut(b, s, k, strings.Repeat("x", 4<<10))
	for b.Loop() {
		if _, ok, err := s.Get(b.Context(), k); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}
