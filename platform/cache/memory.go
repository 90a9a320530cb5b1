package cache

import (
	"bytes"
	"container/list"
	"context"
	"strconv"
	"sync"
	"time"
)

const (
	entryCost     = 256    // bytes that an entry takes besides its key and value, roughly
	maxRemembered = 10_000 // namespaces whose last Forget is remembered one by one
)

// MemoryStore is a Store in this process. What is over its bound is dropped by least recent use.
type MemoryStore struct {
	max int64

	mu     sync.Mutex
	size   int64
	byKey  map[Key]*list.Element
	order  *list.List        // most recently used first; values are *stored
	now    uint64            // counts Forgets
	forgot map[string]uint64 // now, right after the last Forget of a namespace
	floor  uint64            // what is older than this is forgotten, whatever its namespace
}

type stored struct {
	key     Key
	value   []byte
	expires time.Time
	since   uint64 // MemoryStore.now when the value's generation began to count
}

// NewMemoryStore holds at most maxBytes, keys and bookkeeping included. A value that is larger alone is not kept.
func NewMemoryStore(maxBytes int64) *MemoryStore {
	return &MemoryStore{max: maxBytes, byKey: map[Key]*list.Element{}, order: list.New(), forgot: map[string]uint64{}}
}

// Get is Store's.
func (m *MemoryStore) Get(_ context.Context, k Key) ([]byte, bool, error) {
	if err := k.check(); err != nil {
		return nil, false, err
	}
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	el, ok := m.byKey[k]
	if !ok {
		return nil, false, nil
	}
	e := storedIn(el)
	if !now.Before(e.expires) || !m.present(k.Namespace, e.since) {
		m.drop(el)
		return nil, false, nil
	}
	m.order.MoveToFront(el)
	return bytes.Clone(e.value), true, nil
}

// Put is Store's.
func (m *MemoryStore) Put(_ context.Context, k Key, value []byte, ttl time.Duration) error {
	return m.put(k, value, ttl, nil)
}

// PutIn is Store's.
func (m *MemoryStore) PutIn(_ context.Context, g Generation, k Key, value []byte, ttl time.Duration) error {
	return m.put(k, value, ttl, &g)
}

func (m *MemoryStore) put(k Key, value []byte, ttl time.Duration, in *Generation) error {
	if err := checkPut(k, value, ttl); err != nil {
		return err
	}
	e := &stored{key: k, value: bytes.Clone(value), expires: time.Now().Add(ttl)}
	m.mu.Lock()
	defer m.mu.Unlock()
	e.since = m.now
	if in != nil {
		since, err := strconv.ParseUint(in.id, 10, 64)
		if err != nil || in.namespace != k.Namespace || !m.present(k.Namespace, since) {
			return nil // a generation that is not this store's is one that is over
		}
		e.since = since
	}
	if el, ok := m.byKey[k]; ok {
		m.drop(el)
	}
	if e.cost() > m.max {
		return nil
	}
	for m.size+e.cost() > m.max {
		m.drop(m.order.Back())
	}
	m.byKey[k] = m.order.PushFront(e)
	m.size += e.cost()
	return nil
}

// Generation is Store's.
func (m *MemoryStore) Generation(_ context.Context, namespace string) (Generation, error) {
	if err := checkNamespace(namespace); err != nil {
		return Generation{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return Generation{namespace, strconv.FormatUint(m.now, 10)}, nil
}

// Delete is Store's.
func (m *MemoryStore) Delete(_ context.Context, keys ...Key) error {
	for _, k := range keys {
		if err := k.check(); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range keys {
		if el, ok := m.byKey[k]; ok {
			m.drop(el)
		}
	}
	return nil
}

// Forget is Store's. Values leave the memory when they are asked for, or by least recent use.
func (m *MemoryStore) Forget(_ context.Context, namespace string) error {
	if err := checkNamespace(namespace); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now++
	if len(m.forgot) >= maxRemembered { // forget all: more than asked for, but never less
		m.floor = m.now
		clear(m.forgot)
		clear(m.byKey)
		m.order.Init()
		m.size = 0
		return nil
	}
	m.forgot[namespace] = m.now
	return nil
}

// Size is the number of bytes that are held.
func (m *MemoryStore) Size() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.size
}

// present reports whether the namespace was not forgotten since.
func (m *MemoryStore) present(namespace string, since uint64) bool {
	return since >= m.floor && since >= m.forgot[namespace]
}

func (m *MemoryStore) drop(el *list.Element) {
	e := storedIn(el)
	delete(m.byKey, e.key)
	m.order.Remove(el)
	m.size -= e.cost()
}

func (e *stored) cost() int64 {
	return int64(len(e.key.Namespace) + len(e.key.Name) + len(e.value) + entryCost)
}

func storedIn(el *list.Element) *stored {
	return el.Value.(*stored) // the list holds nothing else
}
