package search_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// corpus makes lines of documents of about 150 words each, as an abstract of a paper has.
func corpus(n int) (lines []string) {
	r := rand.New(rand.NewPCG(1, 2))
	for i := range n {
		var sb strings.Builder
		for w := range 150 {
			fmt.Fprintf(&sb, "w%d ", int(r.ExpFloat64()*400))
			if w%12 == 11 {
				sb.WriteString("ends. ")
			}
		}
		b, _ := json.Marshal(map[string]any{"id": fmt.Sprint("d", i), "title": fmt.Sprint("Document ", i), "text": sb.String(), "metadata": map[string]any{"n": i}}) // strings and numbers
		lines = append(lines, string(b))
	}
	return lines
}

// BenchmarkIngest is everything of the ingestion but guard and encoder, which cost next to nothing here: what the saga,
// the database and the words index allow.
func BenchmarkIngest(b *testing.B) {
	const documents = 1000
	lines := corpus(documents)
	for range b.N {
		w := openAt(b, b.TempDir(), newEncoder(), &judge{})
		me := person("acme", "user:ann")
		w.collection(me, "docs")
		b.ResetTimer()
		for at := 0; at < documents; at += 500 {
			w.want(200, w.call(me, "POST", docsPath, strings.Join(lines[at:at+500], "\n"), "Content-Type", "application/x-ndjson"))
		}
		stored := b.Elapsed()
		var left string
		for left != "event: idle" { // as a client waits
			body := string(w.call(me, "GET", "/api/v1/collections/docs/progress", nil).Body)
			left = body[strings.LastIndex(body, "event: "):][:len("event: idle")]
		}
		b.ReportMetric(documents/stored.Seconds(), "stored/s")
		b.ReportMetric(documents/b.Elapsed().Seconds(), "indexed/s")
		b.StopTimer()
		w.close()
	}
}
