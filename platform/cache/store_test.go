package cache_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"aran/platform/cache"
	"aran/platform/cache/cachetest"
)

func TestMemoryStore(t *testing.T) {
	cachetest.Run(t, cachetest.Setup{
		Open: func(*testing.T) cache.Store { return cache.NewMemoryStore(16 << 20) },
		In:   synctest.Test,
	})
}

// Without synctest's order of things.
func TestMemoryStoreInRealTime(t *testing.T) {
	cachetest.Run(t, cachetest.Setup{
		Open: func(*testing.T) cache.Store { return cache.NewMemoryStore(16 << 20) },
		In:   func(t *testing.T, run func(*testing.T)) { run(t) },
	})
}

func TestMemoryStoreIsBounded(t *testing.T) {
	const most = 100 << 10
	s := cache.NewMemoryStore(most)
	kept := cache.Key{Namespace: "n", Name: "kept"}
	put := func(k cache.Key, size int) {
		t.Helper()
		if err := s.Put(t.Context(), k, make([]byte, size), time.Hour); err != nil {
			t.Fatal(err)
		}
		if s.Size() > most {
			t.Fatalf("%d bytes in a store of %d", s.Size(), most)
		}
	}
	found := func(k cache.Key) bool {
		t.Helper()
		_, ok, err := s.Get(t.Context(), k)
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	put(kept, 1000)
	for i := range 1000 {
		put(cache.Key{Namespace: "n", Name: fmt.Sprint(i)}, i)
		if !found(kept) {
			t.Fatalf("what is used most recently was dropped after %d", i)
		}
	}
	if found(cache.Key{Namespace: "n", Name: "0"}) || !found(cache.Key{Namespace: "n", Name: "999"}) {
		t.Error("it does not drop by least recent use")
	}
	put(cache.Key{Namespace: "n", Name: "999"}, most) // larger than the whole store
	if found(cache.Key{Namespace: "n", Name: "999"}) || !found(kept) {
		t.Error("a value that does not fit: the old one is gone and others stay")
	}
	for i := range 3000 { // keys alone cost, too
		put(cache.Key{Namespace: "m", Name: fmt.Sprint(i)}, 0)
	}
	before := s.Size()
	if err := s.Delete(t.Context(), cache.Key{Namespace: "m", Name: "2999"}); err != nil || s.Size() >= before {
		t.Errorf("a deleted value keeps its room: %v", err)
	}
}

// More namespaces than a store remembers: it forgets more than was asked for, never less.
func TestMemoryStoreForgetsManyNamespaces(t *testing.T) {
	s := cache.NewMemoryStore(1 << 20)
	k := cache.Key{Namespace: "first", Name: "a"}
	g, err := s.Generation(t.Context(), "first")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), k, nil, time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := s.Forget(t.Context(), "first"); err != nil {
		t.Fatal(err)
	}
	for i := range 25_000 {
		if err := s.Forget(t.Context(), fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.PutIn(t.Context(), g, k, nil, time.Hour); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := s.Get(t.Context(), k); ok || err != nil {
		t.Errorf("a forgotten value is found, or %v", err)
	}
	if err := s.Put(t.Context(), k, nil, time.Hour); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := s.Get(t.Context(), k); !ok || err != nil {
		t.Errorf("a new value is not found, or %v", err)
	}
}
