package cache_test

import (
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"aran/platform/cache"
)

func wait(d time.Duration) { time.Sleep(d) } //nolint:forbidigo // synctest's clock

func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cache.New[string, int](10, time.Minute)
		c.Put("long", 1)
		c.PutFor("short", 2, time.Second)
		c.PutFor("longer than allowed", 3, time.Hour)
		c.PutFor("not at all", 4, 0)
		wait(time.Second - 1)
		if v, ok := c.Get("short"); !ok || v != 2 {
			t.Errorf("short just before its end: %d, %v", v, ok)
		}
		if _, ok := c.Get("not at all"); ok {
			t.Error("an entry without a life is there")
		}
		wait(1)
		if _, ok := c.Get("short"); ok {
			t.Error("short is there after its end")
		}
		wait(59*time.Second - 1)
		if v, ok := c.Get("long"); !ok || v != 1 {
			t.Errorf("long just before its end: %d, %v", v, ok)
		}
		wait(1)
		for _, k := range []string{"long", "longer than allowed"} {
			if _, ok := c.Get(k); ok {
				t.Errorf("%s is there after its end: reading must not prolong", k)
			}
		}
		if c.Len() != 0 {
			t.Errorf("%d entries are kept after their end was seen", c.Len())
		}
	})
}

func TestBound(t *testing.T) {
	c := cache.New[int, int](3, time.Minute)
	for i := range 3 {
		c.Put(i, i)
	}
	c.Get(0)
	c.Put(1, 11) // 2 is now the least recently used
	c.Put(3, 3)
	for k, want := range map[int]bool{0: true, 1: true, 2: false, 3: true} {
		if _, ok := c.Get(k); ok != want {
			t.Errorf("key %d there: %v, want %v", k, ok, want)
		}
	}
	if v, _ := c.Get(1); v != 11 {
		t.Errorf("key 1 holds %d after it was replaced", v)
	}
}

func TestDelete(t *testing.T) {
	c := cache.New[int, string](10, time.Minute)
	for i := range 6 {
		c.Put(i, "x")
	}
	c.Delete(0)
	c.Delete(0)
	c.DeleteFunc(func(k int, _ string) bool { return k%2 == 1 })
	for k, want := range map[int]bool{0: false, 1: false, 2: true, 3: false, 4: true, 5: false} {
		if _, ok := c.Get(k); ok != want {
			t.Errorf("key %d there: %v, want %v", k, ok, want)
		}
	}
}

// The bound holds under concurrent use, and a value is never another key's.
func TestConcurrent(t *testing.T) {
	c := cache.New[int, int](64, time.Minute)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 1))
			for range 5000 {
				k := r.IntN(200)
				switch r.IntN(4) {
				case 0:
					c.Put(k, k)
				case 1:
					c.Delete(k)
				case 2:
					c.DeleteFunc(func(k, _ int) bool { return k == 7 })
				default:
					if v, ok := c.Get(k); ok && v != k {
						t.Errorf("key %d holds %d", k, v)
					}
				}
				if n := c.Len(); n > 64 {
					t.Errorf("%d entries in a cache of 64", n)
				}
			}
		})
	}
	wg.Wait()
}
