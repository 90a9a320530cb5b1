package search

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"sync"

	"aran/platform/vector"
)

// indexes holds the vectors of the collections that were searched last. They are derived from the
// database and catch up with it before each search, so that every replica finds the same.
// Safe for concurrent use.
type indexes struct {
	db         db
	maxIndexes int
	maxVectors int

	mu    sync.Mutex
	byKey map[indexKey]*index
	clock int64
}

// indexKey: vectors of another encoder are in another index, so that they can't be compared.
type indexKey struct {
	collection int64
	encoder    string
}

type index struct {
	key  indexKey
	used int64 // guarded by indexes.mu

	mu         sync.RWMutex
	generation int64
	dim        int
	vectors    *vector.Memory
	sizes      map[int64]int // edition → passages
	foreign    bool          // some of the collection has vectors of another encoder
}

func newIndexes(d db, c Config) *indexes {
	return &indexes{db: d, maxIndexes: c.LoadedIndexes, maxVectors: c.LoadedVectors, byKey: map[indexKey]*index{}}
}

// nearest is what an index found.
type nearest struct {
	hits    []vector.Hit
	foreign bool
}

// search finds the k passages of a collection nearest to q, among the allowed editions (nil: all).
func (x *indexes) search(ctx context.Context, c Collection, encoder string, q []float32, k int, allowed []int64) (nearest, error) {
	i := x.use(indexKey{c.id, encoder}, len(q))
	if err := i.catchUp(ctx, x.db, c.generation); err != nil {
		return nearest{}, fmt.Errorf("load vectors of %s: %w", c.Name, err)
	}
	x.evict(ctx, i)
	i.mu.RLock()
	vectors, foreign := i.vectors, i.foreign
	i.mu.RUnlock()
	hits, err := vectors.Search(ctx, vector.Query{Model: encoder, Vector: q}, k, allowed)
	return nearest{hits, foreign}, err
}

func (x *indexes) use(k indexKey, dim int) *index {
	x.mu.Lock()
	defer x.mu.Unlock()
	i, ok := x.byKey[k]
	if !ok {
		i = &index{key: k, dim: dim, generation: -1}
		x.byKey[k] = i
	}
	x.clock++
	i.used = x.clock
	return i
}

// evict drops the indexes that were used longest ago until the bounds hold, but never the one in hand.
func (x *indexes) evict(ctx context.Context, inHand *index) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for len(x.byKey) > 1 {
		total := 0
		var oldest *index
		for _, i := range x.byKey {
			total += i.len(ctx)
			if i != inHand && (oldest == nil || i.used < oldest.used) {
				oldest = i
			}
		}
		if oldest == nil || len(x.byKey) <= x.maxIndexes && total <= x.maxVectors {
			return
		}
		delete(x.byKey, oldest.key)
	}
}

// refresh brings what is loaded of a collection up to date, so that what was deleted leaves the memory too.
func (x *indexes) refresh(ctx context.Context, collection int64) error {
	x.mu.Lock()
	var loaded []*index
	for k, i := range x.byKey {
		if k.collection == collection {
			loaded = append(loaded, i)
		}
	}
	x.mu.Unlock()
	if len(loaded) == 0 {
		return nil
	}
	generation, gone, err := x.db.generation(ctx, collection)
	if err != nil {
		return err
	}
	for _, i := range loaded {
		if gone {
			x.mu.Lock()
			delete(x.byKey, i.key)
			x.mu.Unlock()
		} else if err := i.catchUp(ctx, x.db, generation); err != nil {
			return err
		}
	}
	return nil
}

// clear drops all: another place answers from now on.
func (x *indexes) clear() {
	x.mu.Lock()
	defer x.mu.Unlock()
	clear(x.byKey)
}

// all lists the collections that are loaded.
func (x *indexes) all() map[int64]bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	out := map[int64]bool{}
	for k := range x.byKey {
		out[k.collection] = true
	}
	return out
}

func (i *index) len(ctx context.Context) int {
	i.mu.RLock()
	defer i.mu.RUnlock()
	if i.vectors == nil {
		return 0
	}
	n, _ := i.vectors.Len(ctx) // in memory it does not fail
	return n
}

// catchUp brings the index to a generation of its collection, or to a later one.
func (i *index) catchUp(ctx context.Context, d db, generation int64) error {
	i.mu.RLock()
	current := i.generation >= generation
	i.mu.RUnlock()
	if current {
		return nil
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.generation >= generation {
		return nil
	}
	vectors, sizes, after := i.vectors, i.sizes, i.generation
	if vectors == nil || generation-after > keptGenerations {
		vectors, sizes, after = vector.NewMemory(i.key.encoder, i.dim), map[int64]int{}, -1
	}
	// First what came, then what went: an edition that came and went meanwhile is gone in the end.
	err := d.changed(ctx, i.key.collection, after, i.key.encoder, func(edition int64, part int, packed []byte) error {
		if sizes[edition] > part {
			return nil // its document changed otherwise
		}
		n, err := i.put(ctx, vectors, edition, part, packed)
		sizes[edition] = part + n
		return err
	})
	if err != nil {
		return err
	}
	gone, err := d.gone(ctx, i.key.collection, after)
	if err != nil {
		return err
	}
	if err := vectors.Delete(ctx, gone...); err != nil {
		return err
	}
	for _, e := range gone {
		delete(sizes, e)
	}
	if i.foreign, err = d.foreignVectors(ctx, i.key.collection, i.key.encoder); err != nil {
		return err
	}
	i.vectors, i.sizes, i.generation = vectors, sizes, generation
	return nil
}

// put adds the vectors of a part.
func (i *index) put(ctx context.Context, x *vector.Memory, edition int64, first int, packed []byte) (n int, err error) {
	if len(packed)%(4*i.dim) != 0 {
		return 0, fmt.Errorf("vectors of edition %d: %d bytes are not vectors of %d numbers", edition, len(packed), i.dim)
	}
	p := part{edition: edition, first: first, passages: len(packed) / (4 * i.dim), packed: packed}
	items, _, err := p.items()
	if err != nil {
		return 0, err
	}
	return len(items), x.Put(ctx, items...)
}

func unpack(b []byte, v []float32) {
	for j := range v {
		v[j] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*j:]))
	}
}

// pack appends a vector as float32, little-endian.
func pack(b []byte, v []float32) []byte {
	for _, f := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(f))
	}
	return b
}
