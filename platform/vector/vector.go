// Package vector finds nearest neighbours among unit vectors.
//
// It compares a query with every vector that the caller allows, so its answers are exact and
// a filter costs nothing but saves work. It stores nothing on disk: its owner rebuilds it.
package vector

import (
	"math"
	"sync"

	"aran/platform/fault"
)

const (
	blockRows = 256  // rows of one block; a scan of one block takes microseconds
	slack     = 1e-3 // how far a unit vector's length may be from 1
)

// Index is an exact scan over unit vectors of one dimension, with SIMD where the machine has it.
// Safe for concurrent use: readers run side by side, a writer waits for them.
type Index struct {
	dim  int
	scan scanFunc

	mu     sync.RWMutex
	ids    []int64       // row → id
	rows   map[int64]int // id → row
	blocks [][]float32   // row r is blocks[r/blockRows][r%blockRows*dim:][:dim]
}

// New makes an empty index.
func New(dim int) *Index {
	return &Index{dim: dim, scan: fastest().scan, rows: make(map[int64]int)}
}

// Put adds or replaces a vector (copied). It fails when the dimension differs or the length is not 1 ± 1e-3.
func (x *Index) Put(id int64, v []float32) error {
	if err := x.check(v); err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if r, ok := x.rows[id]; ok {
		copy(x.row(r), v)
		return nil
	}
	x.rows[id] = len(x.ids)
	x.ids = append(x.ids, id)
	if len(x.ids) > len(x.blocks)*blockRows {
		x.blocks = append(x.blocks, nil)
	}
	last := len(x.blocks) - 1
	x.blocks[last] = append(x.blocks[last], v...)
	return nil
}

// Delete removes ids; those that are not there are ignored.
func (x *Index) Delete(ids ...int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, id := range ids {
		if r, ok := x.rows[id]; ok {
			x.remove(r)
		}
	}
}

// Hit is a neighbour; Score is the cosine.
type Hit struct {
	ID    int64
	Score float32
}

// Search returns the k nearest of those that allow accepts (nil: all), best first, ties by id.
//
// The query is checked like a vector in Put. allow is asked before a vector is scored, in no
// particular order, and must not use the index.
func (x *Index) Search(q []float32, k int, allow func(id int64) bool) ([]Hit, error) {
	if err := x.check(q); err != nil {
		return nil, err
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	k = min(k, len(x.ids))
	if k <= 0 {
		return nil, nil
	}
	best := newTop(k)
	var scores [blockRows]float32
	for b, block := range x.blocks {
		ids := x.ids[b*blockRows : b*blockRows+len(block)/x.dim]
		for next := 0; next < len(ids); {
			from, to := run(ids, next, allow)
			x.scan(q, block[from*x.dim:to*x.dim], scores[:to-from])
			best.offer(ids[from:to], scores[:to-from])
			next = to
		}
	}
	return best.sorted(), nil
}

// Len is how many vectors it holds.
func (x *Index) Len() int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return len(x.ids)
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

// run finds the next rows at or after from that stand together and are allowed: ids[from:to].
func run(ids []int64, from int, allow func(id int64) bool) (start, end int) {
	if allow == nil {
		return from, len(ids)
	}
	for from < len(ids) && !allow(ids[from]) {
		from++
	}
	to := from
	for to < len(ids) && (to == from || allow(ids[to])) {
		to++
	}
	return from, to
}

func (x *Index) check(v []float32) error {
	if len(v) != x.dim || x.dim == 0 {
		return fault.New(fault.Invalid, "vector_dimension", "The vector has %d dimensions; this index holds %d.", len(v), x.dim)
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

func (x *Index) row(r int) []float32 {
	at := r % blockRows * x.dim
	return x.blocks[r/blockRows][at : at+x.dim]
}

// remove puts the last row in the place of row r.
func (x *Index) remove(r int) {
	end := len(x.ids) - 1
	delete(x.rows, x.ids[r])
	if r != end {
		copy(x.row(r), x.row(end))
		x.ids[r] = x.ids[end]
		x.rows[x.ids[r]] = r
	}
	x.ids = x.ids[:end]
	last := len(x.blocks) - 1
	x.blocks[last] = x.blocks[last][:end%blockRows*x.dim]
	if len(x.blocks[last]) == 0 {
		x.blocks[last] = nil
		x.blocks = x.blocks[:last]
	}
}
