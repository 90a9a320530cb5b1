package search_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"aran/platform/secret"
	"aran/platform/vector/vectortest"
	"aran/service/search"
)

// hosts are the vector servers that search can be set to, each as a double.
var hosts = map[string]func(t *testing.T) *vectortest.Double{
	search.VectorsQdrant:   func(t *testing.T) *vectortest.Double { t.Helper(); return vectortest.Qdrant(t) },
	search.VectorsPinecone: func(t *testing.T) *vectortest.Double { t.Helper(); return vectortest.Pinecone(t, dim) },
}

func at(kind string, d *vectortest.Double) option {
	return func(c *search.Config, _ *search.Deps) {
		c.Vectors, c.VectorsURL, c.VectorsKey = kind, d.URL, secret.New(vectortest.Key)
	}
}

func TestVectorsOnAServer(t *testing.T) {
	for kind, serve := range hosts {
		t.Run(kind, func(t *testing.T) {
			d := serve(t)
			dir := t.TempDir()
			w := openAt(t, dir, newEncoder(), &judge{}, at(kind, d))
			me, other := person("acme", "user:ann"), person("acme", "user:bob")
			w.collection(me, "docs")
			w.put(me, "docs", map[string]any{"id": "a", "text": "boats on the sea"})
			w.put(me, "docs", map[string]any{"id": "b", "text": "boats in a harbour", "access": []string{"user:ann"}})
			meaning := map[string]any{"query": "boats", "mode": "meaning"}
			find := func(id string, want ...string) {
				t.Helper()
				who := me
				if id == "bob" {
					who = other
				}
				f := w.search(who, "docs", meaning)
				got := f.documents()
				slices.Sort(got)
				if !slices.Equal(got, want) || f.Degraded {
					t.Errorf("%s finds %v (degraded %v), want %v", id, got, f.Degraded, want)
				}
			}
			find("ann", "a", "b")
			find("bob", "a") // his rights are in the query
			if d.Points() != 3 {
				t.Errorf("%d vectors on the server, want two and a mark", d.Points())
			}
			w.put(me, "docs", map[string]any{"id": "c", "text": "more boats"})
			find("ann", "a", "b", "c")

			w.want(204, w.call(me, "DELETE", "/api/v1/collections/docs/documents/b", nil))
			if d.Points() != 3 {
				t.Errorf("%d vectors on the server after a deletion, want two and a mark", d.Points())
			}

			d.Fail(503)
			w.put(me, "docs", map[string]any{"id": "d", "text": "boats put while the server is away"})
			w.want(204, w.call(me, "DELETE", "/api/v1/collections/docs/documents/a", nil))
			f := w.search(me, "docs", map[string]any{"query": "boats"})
			if got := f.documents(); !f.Degraded || !slices.Contains(got, "d") || slices.Contains(got, "a") {
				t.Errorf("with the server away: %v, degraded %v", got, f.Degraded)
			}
			d.Fail(0)
			again := func() { // one more start: its breaker is closed
				w.close()
				w = openAt(t, dir, newEncoder(), &judge{}, at(kind, d))
			}
			again()
			find("ann", "c", "d")
			d.Wipe()
			again()
			find("ann", "c", "d")

			w.want(204, w.call(me, "DELETE", "/api/v1/collections/docs", nil))
			if d.Points() != 0 {
				t.Errorf("%d vectors on the server after all was deleted", d.Points())
			}
		})
	}
}

func TestVectorServersAreSetWithCare(t *testing.T) {
	for _, c := range []struct {
		change func(*search.Config)
		fails  string
	}{
		{func(c *search.Config) { c.Vectors = "qdrant" }, "search.vectors_url"},
		{func(c *search.Config) { c.Vectors, c.VectorsURL = "pinecone", "https://x.pinecone.example" }, "search.vectors_key"},
		{func(c *search.Config) { c.VectorsPrefix = "A b" }, "search.vectors_prefix"},
		{func(c *search.Config) { c.VectorsTimeout = 1 }, "search.vectors_timeout"},
		{func(c *search.Config) { c.GraphFrom = 10 }, "search.graph_from"},
		{func(c *search.Config) { c.Vectors, c.VectorsURL = "qdrant", "https://qdrant.example:6333" }, ""},
	} {
		cfg := search.Default()
		c.change(&cfg)
		if err := cfg.Check(); (err == nil) != (c.fails == "") || err != nil && !strings.Contains(err.Error(), c.fails) {
			t.Errorf("%v, want %q", err, c.fails)
		}
	}
}

func TestLargeIndexesAreKeptInFiles(t *testing.T) {
	dir := t.TempDir()
	folder := filepath.Join(dir, "vectors")
	graph := func(c *search.Config, d *search.Deps) { c.GraphFrom, d.Dir, c.EmbedBatch = 100, folder, 64 }
	w := openAt(t, dir, newEncoder(), &judge{}, graph)
	if w.vectors != search.VectorsMemory {
		t.Skip("vectors are in the database")
	}
	me := person("acme", "user:ann")
	w.collection(me, "docs")
	var sb strings.Builder
	for i := range 130 {
		fmt.Fprintf(&sb, "The boat number%c%c%c sails on the sea with %s and comes home in the evening to the harbour.\n\n", 'a'+i%26, 'a'+i/26%26, 'a'+i/676, strings.Repeat("fishermen of many lands ", 12))
	}
	w.put(me, "docs", map[string]any{"id": "log", "text": sb.String()})
	w.put(me, "docs", map[string]any{"id": "secret", "text": "the treasure is buried"})
	ask := func(q string) []string {
		t.Helper()
		return w.search(me, "docs", map[string]any{"query": q, "mode": "meaning", "limit": 1}).documents()
	}
	if got := ask("treasure buried"); !slices.Equal(got, []string{"secret"}) {
		t.Fatalf("found %v", got)
	}
	if _, n := w.s.Loaded(); n < 100 {
		t.Fatalf("%d vectors", n)
	}
	if files, err := w.s.Tend(t.Context()); files != 1 || err != nil {
		t.Fatalf("%d files, %v", files, err)
	}
	w.put(me, "docs", map[string]any{"id": "late", "text": "an elephant"}) // not in the file
	w.close()
	w = openAt(t, dir, newEncoder(), &judge{}, graph)
	if got := ask("treasure buried"); !slices.Equal(got, []string{"secret"}) {
		t.Errorf("from the file: %v", got)
	}
	if got := ask("elephant"); !slices.Equal(got, []string{"late"}) {
		t.Errorf("what came after the file: %v", got)
	}
	w.close()

	files, err := filepath.Glob(filepath.Join(folder, "*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	raw, err := os.ReadFile(files[0])
	w.must(err)
	raw[len(raw)/3] ^= 1
	w.must(os.WriteFile(files[0], raw, 0o600))
	w = openAt(t, dir, newEncoder(), &judge{}, graph)
	if got := ask("treasure buried"); !slices.Equal(got, []string{"secret"}) {
		t.Errorf("from a damaged file: %v", got)
	}
	if files, err := w.s.Tend(t.Context()); files != 1 || err != nil {
		t.Errorf("%d files, %v", files, err)
	}
	w.close()
	w = openAt(t, dir, newEncoder(), &judge{}, graph)
	w.want(204, w.call(me, "DELETE", "/api/v1/collections/docs/documents/secret", nil)) // not loaded: the file must not keep it
	if left, _ := filepath.Glob(filepath.Join(folder, "*")); len(left) != 0 {
		t.Errorf("%v is left after a deletion", left)
	}
	if got := ask("treasure buried"); slices.Contains(got, "secret") {
		t.Error("what was deleted is found")
	}
}
