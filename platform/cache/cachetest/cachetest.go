// Package cachetest is what every cache.Store must pass.
package cachetest

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"aran/platform/cache"
)

// Setup says how to test a Store.
type Setup struct {
	Open func(t *testing.T) cache.Store           // an empty one, with room for 16 MiB
	In   func(t *testing.T, run func(*testing.T)) // runs a case: synctest.Test, or plainly where time is real
}

// Run tests a Store.
func Run(t *testing.T, s Setup) {
	t.Helper()
	for _, c := range []struct {
		name string
		run  func(t *testing.T, s cache.Store)
	}{
		{"what was put is found", finds},
		{"values are copied", copies},
		{"a value is over after its time", expires},
		{"delete forgets what it names", deletes},
		{"forget forgets a namespace and no other", forgets},
		{"a value from before a forget is not kept", generations},
		{"keys that look alike are different", keys},
		{"what a store does not keep is refused", refuses},
		{"an empty value is a value", empty},
		{"nobody finds what was forgotten", neverStale},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.In(t, func(t *testing.T) { c.run(t, s.Open(t)) })
		})
	}
}

func wait(d time.Duration) { time.Sleep(d) } //nolint:forbidigo // synctest's clock, or a server's that nothing else can move

func key(namespace, name string) cache.Key { return cache.Key{Namespace: namespace, Name: name} }

func put(t *testing.T, s cache.Store, k cache.Key, value string, ttl time.Duration) {
	t.Helper()
	if err := s.Put(t.Context(), k, []byte(value), ttl); err != nil {
		t.Fatal(err)
	}
}

// expect looks for a value; none is "-".
func expect(t *testing.T, s cache.Store, k cache.Key, want string) {
	t.Helper()
	got, ok, err := s.Get(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	if !ok {
		got = []byte("-")
	}
	if string(got) != want {
		t.Errorf("%.60q: found %.60q, want %.60q", k, got, want)
	}
}

func finds(t *testing.T, s cache.Store) {
	expect(t, s, key("n", "a"), "-")
	put(t, s, key("n", "a"), "1", time.Hour)
	put(t, s, key("n", "b"), "2", cache.MaxTTL)
	expect(t, s, key("n", "a"), "1")
	expect(t, s, key("n", "b"), "2")
	put(t, s, key("n", "a"), "another", time.Hour)
	expect(t, s, key("n", "a"), "another")
	large := strings.Repeat("\x00\xff", cache.MaxValue/2)
	put(t, s, key("n", "large"), large, time.Hour)
	expect(t, s, key("n", "large"), large)
}

func copies(t *testing.T, s cache.Store) {
	value := []byte("mine")
	if err := s.Put(t.Context(), key("n", "a"), value, time.Hour); err != nil {
		t.Fatal(err)
	}
	copy(value, "XXXX")
	got, _, err := s.Get(t.Context(), key("n", "a"))
	if err != nil || string(got) != "mine" {
		t.Fatalf("the store kept the caller's slice: %q, %v", got, err)
	}
	copy(got, "YYYY")
	expect(t, s, key("n", "a"), "mine")
}

func expires(t *testing.T, s cache.Store) {
	put(t, s, key("n", "short"), "1", 300*time.Millisecond)
	put(t, s, key("n", "shortest"), "1", time.Nanosecond)
	put(t, s, key("n", "long"), "1", time.Hour)
	put(t, s, key("n", "shortened"), "1", time.Hour)
	put(t, s, key("n", "shortened"), "2", 300*time.Millisecond)
	put(t, s, key("n", "prolonged"), "1", 300*time.Millisecond)
	put(t, s, key("n", "prolonged"), "2", time.Hour)
	expect(t, s, key("n", "short"), "1")
	wait(310 * time.Millisecond)
	expect(t, s, key("n", "short"), "-")
	expect(t, s, key("n", "shortest"), "-")
	expect(t, s, key("n", "long"), "1")
	expect(t, s, key("n", "shortened"), "-")
	expect(t, s, key("n", "prolonged"), "2")
}

func deletes(t *testing.T, s cache.Store) {
	for _, name := range []string{"a", "b", "c"} {
		put(t, s, key("n", name), name, time.Hour)
	}
	put(t, s, key("m", "a"), "other", time.Hour)
	if err := errors.Join(s.Delete(t.Context(), key("n", "a"), key("n", "b"), key("n", "never there")), s.Delete(t.Context())); err != nil {
		t.Fatal(err)
	}
	expect(t, s, key("n", "a"), "-")
	expect(t, s, key("n", "b"), "-")
	expect(t, s, key("n", "c"), "c")
	expect(t, s, key("m", "a"), "other")
	put(t, s, key("n", "a"), "again", time.Hour)
	expect(t, s, key("n", "a"), "again")
}

func forgets(t *testing.T, s cache.Store) {
	for range 3 {
		put(t, s, key("n", "a"), "1", time.Hour)
		put(t, s, key("n", "b"), "2", time.Hour)
		put(t, s, key("nn", "a"), "3", time.Hour)
		if err := errors.Join(s.Forget(t.Context(), "n"), s.Forget(t.Context(), "never used")); err != nil {
			t.Fatal(err)
		}
		expect(t, s, key("n", "a"), "-")
		expect(t, s, key("n", "b"), "-")
		expect(t, s, key("nn", "a"), "3")
	}
}

func generations(t *testing.T, s cache.Store) {
	generation := func(namespace string) cache.Generation {
		t.Helper()
		g, err := s.Generation(t.Context(), namespace)
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	putIn := func(g cache.Generation, k cache.Key, value string) {
		t.Helper()
		if err := s.PutIn(t.Context(), g, k, []byte(value), time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	g, other := generation("n"), generation("m")
	putIn(g, key("n", "a"), "1")
	expect(t, s, key("n", "a"), "1")
	putIn(g, key("n", "b"), "2")
	if err := s.Forget(t.Context(), "n"); err != nil {
		t.Fatal(err)
	}
	putIn(g, key("n", "a"), "old")
	expect(t, s, key("n", "a"), "-")
	put(t, s, key("n", "a"), "new", time.Hour)
	putIn(g, key("n", "a"), "old")
	expect(t, s, key("n", "a"), "new")
	putIn(other, key("m", "a"), "not forgotten")
	expect(t, s, key("m", "a"), "not forgotten")
	putIn(other, key("n", "c"), "of another namespace")
	putIn(cache.Generation{}, key("n", "c"), "of none")
	expect(t, s, key("n", "c"), "-")
	putIn(generation("n"), key("n", "c"), "3")
	expect(t, s, key("n", "c"), "3")
}

func keys(t *testing.T, s cache.Store) {
	all := []cache.Key{
		key("a", "bc"), key("ab", "c"), key("a:b", "c"), key("a", "b:c"), key("a", "b"), key("A", "b"), key("a ", "b"), key("a", " b"),
		key("\x00", "\x00\x00"), key("\x00\x00", "\x00"), key("a\r\n", "b"), key("*", "?"), key("ä", "ö"), key("\xff", "\xfe"),
		key(strings.Repeat("n", cache.MaxKey), "x"), key("x", strings.Repeat("n", cache.MaxKey)),
	}
	for i, k := range all {
		put(t, s, k, fmt.Sprint(i), time.Hour)
	}
	for i, k := range all {
		expect(t, s, k, fmt.Sprint(i))
	}
}

func refuses(t *testing.T, s cache.Store) {
	ctx, ok := t.Context(), key("n", "a")
	if err := s.Put(ctx, ok, make([]byte, cache.MaxValue+1), time.Hour); !errors.Is(err, cache.ErrTooLarge) {
		t.Errorf("a large value: %v", err)
	}
	for _, ttl := range []time.Duration{0, -time.Second, cache.MaxTTL + 1} {
		if s.Put(ctx, ok, nil, ttl) == nil {
			t.Errorf("a time to live of %s is taken", ttl)
		}
		if g, err := s.Generation(ctx, "n"); err != nil || s.PutIn(ctx, g, ok, nil, ttl) == nil {
			t.Errorf("a time to live of %s is taken, %v", ttl, err)
		}
	}
	long := strings.Repeat("n", cache.MaxKey+1)
	for _, k := range []cache.Key{{}, key("", "a"), key("a", ""), key(long, "a"), key("a", long)} {
		_, _, err := s.Get(ctx, k)
		g, _ := s.Generation(ctx, "a")
		if err == nil || s.Put(ctx, k, nil, time.Hour) == nil || s.PutIn(ctx, g, k, nil, time.Hour) == nil || s.Delete(ctx, ok, k) == nil {
			t.Errorf("%.20q is taken", k)
		}
	}
	for _, n := range []string{"", long} {
		if _, err := s.Generation(ctx, n); err == nil || s.Forget(ctx, n) == nil {
			t.Errorf("a namespace of %d bytes is taken", len(n))
		}
	}
	expect(t, s, ok, "-")
}

func empty(t *testing.T, s cache.Store) {
	for _, value := range [][]byte{nil, {}} {
		if err := s.Put(t.Context(), key("n", "a"), value, time.Hour); err != nil {
			t.Fatal(err)
		}
		if got, ok, err := s.Get(t.Context(), key("n", "a")); err != nil || !ok || !bytes.Equal(got, nil) {
			t.Errorf("%v: %v, %v, %v", value, got, ok, err)
		}
	}
}

// neverStale has readers that fill the cache from a source, and a writer that changes the source and then has the
// cache forget. What a reader finds is never older than what the source had when the last Forget was done.
func neverStale(t *testing.T, s cache.Store) {
	var source, done atomic.Int64
	var found atomic.Int64
	stop := make(chan struct{})
	var readers sync.WaitGroup
	k := key("n", "a")
	read := func() error {
		least := done.Load()
		got, ok, err := s.Get(t.Context(), k)
		if err != nil {
			return err
		}
		if ok {
			found.Add(1)
			var v int64
			if _, err := fmt.Sscan(string(got), &v); err != nil {
				return err
			}
			if v < least {
				return fmt.Errorf("found %d, and %d was forgotten", v, least-1)
			}
			return nil
		}
		g, err := s.Generation(t.Context(), k.Namespace)
		if err != nil {
			return err
		}
		v := fmt.Sprint(source.Load())
		wait(time.Microsecond) // a source takes its time
		return s.PutIn(t.Context(), g, k, []byte(v), time.Hour)
	}
	for range 8 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := read(); err != nil {
					t.Error(err)
					return
				}
				wait(time.Microsecond)
			}
		})
	}
	for range 300 {
		v := source.Add(1)
		if err := s.Forget(t.Context(), k.Namespace); err != nil {
			t.Error(err)
		}
		done.Store(v)
		wait(200 * time.Microsecond)
	}
	close(stop)
	readers.Wait()
	if found.Load() == 0 {
		t.Error("nothing was ever found: this showed nothing")
	}
}
