package search_test

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"aran/platform/auth"
	"aran/platform/saga"
	"aran/service/search"
)

func TestIndexesInMemoryAreBounded(t *testing.T) {
	w := open(t, func(c *search.Config, _ *search.Deps) { c.LoadedIndexes = 2 })
	me := person("acme", "user:ann")
	for i := range 4 {
		name := fmt.Sprint("c", i)
		w.collection(me, name)
		w.put(me, name, map[string]any{"id": name, "text": "a word about boats"})
	}
	for range 2 {
		for i := range 4 {
			name := fmt.Sprint("c", i)
			if got := w.search(me, name, map[string]any{"query": "boats", "mode": "meaning"}).documents(); !slices.Equal(got, []string{name}) {
				t.Errorf("%s: %v", name, got)
			}
			if n, _ := w.s.Loaded(); n > 2 {
				t.Errorf("%d indexes in memory", n)
			}
		}
	}
}

func TestDeletedVectorsLeaveTheMemory(t *testing.T) {
	w := open(t)
	me := person("acme", "user:ann")
	w.collection(me, "docs")
	w.put(me, "docs", map[string]any{"id": "a", "text": strings.Repeat("Boats sail on the sea. ", 60)})
	w.put(me, "docs", map[string]any{"id": "b", "text": "boats"})
	w.search(me, "docs", map[string]any{"query": "boats"})
	if _, n := w.s.Loaded(); n < 3 {
		t.Fatalf("%d vectors in memory", n)
	}
	w.want(204, w.call(me, "DELETE", "/api/v1/collections/docs/documents/a", nil))
	if _, n := w.s.Loaded(); n != 1 {
		t.Errorf("%d vectors in memory after the deletion", n)
	}
	w.want(204, w.call(me, "DELETE", "/api/v1/collections/docs", nil))
	if i, n := w.s.Loaded(); i != 0 || n != 0 {
		t.Errorf("%d indexes with %d vectors in memory after all was deleted", i, n)
	}
}

// A replica has a memory of its own and the same database.
func TestReplicaCatchesUpBeforeItSearches(t *testing.T) {
	w := open(t)
	me := person("acme", "user:ann")
	w.collection(me, "docs")
	db := w.openStore()
	defer db.Close() //nolint:errcheck // a test
	sagas, err := saga.Open(t.Context(), db, "search", search.Definitions, slog.New(slog.DiscardHandler))
	w.must(err)
	replica, err := search.New(search.Default(), search.Deps{DB: db, Bus: w.conn, Sagas: sagas, Server: w.people.Server("search"), Guard: w.judge, Infer: direct{w.encoder}, Count: tokens, Log: slog.New(slog.DiscardHandler)})
	w.must(err)
	find := func() []string {
		t.Helper()
		res, err := replica.Retrieve(auth.With(t.Context(), *me, ""), search.Query{Collections: []string{"docs"}, Text: "boats", Mode: search.Meaning})
		w.must(err)
		var out []string
		for _, h := range res.Hits {
			out = append(out, h.Document+" "+h.Text)
		}
		slices.Sort(out)
		return out
	}
	for _, step := range []struct {
		do   func()
		want []string
	}{
		{func() {}, nil},
		{func() { w.put(me, "docs", map[string]any{"id": "a", "text": "boats one"}) }, []string{"a boats one"}},
		{func() { w.put(me, "docs", map[string]any{"id": "b", "text": "boats two"}) }, []string{"a boats one", "b boats two"}},
		{func() { w.put(me, "docs", map[string]any{"id": "a", "text": "boats three"}) }, []string{"a boats three", "b boats two"}},
		{func() { w.want(204, w.call(me, "DELETE", "/api/v1/collections/docs/documents/b", nil)) }, []string{"a boats three"}},
	} {
		step.do()
		if got := find(); !slices.Equal(got, step.want) {
			t.Errorf("%v, want %v", got, step.want)
		}
		if _, n := replica.Loaded(); n != len(step.want) { // it is set to memory, on PostgreSQL too
			t.Errorf("%d vectors in memory, want %d", n, len(step.want))
		}
	}
}

func BenchmarkRetrieve(b *testing.B) {
	w := openAt(b, b.TempDir(), newEncoder(), &judge{})
	me := person("acme", "user:ann")
	w.collection(me, "docs")
	var sb strings.Builder
	const n = 2000
	for i := range n {
		fmt.Fprintf(&sb, `{"id":"d%d","text":"term%d and term%d stand beside word%d in document %d"}`+"\n", i, i%50, i%77, i%400, i)
	}
	w.want(200, w.call(me, "POST", "/api/v1/collections/docs/documents", sb.String(), "Content-Type", "application/x-ndjson"))
	w.eventually("all is indexed", func() bool { return w.rows("search_document WHERE status = 'indexed'") == n })
	for _, mode := range []search.Mode{search.Words, search.Meaning, search.Hybrid} {
		b.Run(string(mode), func(b *testing.B) {
			for b.Loop() {
				if _, err := w.s.Retrieve(auth.With(b.Context(), *me, ""), search.Query{Text: "term7 beside word70", Mode: mode}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
