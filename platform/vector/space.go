package vector

import (
	"context"

	"aran/platform/fault"
)

// Space is a set of unit vectors of one dimension that one model made: vectors of two models never meet.
//
// What may be found is said before anything is ranked: a search looks at the vectors of the owners it is given and at
// no others, so that what a caller may not see neither takes a place among the k nearest nor changes a score. Memory
// and Stored pass the same suite (vectortest). Safe for concurrent use.
type Space interface {
	// Put adds vectors, or replaces those with the same id: all of them or none. Each must have the space's
	// dimension and length 1 ± 1e-3, else it is a fault.Invalid.
	Put(ctx context.Context, items ...Item) error
	// Delete removes all vectors of owners; those that are not there are ignored.
	Delete(ctx context.Context, owners ...int64) error
	// Search returns the k nearest vectors of the owners (nil: all), best first, ties by id. A query of another model
	// or dimension is a fault.Invalid.
	Search(ctx context.Context, q Query, k int, owners []int64) ([]Hit, error)
	// Len is how many vectors it holds.
	Len(ctx context.Context) (int, error)
}

// Item is a vector with its number, and what it belongs to: searches are confined to owners.
type Item struct {
	ID, Owner int64
	Vector    []float32
}

// Query is a unit vector, and the digest of the model that made it.
type Query struct {
	Model  string
	Vector []float32
}

func checkModel(space, query string) error {
	if space != query {
		return fault.New(fault.Invalid, "vector_model", "The query's vector was made by another model than those it would be compared with.").
			Because(modelError{space, query})
	}
	return nil
}

// modelError tells the log which digests they were.
type modelError struct{ space, query string }

// Error implements error.
func (m modelError) Error() string { return "space of " + m.space + ", query of " + m.query }

// Memory is a Space in memory, with an exact scan. It stores nothing: its owner rebuilds it.
type Memory struct {
	model string
	index *Index
}

// NewMemory makes an empty space for the vectors of a model.
func NewMemory(model string, dim int) *Memory { return &Memory{model, New(dim)} }

// Put implements Space; vectors are copied.
func (m *Memory) Put(_ context.Context, items ...Item) error {
	for _, i := range items {
		if err := m.index.check(i.Vector); err != nil {
			return err
		}
	}
	m.index.mu.Lock()
	defer m.index.mu.Unlock()
	for _, i := range items {
		m.index.put(i)
	}
	return nil
}

// Delete implements Space.
func (m *Memory) Delete(_ context.Context, owners ...int64) error {
	m.index.deleteOwned(setOf(owners))
	return nil
}

// Search implements Space; its answers are exact.
func (m *Memory) Search(_ context.Context, q Query, k int, owners []int64) ([]Hit, error) {
	if err := checkModel(m.model, q.Model); err != nil {
		return nil, err
	}
	if owners == nil {
		return m.index.search(q.Vector, k, nil, nil)
	}
	set := setOf(owners)
	last, ok := int64(0), set[0] // vectors of an owner often stand together
	return m.index.search(q.Vector, k, m.index.ownerKeys, func(owner int64) bool {
		if owner != last {
			last, ok = owner, set[owner]
		}
		return ok
	})
}

// Len implements Space.
func (m *Memory) Len(context.Context) (int, error) { return m.index.Len(), nil }

func setOf(ids []int64) map[int64]bool {
	set := make(map[int64]bool, len(ids))
	for _, id := range ids {
		set[id] = true
	}
	return set
}
