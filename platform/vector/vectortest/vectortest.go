// Package vectortest is what every vector space must pass.
//
// A space passes when it cannot be told from the plain list of its vectors, sorted by cosine.
package vectortest

import (
	"cmp"
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"aran/platform/fault"
	"aran/platform/vector"
)

// Model is the digest of the model that the suite's vectors are of.
const Model = "sha256-of-the-suite"

// Run tests spaces; open makes an empty one of Model.
func Run(t *testing.T, open func(t *testing.T, dim int) vector.Space) {
	t.Helper()
	at := func(t *testing.T, dim int) space { return space{t, open(t, dim)} }
	t.Run("an empty space answers nothing", func(t *testing.T) { empty(at(t, 4)) })
	t.Run("what is not a unit vector is refused", func(t *testing.T) { refuses(at(t, 3)) })
	t.Run("vectors of another model are refused", func(t *testing.T) { models(at(t, 3)) })
	t.Run("of a put that is refused nothing stays", func(t *testing.T) { whole(at(t, 3)) })
	t.Run("a vector is copied", func(t *testing.T) { copies(at(t, 3)) })
	t.Run("numbers come back as they went in", func(t *testing.T) { values(at(t, 64)) })
	t.Run("ties go by id", func(t *testing.T) { ties(at(t, 5)) })
	t.Run("a put with a known id replaces vector and owner", func(t *testing.T) { replaces(at(t, 3)) })
	t.Run("only what the owners allow is found, however little that is", func(t *testing.T) { allows(at(t, 16)) })
	t.Run("owners are deleted with all they have", func(t *testing.T) { deletes(at(t, 8)) })
	t.Run("two spaces hold nothing of each other", func(t *testing.T) { apart(at(t, 3), at(t, 3)) })
	t.Run("it equals a sorted list through puts and deletes", func(t *testing.T) {
		for _, dim := range []int{1, 7, 33, 384} {
			equals(at(t, dim), dim)
		}
	})
	t.Run("readers and writers do not disturb each other", func(t *testing.T) { concurrent(at(t, 24)) })
	t.Run("a caller that gives up gets no answer it could take for one", func(t *testing.T) { gone(at(t, 3)) })
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

// Near returns a unit vector close to one: meaning comes in clusters, random vectors do not.
func Near(rnd *rand.Rand, centre []float32, spread float64) []float32 {
	v := make([]float32, len(centre))
	var ss float64
	for i, c := range centre {
		v[i] = c + float32(rnd.NormFloat64()*spread/math.Sqrt(float64(len(centre))))
		ss += float64(v[i]) * float64(v[i])
	}
	for i := range v {
		v[i] = float32(float64(v[i]) / math.Sqrt(ss))
	}
	return v
}

// Recall is the part of the wanted hits that were found; those that score as the last one count as well as it.
func Recall(got, want []vector.Hit) float64 {
	if len(want) == 0 {
		return 1
	}
	least, n := want[len(want)-1].Score-1e-5, 0
	for _, h := range got {
		if h.Score >= least {
			n++
		}
	}
	return float64(min(n, len(want))) / float64(len(want))
}

// space is one under test.
type space struct {
	*testing.T
	vector.Space
}

func (s space) put(items ...vector.Item) {
	s.Helper()
	if err := s.Put(s.Context(), items...); err != nil {
		s.Fatal(err)
	}
}

func (s space) drop(owners ...int64) {
	s.Helper()
	if err := s.Delete(s.Context(), owners...); err != nil {
		s.Fatal(err)
	}
}

func (s space) find(q []float32, k int, owners []int64) []vector.Hit {
	s.Helper()
	hits, err := s.Search(s.Context(), vector.Query{Model: Model, Vector: q}, k, owners)
	if err != nil {
		s.Fatal(err)
	}
	return hits
}

func (s space) holds(n int) {
	s.Helper()
	if got, err := s.Len(s.Context()); err != nil || got != n {
		s.Errorf("Len = %d, %v; want %d", got, err, n)
	}
}

// random is the same each time.
func random(a, b uint64) *rand.Rand {
	return rand.New(rand.NewPCG(a, b)) //nolint:gosec // test data, not secrets
}

func empty(s space) {
	q := []float32{1, 0, 0, 0}
	if hits := s.find(q, 10, nil); len(hits) != 0 {
		s.Errorf("found %v, want nothing", hits)
	}
	s.drop(1, 2)
	s.holds(0)
	s.put()
	s.put(vector.Item{ID: 1, Owner: 7, Vector: []float32{0, 1, 0, 0}})
	s.holds(1)
	s.drop(7, 7)
	if hits := s.find(q, 10, nil); len(hits) != 0 {
		s.Errorf("after the last delete: %v, want nothing", hits)
	}
	s.holds(0)
}

func refuses(s space) {
	nan := float32(math.NaN())
	s.put(vector.Item{ID: 1, Vector: []float32{1, 0, 0}})
	for _, v := range [][]float32{nil, {1, 0}, {1, 0, 0, 0}, {0, 0, 0}, {1, 1, 0}, {0.99, 0, 0}, {nan, 0, 0}, {1, nan, 0}, {float32(math.Inf(1)), 0, 0}} {
		if err := s.Put(s.Context(), vector.Item{ID: 2, Vector: v}); fault.KindOf(err) != fault.Invalid {
			s.Errorf("Put(%v): %v", v, err)
		}
		if _, err := s.Search(s.Context(), vector.Query{Model: Model, Vector: v}, 1, nil); fault.KindOf(err) != fault.Invalid {
			s.Errorf("Search(%v): %v", v, err)
		}
	}
	s.holds(1)
	s.put(vector.Item{ID: 2, Vector: []float32{0.9995, 0, 0}})
	for _, k := range []int{0, -1} {
		if hits := s.find([]float32{1, 0, 0}, k, nil); len(hits) != 0 {
			s.Errorf("k = %d: %v; want nothing", k, hits)
		}
	}
}

func models(s space) {
	s.put(vector.Item{ID: 1, Vector: []float32{1, 0, 0}})
	for _, m := range []string{"", "another", Model + "x"} {
		_, err := s.Search(s.Context(), vector.Query{Model: m, Vector: []float32{1, 0, 0}}, 1, nil)
		if f := fault.From(err); f == nil || f.Kind != fault.Invalid || f.Code != "vector_model" {
			s.Errorf("a query of model %q: %v", m, err)
		}
	}
}

func whole(s space) {
	err := s.Put(s.Context(), vector.Item{ID: 1, Vector: []float32{1, 0, 0}}, vector.Item{ID: 2, Vector: []float32{1, 1, 1}})
	if fault.KindOf(err) != fault.Invalid {
		s.Errorf("Put: %v", err)
	}
	s.holds(0)
}

func copies(s space) {
	v := []float32{1, 0, 0}
	s.put(vector.Item{ID: 1, Vector: v})
	v[0], v[1] = 0, 1
	if hits := s.find([]float32{1, 0, 0}, 1, nil); len(hits) != 1 || hits[0] != (vector.Hit{ID: 1, Score: 1}) {
		s.Errorf("found %v; the caller's change went into the space", hits)
	}
}

// values: tiny and subnormal numbers, too, score as they would in float64.
func values(s space) {
	rnd := random(8, 9)
	v := Unit(rnd, 64)
	v[3], v[4] = 1e-30, -1e-42
	v = Near(rnd, v, 0)
	s.put(vector.Item{ID: 1, Vector: v})
	if hits := s.find(v, 1, nil); len(hits) != 1 || math.Abs(float64(hits[0].Score)-1) > 1e-6 {
		s.Errorf("a vector's cosine with itself: %v", hits)
	}
}

func ties(s space) {
	v := Unit(random(1, 2), 5)
	for _, id := range []int64{9, -3, 700, 4, 0} {
		s.put(vector.Item{ID: id, Owner: id, Vector: v})
	}
	if got := ids(s.find(v, 4, nil)); !slices.Equal(got, []int64{-3, 0, 4, 9}) {
		s.Errorf("equal vectors came as %v, want the lowest ids in order", got)
	}
	if got := ids(s.find(v, 2, []int64{700, 4, 9})); !slices.Equal(got, []int64{4, 9}) {
		s.Errorf("of three owners equal vectors came as %v", got)
	}
}

func replaces(s space) {
	x, y := []float32{1, 0, 0}, []float32{0, 1, 0}
	s.put(vector.Item{ID: 1, Owner: 5, Vector: x})
	s.put(vector.Item{ID: 1, Owner: 6, Vector: x}, vector.Item{ID: 1, Owner: 6, Vector: y})
	s.holds(1)
	if hits := s.find(y, 9, []int64{6}); len(hits) != 1 || hits[0] != (vector.Hit{ID: 1, Score: 1}) {
		s.Errorf("the new owner has %v", hits)
	}
	if hits := s.find(y, 9, []int64{5}); len(hits) != 0 {
		s.Errorf("the former owner has %v", hits)
	}
}

func allows(s space) {
	const n = 1000
	rnd := random(3, 4)
	all := map[int64][]float32{}
	var items []vector.Item
	for id := range int64(n) {
		all[id] = Unit(rnd, 16)
		items = append(items, vector.Item{ID: id, Owner: id / 4, Vector: all[id]})
	}
	s.put(items...)
	for _, of := range []int64{1, 2, 10, 100, 249} { // every owner, every second, …
		var owners []int64
		for o := int64(0); o < n/4; o += of {
			owners = append(owners, o)
		}
		q := Unit(rnd, 16)
		same(s.T, s.find(q, 50, owners), list(all, q, 50, func(id int64) bool { return id/4%of == 0 }))
	}
	for _, none := range [][]int64{{}, {-1}, {n, 1 << 60}} {
		if hits := s.find(all[0], 50, none); len(hits) != 0 {
			s.Errorf("owners %v: %v", none, hits)
		}
	}
	if hits := s.find(all[0], 50, []int64{0, 0, 0}); len(hits) != 4 {
		s.Errorf("an owner named three times: %v", hits)
	}
}

func deletes(s space) {
	rnd := random(10, 11)
	for id := range int64(300) {
		s.put(vector.Item{ID: id, Owner: id % 3, Vector: Unit(rnd, 8)})
	}
	s.drop(1)
	s.holds(200)
	for _, h := range s.find(Unit(rnd, 8), 300, nil) {
		if h.ID%3 == 1 {
			s.Errorf("%d is found after its owner was deleted", h.ID)
		}
	}
	s.drop(0, 1, 2, 3)
	s.holds(0)
}

func apart(a, b space) {
	v := []float32{1, 0, 0}
	a.put(vector.Item{ID: 1, Owner: 1, Vector: v})
	b.holds(0)
	b.put(vector.Item{ID: 2, Owner: 1, Vector: v})
	if got := ids(a.find(v, 9, []int64{1})); !slices.Equal(got, []int64{1}) {
		a.Errorf("found %v", got)
	}
	b.drop(1)
	a.holds(1)
}

func equals(s space, dim int) {
	rnd := random(5, uint64(dim)) //nolint:gosec // not negative
	const batches, batch, owners = 40, 30, 150
	want, owned := map[int64][]float32{}, map[int64]int64{}
	for step := range batches {
		if rnd.IntN(3) == 0 {
			gone := []int64{rnd.Int64N(owners), rnd.Int64N(owners), rnd.Int64N(owners)}
			s.drop(gone...)
			for id, o := range owned {
				if slices.Contains(gone, o) {
					delete(want, id)
					delete(owned, id)
				}
			}
		}
		var items []vector.Item
		for range batch {
			i := vector.Item{ID: rnd.Int64N(900), Owner: rnd.Int64N(owners), Vector: Unit(rnd, dim)}
			items = append(items, i)
			want[i.ID], owned[i.ID] = i.Vector, i.Owner
		}
		s.put(items...)
		if step%8 != 7 {
			continue
		}
		s.holds(len(want))
		mod := rnd.Int64N(3) + 1
		var allowed []int64
		for o := int64(0); o < owners; o += mod {
			allowed = append(allowed, o)
		}
		q := Unit(rnd, dim)
		same(s.T, s.find(q, 20, allowed), list(want, q, 20, func(id int64) bool { return owned[id]%mod == 0 }))
		same(s.T, s.find(q, 20, nil), list(want, q, 20, func(int64) bool { return true }))
	}
}

// list is the slow truth, in float64.
func list(all map[int64][]float32, q []float32, k int, allow func(id int64) bool) []vector.Hit {
	var hits []vector.Hit
	for id, v := range all {
		if !allow(id) {
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

func concurrent(s space) {
	const rounds, each = 60, 25
	var wg sync.WaitGroup
	for w := range int64(4) {
		rnd := random(6, uint64(w))
		wg.Go(func() { // each writer has ids and owners of its own
			for i := range int64(rounds) {
				id := w*1000 + i%each
				if err := s.Put(s.Context(), vector.Item{ID: id, Owner: id, Vector: Unit(rnd, 24)}); err != nil {
					s.Error(err)
				}
				if i%3 == 0 {
					if err := s.Delete(s.Context(), id); err != nil {
						s.Error(err)
					}
				}
			}
		})
		look := random(7, uint64(w))
		wg.Go(func() {
			for range 100 {
				hits, err := s.Search(s.Context(), vector.Query{Model: Model, Vector: Unit(look, 24)}, 10, nil)
				if err != nil {
					s.Error(err)
				}
				for i := 1; i < len(hits); i++ {
					if hits[i].Score > hits[i-1].Score || hits[i].ID == hits[i-1].ID {
						s.Errorf("hits out of order: %v", hits)
					}
				}
			}
		})
	}
	wg.Wait()
	left := map[int]bool{}
	for i := range rounds {
		left[i%each] = i%3 != 0
	}
	n := 0
	for _, there := range left {
		if there {
			n++
		}
	}
	s.holds(4 * n)
}

func gone(s space) {
	s.put(vector.Item{ID: 1, Vector: []float32{1, 0, 0}})
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	hits, err := s.Search(ctx, vector.Query{Model: Model, Vector: []float32{1, 0, 0}}, 1, nil)
	if err == nil && len(hits) != 1 {
		s.Errorf("found %v without an error", hits)
	}
}

func ids(hits []vector.Hit) []int64 {
	out := make([]int64, len(hits))
	for i, h := range hits {
		out[i] = h.ID
	}
	return out
}
