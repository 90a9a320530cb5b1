package vector_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"aran/platform/vector"
	"aran/platform/vector/vectortest"
)

// A graph against the exact scan, for all and for some, through deletes and replacements.
func TestGraphFindsTheNearest(t *testing.T) {
	const n, dim, k = 6000 / few, 48, 10
	rnd := rand.New(rand.NewPCG(7, 7))
	exact := vector.NewMemory(vectortest.Model, dim)
	graph := vector.NewMemoryWith(vectortest.Model, dim, vector.MemoryOptions{GraphFrom: n / 6})
	centres := make([][]float32, 100)
	for i := range centres {
		centres[i] = vectortest.Unit(rnd, dim)
	}
	put := func(id int64) {
		i := vector.Item{ID: id, Owner: id / 2, Vector: vectortest.Near(rnd, centres[rnd.IntN(len(centres))], 0.8)}
		must(t, exact.Put(t.Context(), i))
		must(t, graph.Put(t.Context(), i))
	}
	check := func(when string) {
		t.Helper()
		for _, part := range []float64{0.001, 0.01, 0.1, 0.5, 0.9, 1} {
			var owners []int64
			if part < 1 {
				for o := range int64(n) {
					if rnd.Float64() < part {
						owners = append(owners, o)
					}
				}
			}
			sum := 0.0
			const queries = 40 / few
			for range queries {
				q := vectortest.Near(rnd, centres[rnd.IntN(len(centres))], 0.8)
				got, want := find(t, graph, q, k, owners), find(t, exact, q, k, owners)
				if len(got) != len(want) {
					t.Fatalf("%s, %g of the owners: %d hits, want %d", when, part, len(got), len(want))
				}
				sum += vectortest.Recall(got, want)
			}
			if sum/queries < 0.95 {
				t.Errorf("%s, %g of the owners: recall %.3f", when, part, sum/queries)
			}
		}
	}
	for id := range int64(n) {
		put(id)
	}
	check("before there is a graph")
	must(t, graph.Tend(t.Context()))
	check("at first")
	for id := int64(0); id < n; id += 5 {
		put(id) // replaced
	}
	for id := int64(n); id < n+n/12; id++ {
		put(id)
	}
	check("with rows that are not linked")
	for o := int64(0); o < n/2; o += 3 {
		must(t, exact.Delete(t.Context(), o))
		must(t, graph.Delete(t.Context(), o))
	}
	check("with rows that are dead")
	must(t, graph.Tend(t.Context()))
	check("after repair")
	for o := int64(1); o < n/2; o += 3 {
		must(t, exact.Delete(t.Context(), o))
		must(t, graph.Delete(t.Context(), o))
	}
	must(t, graph.Tend(t.Context()))
	check("after more went than stayed")
}

// Searches go on while another links and repairs, and never find what was deleted before they began.
func TestGraphIsTendedBesideSearches(t *testing.T) {
	const n, dim = 3000 / few, 16
	rnd := rand.New(rand.NewPCG(8, 8))
	m := vector.NewMemoryWith(vectortest.Model, dim, vector.MemoryOptions{GraphFrom: n / 6})
	for id := range int64(n) {
		must(t, m.Put(t.Context(), vector.Item{ID: id, Owner: id, Vector: vectortest.Unit(rnd, dim)}))
	}
	for id := range int64(n / 30) {
		must(t, m.Delete(t.Context(), id))
	}
	var wg sync.WaitGroup
	done := make(chan struct{})
	for w := range 2 {
		look := rand.New(rand.NewPCG(9, uint64(w)))
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				hits, err := m.Search(t.Context(), vector.Query{Model: vectortest.Model, Vector: vectortest.Unit(look, dim)}, 10, nil)
				if err != nil || len(hits) != 10 {
					t.Errorf("%d hits, %v", len(hits), err)
				}
				for _, h := range hits {
					if h.ID < n/30 {
						t.Errorf("%d is found, though it was deleted", h.ID)
					}
				}
			}
		})
	}
	for i := range 4 {
		must(t, m.Tend(t.Context()))
		for o := range int64(n / 10) {
			must(t, m.Delete(t.Context(), n/15+int64(i)*n/10+o))
		}
	}
	must(t, m.Tend(t.Context()))
	close(done)
	wg.Wait()
}

// The first pass over codes changes nothing: scores are those of the exact kernel, to the bit.
func TestCodesChangeNoAnswer(t *testing.T) {
	for _, dim := range []int{3, 31, 384, 1024} {
		t.Run(fmt.Sprint(dim), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(10, uint64(dim)))
			m := vector.NewMemory(vectortest.Model, dim)
			const n = 700 / few
			all := map[int64][]float32{}
			var owners []int64
			for id := range int64(n) {
				v := vectortest.Unit(rnd, dim)
				if id%3 == 1 { // a little beside the one before, or the same
					v = vectortest.Near(rnd, all[id-1], 1e-4*float64(id%2))
				}
				all[id] = v
				owners = append(owners, id)
				must(t, m.Put(t.Context(), vector.Item{ID: id, Owner: id, Vector: v}))
			}
			for range 10 / few {
				q := vectortest.Near(rnd, all[rnd.Int64N(n)], 0.3)
				for _, k := range []int{1, 10, n} {
					want := vector.Exact(q, all, k)
					for _, o := range [][]int64{nil, owners} {
						if got := find(t, m, q, k, o); fmt.Sprint(got) != fmt.Sprint(want) {
							t.Fatalf("k = %d: %v, want %v", k, got, want)
						}
					}
				}
			}
		})
	}
}
