// Package vector finds nearest neighbours among unit vectors.
package vector

// Index is an exact scan over unit vectors of one dimension, with SIMD where the machine has it. Safe for concurrent use.
type Index struct{}

// New makes an empty index.
func New(dim int) *Index { panic("not built") }

// Put adds or replaces a vector (copied). It fails when the dimension differs or the length is not 1 ± 1e-3.
func (x *Index) Put(id int64, v []float32) error { panic("not built") }

// Delete removes ids; those that are not there are ignored.
func (x *Index) Delete(ids ...int64) { panic("not built") }

// Hit is a neighbour; Score is the cosine.
type Hit struct {
	ID    int64
	Score float32
}

// Search returns the k nearest of those that allow accepts (nil: all), best first, ties by id.
func (x *Index) Search(q []float32, k int, allow func(id int64) bool) ([]Hit, error) {
	panic("not built")
}

// Len is how many vectors it holds.
func (x *Index) Len() int { panic("not built") }
