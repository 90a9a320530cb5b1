// Package cache is a bounded cache with expiry.
package cache

import "time"

// Cache holds at most a number of entries, each for at most a time. Safe for concurrent use.
type Cache[K comparable, V any] struct{}

// New makes a cache.
func New[K comparable, V any](entries int, ttl time.Duration) *Cache[K, V] { panic("not built") }

// Get returns a live entry.
func (c *Cache[K, V]) Get(k K) (V, bool) { panic("not built") }

// Put stores for the cache's time to live; PutFor for a shorter one.
func (c *Cache[K, V]) Put(k K, v V) { panic("not built") }

// PutFor stores for d.
func (c *Cache[K, V]) PutFor(k K, v V, d time.Duration) { panic("not built") }

// Delete forgets.
func (c *Cache[K, V]) Delete(k K) { panic("not built") }

// DeleteFunc forgets all entries that match.
func (c *Cache[K, V]) DeleteFunc(match func(K, V) bool) { panic("not built") }
