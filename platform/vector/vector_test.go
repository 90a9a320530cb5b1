package vector_test

import (
	"math/rand/v2"
	"testing"

	"aran/platform/vector"
	"aran/platform/vector/vectortest"
)

func TestMemory(t *testing.T) {
	vectortest.Run(t, func(_ *testing.T, dim int) vector.Space { return vector.NewMemory(vectortest.Model, dim) })
}

func TestIndexAsksAboutEach(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	x := vector.New(16)
	for id := range int64(1000) {
		if err := x.Put(id, vectortest.Unit(rnd, 16)); err != nil {
			t.Fatal(err)
		}
	}
	x.Delete(5, 6, 6, 5000)
	asked := make(map[int64]bool)
	hits, err := x.Search(vectortest.Unit(rnd, 16), 50, func(id int64) bool {
		asked[id] = true
		return id%7 == 0
	})
	if err != nil || len(hits) != 50 || x.Len() != 998 {
		t.Fatalf("%d hits of %d, %v; want 50", len(hits), x.Len(), err)
	}
	for _, h := range hits {
		if h.ID%7 != 0 {
			t.Errorf("%d was found, though not allowed", h.ID)
		}
	}
	if len(asked) != 998 {
		t.Errorf("allow was asked about %d ids, want each", len(asked))
	}
}

func TestDotOfUnequalLengths(t *testing.T) {
	if got := vector.Dot([]float32{1, 2, 3}, []float32{4, 5}); got != 14 {
		t.Errorf("Dot = %v, want 14", got)
	}
	if got := vector.Dot(nil, []float32{1}); got != 0 {
		t.Errorf("Dot(nil) = %v, want 0", got)
	}
}

func BenchmarkSearch100k(b *testing.B) {
	const dim, n = 384, 100_000
	rnd := rand.New(rand.NewPCG(1, 1))
	x := vector.New(dim)
	for id := range int64(n) {
		if err := x.Put(id, vectortest.Unit(rnd, dim)); err != nil {
			b.Fatal(err)
		}
	}
	q := vectortest.Unit(rnd, dim)
	for _, c := range []struct {
		name  string
		allow func(int64) bool
	}{
		{"all", nil},
		{"allow=1of100", func(id int64) bool { return id%100 == 0 }},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				if _, err := x.Search(q, 10, c.allow); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
