package search_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"aran/platform/auth"
	"aran/platform/store/pgtest"
	"aran/service/search"
	"aran/service/search/beir"
)

// BenchmarkWords100k searches 100,000 passages by words, through the service and its REST handlers, on a file and on
// PostgreSQL. ARAN_TEST_SEARCH_DATA names a corpus in BEIR's layout, which is repeated; without it the texts are made up.
func BenchmarkWords100k(b *testing.B) {
	texts, queries := corpus100k(b)
	b.Run("SQLite", func(b *testing.B) { words100k(b, texts, queries) })
	b.Run("PostgreSQL", func(b *testing.B) {
		server = pgtest.StartVector(b)
		b.Cleanup(func() { server = nil })
		words100k(b, texts, queries)
	})
}

func corpus100k(b *testing.B) (texts, queries []string) {
	b.Helper()
	if dir := os.Getenv("ARAN_TEST_SEARCH_DATA"); dir != "" { //nolint:forbidigo // for this benchmark alone
		d, err := beir.Open(dir)
		if err != nil {
			b.Fatal(err)
		}
		for _, x := range d.Documents {
			texts = append(texts, x.Title+" "+x.Text)
		}
		for _, q := range d.Queries {
			queries = append(queries, q.Text)
		}
		return texts, queries
	}
	r := rand.New(rand.NewPCG(1, 1))
	zipf := rand.NewZipf(r, 1.07, 4, 200_000)
	sentence := func(n int) string {
		var sb strings.Builder
		for range n {
			fmt.Fprintf(&sb, "w%x ", zipf.Uint64())
		}
		return sb.String()
	}
	for range 20_000 {
		texts = append(texts, sentence(150))
	}
	for range 300 {
		queries = append(queries, sentence(8))
	}
	return texts, queries
}

func words100k(b *testing.B, texts, queries []string) {
	w := openAt(b, b.TempDir(), newEncoder(), &judge{}, memory)
	ann, eve := person("acme", "user:ann"), person("acme", "user:eve", "staff")
	fill := func(name string, access func(i int) []string) {
		w.collection(ann, name)
		began := time.Now()
		err := w.s.Fill(b.Context(), *ann, name, 100_000, func(i int) search.Document {
			return search.Document{ID: fmt.Sprint("d", i), Text: fmt.Sprintf("%s copy%d", texts[i%len(texts)], i/len(texts)), Access: access(i), Metadata: map[string]string{"part": fmt.Sprint(i % 100)}}
		})
		w.must(err)
		b.Logf("%s: filled in %v", name, time.Since(began).Round(time.Second))
		began = time.Now()
		w.search(eve, name, map[string]any{"query": "load", "mode": "words"})
		b.Logf("%s: loaded in %v", name, time.Since(began).Round(time.Millisecond))
	}
	fill("mixed", func(i int) []string { return []string{"role:" + []string{"staff", "chiefs"}[i%2]} })
	for _, c := range []struct {
		name   string
		who    *auth.Identity
		filter map[string]any
	}{
		{"all", ann, nil}, // hers are all
		{"half readable", eve, nil},
		{"1 percent wanted", ann, map[string]any{"part": "7"}},
	} {
		b.Run(c.name, func(b *testing.B) {
			q := map[string]any{"mode": "words", "filter": c.filter}
			var took []float64
			for n := 0; b.Loop(); n++ {
				q["query"] = queries[n%len(queries)]
				began := time.Now()
				w.search(c.who, "mixed", q)
				took = append(took, float64(time.Since(began).Microseconds())/1000)
			}
			b.ReportMetric(beir.Quantile(took, 0.5), "p50-ms")
			b.ReportMetric(beir.Quantile(took, 0.99), "p99-ms")
		})
	}
}
