// Package vector finds nearest neighbours among unit vectors: in memory, or in PostgreSQL with pgvector.
//
// What the caller may see is a condition of the search, never a filter on what it found. In memory a query is compared
// with every vector that is allowed, so answers are exact and a condition saves work; nothing is kept on disk, the owner
// rebuilds it. In PostgreSQL vectors are rows of the service's own database, written in the transactions that write
// what they belong to; answers are exact unless very many vectors are allowed.
package vector

import (
	"math"
	"slices"
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
	owners []int64       // row → owner
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
	x.put(Item{ID: id, Vector: v})
	return nil
}

// put adds or replaces what was checked.
func (x *Index) put(i Item) {
	if r, ok := x.rows[i.ID]; ok {
		copy(x.row(r), i.Vector)
		x.owners[r] = i.Owner
		return
	}
	x.rows[i.ID] = len(x.ids)
	x.ids, x.owners = append(x.ids, i.ID), append(x.owners, i.Owner)
	if len(x.ids) > len(x.blocks)*blockRows {
		x.blocks = append(x.blocks, nil)
	}
	last := len(x.blocks) - 1
	x.blocks[last] = append(x.blocks[last], i.Vector...)
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

// deleteOwned removes the vectors of owners.
func (x *Index) deleteOwned(owners map[int64]bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for r, owner := range slices.Backward(x.owners) { // from the end: what fills a gap has been looked at
		if owners[owner] {
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
	return x.search(q, k, x.idKeys, allow)
}

func (x *Index) idKeys() []int64    { return x.ids }
func (x *Index) ownerKeys() []int64 { return x.owners }

// search asks allow about the key of each row.
func (x *Index) search(q []float32, k int, keys func() []int64, allow func(key int64) bool) ([]Hit, error) {
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
		first := b * blockRows
		ids := x.ids[first : first+len(block)/x.dim]
		for next := 0; next < len(ids); {
			from, to := 0, len(ids)
			if allow != nil {
				from, to = run(keys()[first:first+len(ids)], next, allow)
			}
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

// run finds the next rows at or after from that stand together and are allowed: keys[from:to].
func run(keys []int64, from int, allow func(key int64) bool) (start, end int) {
	for from < len(keys) && !allow(keys[from]) {
		from++
	}
	to := from
	for to < len(keys) && (to == from || allow(keys[to])) {
		to++
	}
	return from, to
}

func (x *Index) check(v []float32) error { return check(v, x.dim) }

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
		x.ids[r], x.owners[r] = x.ids[end], x.owners[end]
		x.rows[x.ids[r]] = r
	}
	x.ids, x.owners = x.ids[:end], x.owners[:end]
	last := len(x.blocks) - 1
	x.blocks[last] = x.blocks[last][:end%blockRows*x.dim]
	if len(x.blocks[last]) == 0 {
		x.blocks[last] = nil
		x.blocks = x.blocks[:last]
	}
}
