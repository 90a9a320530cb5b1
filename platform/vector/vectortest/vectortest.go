// Package vectortest is what every vector index must pass.
//
// An index passes when it cannot be told from the plain list of its vectors, sorted by cosine.
package vectortest

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"aran/platform/vector"
)

// Index is what the suite needs of an index.
type Index interface {
	Put(id int64, v []float32) error
	Delete(ids ...int64)
	Search(q []float32, k int, allow func(id int64) bool) ([]vector.Hit, error)
	Len() int
}

// Run tests an index; open makes an empty one.
func Run(t *testing.T, open func(dim int) Index) {
	t.Helper()
	t.Run("an empty index answers nothing", func(t *testing.T) { empty(t, open(4)) })
	t.Run("what is not a unit vector is refused", func(t *testing.T) { refuses(t, open(3)) })
	t.Run("a vector is copied", func(t *testing.T) { copies(t, open(3)) })
	t.Run("ties go by id", func(t *testing.T) { ties(t, open(5)) })
	t.Run("only what is allowed is asked for and found", func(t *testing.T) { allows(t, open(16)) })
	t.Run("it equals a sorted list through puts and deletes", func(t *testing.T) {
		for _, dim := range []int{1, 7, 33, 384} {
			equals(t, open(dim), dim)
		}
	})
	t.Run("readers and writers do not disturb each other", func(t *testing.T) { concurrent(t, open(24)) })
}

// Unit returns a random unit vector.
func Unit(rnd *rand.Rand, dim int) []float32 {
	for {
		v := make([]float32, dim)
		var ss float64
		for i := range v {
			v[i] = float32(rnd.NormFloat64())
			ss += float64(v[i]) * float64(v[i])
		}
		if ss < 1e-3 {
			continue
		}
		for i := range v {
			v[i] = float32(float64(v[i]) / math.Sqrt(ss))
		}
		return v
	}
}

// random is the same each time.
func random(a, b uint64) *rand.Rand {
	return rand.New(rand.NewPCG(a, b)) //nolint:gosec // test data, not secrets
}

func empty(t *testing.T, x Index) {
	hits, err := x.Search([]float32{1, 0, 0, 0}, 10, nil)
	if err != nil || len(hits) != 0 || x.Len() != 0 {
		t.Errorf("Search = %v, %v, Len = %d; want nothing", hits, err, x.Len())
	}
	x.Delete(1, 2)
	put(t, x, 1, []float32{0, 1, 0, 0})
	x.Delete(1, 1)
	if hits, err := x.Search([]float32{1, 0, 0, 0}, 10, nil); err != nil || len(hits) != 0 || x.Len() != 0 {
		t.Errorf("after the last delete: %v, %v, Len = %d; want nothing", hits, err, x.Len())
	}
}

func refuses(t *testing.T, x Index) {
	nan := float32(math.NaN())
	put(t, x, 1, []float32{1, 0, 0})
	for _, v := range [][]float32{nil, {1, 0}, {1, 0, 0, 0}, {0, 0, 0}, {1, 1, 0}, {0.99, 0, 0}, {nan, 0, 0}, {1, nan, 0}, {float32(math.Inf(1)), 0, 0}} {
		if err := x.Put(2, v); err == nil {
			t.Errorf("Put(%v) was taken", v)
		}
		if _, err := x.Search(v, 1, nil); err == nil {
			t.Errorf("Search(%v) was taken", v)
		}
	}
	if x.Len() != 1 {
		t.Errorf("Len = %d after refused puts, want 1", x.Len())
	}
	put(t, x, 2, []float32{0.9995, 0, 0})
	if hits, err := x.Search([]float32{1, 0, 0}, 0, nil); err != nil || len(hits) != 0 {
		t.Errorf("k = 0: %v, %v; want nothing", hits, err)
	}
	if hits, err := x.Search([]float32{1, 0, 0}, -1, nil); err != nil || len(hits) != 0 {
		t.Errorf("k = -1: %v, %v; want nothing", hits, err)
	}
}

func copies(t *testing.T, x Index) {
	v := []float32{1, 0, 0}
	put(t, x, 1, v)
	v[0], v[1] = 0, 1
	hits, err := x.Search([]float32{1, 0, 0}, 1, nil)
	if err != nil || len(hits) != 1 || hits[0] != (vector.Hit{ID: 1, Score: 1}) {
		t.Errorf("Search = %v, %v; the caller's change went into the index", hits, err)
	}
}

func ties(t *testing.T, x Index) {
	v := Unit(random(1, 2), 5)
	for _, id := range []int64{9, -3, 700, 4, 0} {
		put(t, x, id, v)
	}
	hits, err := x.Search(v, 4, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := ids(hits); !slices.Equal(got, []int64{-3, 0, 4, 9}) {
		t.Errorf("equal vectors came as %v, want the lowest ids in order", got)
	}
}

func allows(t *testing.T, x Index) {
	rnd := random(3, 4)
	for id := range int64(1000) {
		put(t, x, id, Unit(rnd, 16))
	}
	asked := make(map[int64]int)
	hits, err := x.Search(Unit(rnd, 16), 50, func(id int64) bool {
		asked[id]++
		return id%7 == 0
	})
	if err != nil || len(hits) != 50 {
		t.Fatalf("%d hits, %v; want 50", len(hits), err)
	}
	for _, h := range hits {
		if h.ID%7 != 0 {
			t.Errorf("%d was found, though not allowed", h.ID)
		}
	}
	if len(asked) != 1000 {
		t.Errorf("allow was asked about %d ids, want each", len(asked))
	}
	if hits, err := x.Search(Unit(rnd, 16), 50, func(int64) bool { return false }); err != nil || len(hits) != 0 {
		t.Errorf("nothing allowed: %v, %v", hits, err)
	}
}

func equals(t *testing.T, x Index, dim int) {
	rnd := random(5, uint64(dim)) //nolint:gosec // not negative
	want := make(map[int64][]float32)
	for step := range 2500 {
		id := rnd.Int64N(900)
		if rnd.IntN(3) == 0 {
			other := rnd.Int64N(900)
			x.Delete(id, other)
			delete(want, id)
			delete(want, other)
		} else {
			v := Unit(rnd, dim)
			put(t, x, id, v)
			want[id] = v
		}
		if step%250 != 249 {
			continue
		}
		if x.Len() != len(want) {
			t.Fatalf("dim %d: Len = %d, want %d", dim, x.Len(), len(want))
		}
		q, mod := Unit(rnd, dim), rnd.Int64N(3)+1
		hits, err := x.Search(q, 20, func(id int64) bool { return id%mod == 0 })
		if err != nil {
			t.Fatal(err)
		}
		same(t, hits, list(want, q, 20, mod))
	}
}

// list is the slow truth, in float64.
func list(all map[int64][]float32, q []float32, k int, mod int64) []vector.Hit {
	var hits []vector.Hit
	for id, v := range all {
		if id%mod != 0 {
			continue
		}
		var s float64
		for i := range v {
			s += float64(q[i]) * float64(v[i])
		}
		hits = append(hits, vector.Hit{ID: id, Score: float32(s)})
	}
	slices.SortFunc(hits, func(a, b vector.Hit) int {
		return cmp.Or(cmp.Compare(b.Score, a.Score), cmp.Compare(a.ID, b.ID))
	})
	return hits[:min(k, len(hits))]
}

// same allows two hits to change places when rounding alone tells them apart.
func same(t *testing.T, got, want []vector.Hit) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d hits, want %d", len(got), len(want))
	}
	for i := range got {
		if d := math.Abs(float64(got[i].Score - want[i].Score)); d > 1e-5 {
			t.Errorf("hit %d: score %v, want %v", i, got[i].Score, want[i].Score)
		}
		near := func(h vector.Hit) bool {
			return h.ID == got[i].ID && math.Abs(float64(h.Score-got[i].Score)) < 1e-5
		}
		if i < len(got)-1 && !slices.ContainsFunc(want, near) {
			t.Errorf("hit %d: id %d is not among the nearest", i, got[i].ID)
		}
	}
}

func concurrent(t *testing.T, x Index) {
	var wg sync.WaitGroup
	for w := range 4 {
		rnd := random(6, uint64(w))
		wg.Go(func() { // each writer owns a range of ids
			for i := range 400 {
				id := int64(w*1000 + i%150)
				if err := x.Put(id, Unit(rnd, 24)); err != nil {
					t.Error(err)
				}
				if i%3 == 0 {
					x.Delete(id)
				}
			}
		})
		look := random(7, uint64(w))
		wg.Go(func() {
			for range 100 {
				hits, err := x.Search(Unit(look, 24), 10, nil)
				if err != nil {
					t.Error(err)
				}
				for i := 1; i < len(hits); i++ {
					if hits[i].Score > hits[i-1].Score {
						t.Errorf("hits out of order: %v", hits)
					}
				}
			}
		})
	}
	wg.Wait()
	if want := 4 * (150 - deleted()); x.Len() != want {
		t.Errorf("Len = %d, want %d", x.Len(), want)
	}
}

// deleted counts the ids of one writer whose last step was a delete.
func deleted() int {
	gone := make(map[int]bool)
	for i := range 400 {
		gone[i%150] = i%3 == 0
	}
	n := 0
	for _, g := range gone {
		if g {
			n++
		}
	}
	return n
}

func put(t *testing.T, x Index, id int64, v []float32) {
	t.Helper()
	if err := x.Put(id, v); err != nil {
		t.Fatal(err)
	}
}

func ids(hits []vector.Hit) []int64 {
	out := make([]int64, len(hits))
	for i, h := range hits {
		out[i] = h.ID
	}
	return out
}
