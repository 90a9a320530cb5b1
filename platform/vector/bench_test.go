package vector_test

import (
	"math/rand/v2"
	"testing"

	"aran/platform/store/pgtest"
	"aran/platform/vector"
	"aran/platform/vector/vectortest"
)

// BenchmarkSpaces compares spaces of 20,000 × 384 clustered vectors: searches a second, and the part of the ten nearest that
// they find. The graph is made to be used although so few are compared one by one otherwise.
func BenchmarkSpaces(b *testing.B) {
	const n, dim, k = 20_000, 384, 10
	rnd := rand.New(rand.NewPCG(3, 3))
	truth := vector.NewMemory(vectortest.Model, dim)
	centres := clusters(b, truth, rand.New(rand.NewPCG(1, 1)), n, dim)
	var queries []vector.Query
	for range 50 {
		queries = append(queries, vector.Query{Model: vectortest.Model, Vector: vectortest.Near(rnd, centres[rnd.IntN(len(centres))], 0.7)})
	}
	var few []int64
	for o := int64(0); o < n/4; o += 100 {
		few = append(few, o)
	}
	measure := func(b *testing.B, s vector.Space, owners []int64) {
		b.Helper()
		recall, searches := 0.0, 0
		for b.Loop() {
			q := queries[searches%len(queries)]
			got, err := s.Search(b.Context(), q, k, owners)
			if err != nil {
				b.Fatal(err)
			}
			if searches < len(queries) {
				b.StopTimer()
				want, err := truth.Search(b.Context(), q, k, owners)
				if err != nil {
					b.Fatal(err)
				}
				recall += vectortest.Recall(got, want)
				b.StartTimer()
			}
			searches++
		}
		b.ReportMetric(float64(searches)/b.Elapsed().Seconds(), "q/s")
		b.ReportMetric(recall/float64(min(searches, len(queries))), "recall")
	}
	each := func(b *testing.B, s vector.Space) {
		b.Helper()
		b.Run("all", func(b *testing.B) { measure(b, s, nil) })
		b.Run("allow=1of100", func(b *testing.B) { measure(b, s, few) })
	}
	b.Run("memory", func(b *testing.B) { each(b, truth) })
	b.Run("pgvector", func(b *testing.B) {
		_, table := openTable(b, pgtest.StartVector(b).VectorDatabase())
		s := table.Space(vector.Name{Space: "s", Model: vectortest.Model, Dim: dim})
		clusters(b, s, rand.New(rand.NewPCG(1, 1)), n, dim)
		b.Run("exact", func(b *testing.B) { each(b, s) })
		table.SetExact(n / 2)
		if err := table.Tend(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.Run("graph", func(b *testing.B) { each(b, s) })
	})
}
