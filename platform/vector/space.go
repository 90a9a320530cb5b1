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
