package classify

import "math/bits"

// table maps hashes to weights: open addressing, never more than half full. A hash of 0 is not kept.
type table struct {
	keys    []uint64
	weights []float32
	shift   int
	n       int
}

func newTable(n int) *table {
	size := bits.Len(uint(2*n + 1))
	return &table{keys: make([]uint64, 1<<size), weights: make([]float32, 1<<size), shift: 64 - size}
}

// slot is where a hash stands, or the empty place where it would.
func (t *table) slot(h uint64) int {
	at := int(h * 0x9e3779b97f4a7c15 >> t.shift) //nolint:gosec // fewer than the table has
	for t.keys[at] != 0 && t.keys[at] != h {
		at = (at + 1) & (len(t.keys) - 1)
	}
	return at
}

// put says whether the hash is new.
func (t *table) put(h uint64, weight float32) bool {
	at := t.slot(h)
	if h == 0 || t.keys[at] != 0 {
		return false
	}
	t.keys[at], t.weights[at] = h, weight
	t.n++
	return true
}

func (t *table) has(h uint64) bool { return t.keys[t.slot(h)] != 0 }

// get is 0 for what the table does not have.
func (t *table) get(h uint64) float32 { return t.weights[t.slot(h)] }
