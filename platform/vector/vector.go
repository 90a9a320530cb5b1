// Package vector finds nearest neighbours among unit vectors: in memory, in PostgreSQL with pgvector, or on a server of
// Qdrant's or Pinecone's.
//
// What the caller may see is a condition of the search, never a filter on what it found. In memory a query is compared
// with every vector that is allowed, or led through a graph where those are very many; the graph is kept in a file that
// can be lost, for its owner rebuilds it. In PostgreSQL vectors are rows of the service's own database, written in the
// transactions that write what they belong to. What another server has is made of what the owner has, up to a mark.
package vector

import (
	"math"

	"aran/platform/fault"
)

const slack = 1e-3 // how far a unit vector's length may be from 1

// Hit is a neighbour; Score is the cosine.
type Hit struct {
	ID    int64
	Score float32
}

// Dot returns the inner product; of two unit vectors that is their cosine. It looks at the
// first min(len(a), len(b)) numbers.
func Dot(a, b []float32) float32 {
	n := min(len(a), len(b))
	if n == 0 {
		return 0
	}
	var out [1]float32
	fastest().scan(a[:n], b[:n], out[:])
	return out[0]
}

// check refuses what is not a unit vector of a dimension.
func check(v []float32, dim int) error {
	if len(v) != dim || dim == 0 {
		return fault.New(fault.Invalid, "vector_dimension", "The vector has %d dimensions; those it belongs with have %d.", len(v), dim)
	}
	var ss float64
	for _, f := range v {
		ss += float64(f) * float64(f)
	}
	if d := math.Abs(math.Sqrt(ss) - 1); !(d <= slack) { // not d > slack: NaN must fail
		return fault.New(fault.Invalid, "vector_length", "The vector's length is %.4g; it must be 1.", math.Sqrt(ss))
	}
	return nil
}
