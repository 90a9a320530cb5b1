// Package cache is a bounded cache with expiry.
//
// It owns a map and the order of use, nothing else: no goroutine, no timer (a cache that nobody asks costs
// no CPU), no loading, no persistence. What is over the bound is dropped by least recent use. Callers scope
// their keys themselves: what belongs to a tenant carries the tenant in the key.
//
// Cache holds any values in this process. A Store holds bytes, in this process (MemoryStore) or in a Redis that
// replicas share (RedisStore): there values are sealed, and what was changed by others is as good as not there.
package cache

import (
	"container/list"
	"sync"
	"time"
)

// Cache holds at most a number of entries, each for at most a time. Safe for concurrent use.
type Cache[K comparable, V any] struct {
	max int
	ttl time.Duration

	mu    sync.Mutex
	byKey map[K]*list.Element
	order *list.List // most recently used first; values are *entry[K, V]
}

type entry[K comparable, V any] struct {
	key     K
	value   V
	expires time.Time
}

// New makes a cache of at least one entry. Entries do not outlive ttl, which must be positive to hold anything.
func New[K comparable, V any](entries int, ttl time.Duration) *Cache[K, V] {
	return &Cache[K, V]{max: max(entries, 1), ttl: ttl, byKey: map[K]*list.Element{}, order: list.New()}
}

// Get returns a live entry.
func (c *Cache[K, V]) Get(k K) (V, bool) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	var none V
	el, ok := c.byKey[k]
	if !ok {
		return none, false
	}
	e := of[K, V](el)
	if !now.Before(e.expires) {
		c.drop(el)
		return none, false
	}
	c.order.MoveToFront(el)
	return e.value, true
}

// Put stores for the cache's time to live; PutFor for a shorter one.
func (c *Cache[K, V]) Put(k K, v V) { c.PutFor(k, v, c.ttl) }

// PutFor stores for d, at most the cache's time to live; with d of zero or less it forgets the key.
func (c *Cache[K, V]) PutFor(k K, v V, d time.Duration) {
	d = min(d, c.ttl)
	if d <= 0 {
		c.Delete(k)
		return
	}
	expires := time.Now().Add(d)
	c.mu.Lock()
	defer c.mu.Unlock()
	if el, ok := c.byKey[k]; ok {
		e := of[K, V](el)
		e.value, e.expires = v, expires
		c.order.MoveToFront(el)
		return
	}
	if c.order.Len() >= c.max {
		c.drop(c.order.Back())
	}
	c.byKey[k] = c.order.PushFront(&entry[K, V]{key: k, value: v, expires: expires})
}

// Delete forgets.
func (c *Cache[K, V]) Delete(k K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if el, ok := c.byKey[k]; ok {
		c.drop(el)
	}
}

// DeleteFunc forgets all entries that match, and those that are over. match must not use the cache.
func (c *Cache[K, V]) DeleteFunc(match func(K, V) bool) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	for el := c.order.Front(); el != nil; {
		next := el.Next()
		if e := of[K, V](el); !now.Before(e.expires) || match(e.key, e.value) {
			c.drop(el)
		}
		el = next
	}
}

// Len counts entries, with those that are over but not yet dropped.
func (c *Cache[K, V]) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.order.Len()
}

func (c *Cache[K, V]) drop(el *list.Element) {
	delete(c.byKey, of[K, V](el).key)
	c.order.Remove(el)
}

func of[K comparable, V any](el *list.Element) *entry[K, V] {
	return el.Value.(*entry[K, V]) // the list holds nothing else
}
