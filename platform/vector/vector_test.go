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
	x := vector.NewMemory(vectortest.Model, dim)
	for id := range int64(n) {
		if err := x.Put(b.Context(), vector.Item{ID: id, Owner: id, Vector: vectortest.Unit(rnd, dim)}); err != nil {
			b.Fatal(err)
		}
	}
	q := vector.Query{Model: vectortest.Model, Vector: vectortest.Unit(rnd, dim)}
	var few []int64
	for id := int64(0); id < n; id += 100 {
		few = append(few, id)
	}
	for _, c := range []struct {
		name   string
		owners []int64
	}{{"all", nil}, {"allow=1of100", few}} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				if _, err := x.Search(b.Context(), q, 10, c.owners); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
