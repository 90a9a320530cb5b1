package vector

import (
	"slices"
	"time"
)

// SetExact changes how many vectors are compared one by one, so that a test need not store so many.
func (t *Table) SetExact(n int) { t.exact = n }

// Bytes is a vector as it lies in a file.
func Bytes(v []float32) []byte { return slices.Clone(asBytes(v)) }

// Rested lets the file be written again at once.
func (m *Memory) Rested() { m.rest = time.Time{} }

// Exact scores all with the kernel of the exact scan, and sorts them.
func Exact(q []float32, all map[int64][]float32, k int) []Hit {
	best := newTop(k)
	for id, v := range all {
		best.offer([]int64{id}, []float32{Dot(q, v)})
	}
	return best.sorted()
}
