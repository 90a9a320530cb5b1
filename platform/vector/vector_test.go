package vector_test

import (
	"math/rand/v2"
	"testing"

	"aran/platform/vector"
	"aran/platform/vector/vectortest"
)

func TestIndex(t *testing.T) {
	vectortest.Run(t, func(dim int) vectortest.Index { return vector.New(dim) })
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
