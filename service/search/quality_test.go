package search_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"aran/platform/auth"
	"aran/platform/fault"
	"aran/service/search"
)

func TestPerDocumentAndDistinct(t *testing.T) {
	w := open(t)
	ann := person("acme", "user:ann")
	w.collection(ann, "docs")
	long := ""
	for i := range 8 {
		long += fmt.Sprintf("Section %d says that pumps of kind %d need oil, filters and care by people who know number %d well. %s\n\n", i, i, i, strings.Repeat("Other words follow here. ", 8))
	}
	w.put(ann, "docs", map[string]any{"id": "long", "text": long})
	same := "The pump in hall seven needs new oil every third month, says the service book of the maker."
	w.put(ann, "docs", map[string]any{"id": "one", "text": same})
	w.put(ann, "docs", map[string]any{"id": "two", "text": strings.Replace(same, "third month, says", "third month; says", 1)})
	w.put(ann, "docs", map[string]any{"id": "three", "text": "A pump without oil does not run for long."})

	if got := w.search(ann, "docs", map[string]any{"query": "oil for the pump", "limit": 20}); len(got.Hits) < 7 {
		t.Fatalf("%d passages", len(got.Hits))
	}
	for _, mode := range []string{"words", "meaning", "hybrid"} {
		got := w.search(ann, "docs", map[string]any{"query": "oil for the pump", "limit": 20, "per_document": 1, "mode": mode}).documents()
		slices.Sort(got)
		if !slices.Equal(got, []string{"long", "one", "three", "two"}) {
			t.Errorf("%s, one of each document: %v", mode, got)
		}
	}
	two := w.search(ann, "docs", map[string]any{"query": "oil for the pump", "limit": 20, "per_document": 2}).documents()
	if n := len(slices.DeleteFunc(two, func(d string) bool { return d != "long" })); n != 2 {
		t.Errorf("two of each document: %d of long", n)
	}
	got := w.search(ann, "docs", map[string]any{"query": "pump in hall seven", "distinct": true, "per_document": 1}).documents()
	if slices.Contains(got, "one") == slices.Contains(got, "two") || !slices.Contains(got, "three") {
		t.Errorf("distinct: %v", got)
	}
}

func TestHitSaysWhereItAnswers(t *testing.T) {
	w := open(t)
	ann := person("acme", "user:ann")
	w.collection(ann, "docs")
	text := "The weather was fine. Größere Turbines were inspected in spring! Nothing else happened, e.g. no fire. mail@example.com"
	w.put(ann, "docs", map[string]any{"id": "d", "title": "Report", "text": text})
	for _, mode := range []string{"words", "meaning", "hybrid"} {
		h := w.search(ann, "docs", map[string]any{"query": "inspecting the turbine", "mode": mode}).Hits[0]
		var marked []string
		for _, s := range h.Highlights {
			marked = append(marked, h.Text[s.Start:s.End])
		}
		if !slices.Equal(marked, []string{"Turbines", "inspected"}) {
			t.Errorf("%s: highlights %q", mode, marked)
		}
		if got := text[h.Span.Start:h.Span.End]; got != "Größere Turbines were inspected in spring!" {
			t.Errorf("%s: sentence %q", mode, got)
		}
		if h.Trust != search.TrustFlagged || h.Source != "upload" {
			t.Errorf("%s: trust %q, source %q", mode, h.Trust, h.Source)
		}
	}
	if h := w.search(ann, "docs", map[string]any{"query": "vehicle", "mode": "meaning"}).Hits[0]; len(h.Highlights) != 0 || h.Span.Start != 0 || h.Span.End != len(text) {
		t.Errorf("without a word in common: %+v", h)
	}
}

func TestTamilIsFoundByItsStems(t *testing.T) {
	w := open(t)
	ann := person("acme", "user:ann")
	w.collection(ann, "docs")
	w.put(ann, "docs", map[string]any{"id": "house", "text": "எங்கள் வீடுகளில் மரங்கள் உள்ளன."})
	w.put(ann, "docs", map[string]any{"id": "school", "text": "பள்ளியில் மாணவர்கள் படிக்கிறார்கள்."})
	w.put(ann, "docs", map[string]any{"id": "german", "text": "Die Häuser stehen in der Stadt und sind nicht so alt wie die anderen."})
	for query, want := range map[string]string{"வீட்டின் மரம்": "house", "பள்ளிக்கு": "school", "das Haus": "german", "the school பள்ளிகள்": "school"} {
		if got := w.search(ann, "docs", map[string]any{"query": query, "mode": "words"}).documents(); !slices.Equal(got, []string{want}) {
			t.Errorf("%q finds %v, want %s", query, got, want)
		}
	}
}

func TestWeightsOfARequest(t *testing.T) {
	w := open(t)
	ann := person("acme", "user:ann")
	w.collection(ann, "docs")
	w.put(ann, "docs", map[string]any{"id": "word", "text": "automobile registry rules and forms, many other things and more of them"})
	w.put(ann, "docs", map[string]any{"id": "meaning", "text": "car"})
	for want, weights := range map[string]map[string]float64{"word": {"words": 5, "meaning": 1}, "meaning": {"words": 0, "meaning": 1}} {
		if got := w.search(ann, "docs", map[string]any{"query": "automobile", "weights": weights}).documents(); got[0] != want {
			t.Errorf("weights %v: %v", weights, got)
		}
	}
	w.want(400, w.call(ann, "POST", "/api/v1/collections/docs/search", map[string]any{"query": "x", "weights": map[string]any{"words": -1, "meaning": 1}}))
	w.want(400, w.call(ann, "POST", "/api/v1/collections/docs/search", map[string]any{"query": "x", "weights": map[string]any{"words": 0, "meaning": 0}}))
}

func TestRerank(t *testing.T) {
	away := false
	w := open(t, func(_ *search.Config, d *search.Deps) {
		d.Rerank = func(_ context.Context, query string, passages []string) ([]float64, error) {
			if away {
				return nil, fault.New(fault.Unavailable, "model_away", "The reranker is away.")
			}
			out := make([]float64, len(passages))
			for i, p := range passages {
				out[i] = float64(len(p))
			}
			return out, nil
		}
	})
	ann := person("acme", "user:ann")
	w.collection(ann, "docs")
	w.put(ann, "docs", map[string]any{"id": "short", "text": "boats boats"})
	w.put(ann, "docs", map[string]any{"id": "long", "text": "boats and a great many other things that nobody asked for"})
	if got := w.search(ann, "docs", map[string]any{"query": "boats"}); got.Reranked || got.Hits[0].Document != "short" {
		t.Errorf("nobody asked for it: %+v", got)
	}
	if got := w.search(ann, "docs", map[string]any{"query": "boats", "rerank": true}); !got.Reranked || got.Hits[0].Document != "long" {
		t.Errorf("reranked: %+v", got)
	}
	away = true
	if got := w.search(ann, "docs", map[string]any{"query": "boats", "rerank": true}); got.Reranked || got.Hits[0].Document != "short" {
		t.Errorf("without it: %+v", got)
	}
}

func TestTypedFilter(t *testing.T) {
	w := open(t)
	ann := person("acme", "user:ann")
	w.collection(ann, "docs")
	for id, metadata := range map[string]map[string]string{
		"a": {"year": "2019", "lang": "en", "at": "2026-03-01"},
		"b": {"year": "2021.5", "lang": "de", "at": "2026-03-01T10:00:00+02:00"},
		"c": {"year": "2024", "lang": "ta", "open": "true"},
		"d": {"year": "recently", "at": "later"},
	} {
		w.put(ann, "docs", map[string]any{"id": id, "text": "boats of " + id, "metadata": metadata})
	}
	for _, c := range []struct {
		filter map[string]any
		want   string
	}{
		{map[string]any{"lang": "de"}, "b"},
		{map[string]any{"lang": map[string]any{"in": []string{"en", "ta"}}}, "a c"},
		{map[string]any{"lang": map[string]any{"not_in": []string{"en", "ta"}}}, "b d"},
		{map[string]any{"lang": map[string]any{"not": "en"}}, "b c d"},
		{map[string]any{"lang": map[string]any{"exists": false}}, "d"},
		{map[string]any{"open": map[string]any{"exists": true}}, "c"},
		{map[string]any{"open": true}, "c"},
		{map[string]any{"year": 2019.0}, "a"},
		{map[string]any{"year": map[string]any{"gt": 2019, "lte": 2024}}, "b c"},
		{map[string]any{"year": map[string]any{"gte": 2019, "lt": 2021.5}}, "a"},
		{map[string]any{"year": map[string]any{"gte": "2000"}, "lang": "ta"}, "c"},
		{map[string]any{"at": map[string]any{"gt": "2026-03-01"}}, "b"},
		{map[string]any{"at": map[string]any{"lte": "2026-03-01T08:00:00Z"}}, "a b"},
		{map[string]any{"at": map[string]any{"gte": 5}}, ""},
		{map[string]any{"lang": "x'; DROP TABLE search_document; --"}, ""},
	} {
		for _, mode := range []string{"words", "meaning", "hybrid"} {
			got := w.search(ann, "docs", map[string]any{"query": "boats", "filter": c.filter, "mode": mode}).documents()
			slices.Sort(got)
			if strings.Join(got, " ") != c.want {
				t.Errorf("%s %v: %v, want %s", mode, c.filter, got, c.want)
			}
		}
	}
}

func TestFilterRefusals(t *testing.T) {
	w := open(t)
	ann := person("acme", "user:ann")
	w.collection(ann, "docs")
	for _, filter := range []any{
		map[string]any{"a": map[string]any{}},
		map[string]any{"a": map[string]any{"near": 1}},
		map[string]any{"a": map[string]any{"gt": "soon"}},
		map[string]any{"a": map[string]any{"gt": 1, "lt": "2026-01-01"}},
		map[string]any{"a": map[string]any{"in": []any{}}},
		map[string]any{"a": []any{1}},
		map[string]any{"a": nil},
		map[string]any{"a": map[string]any{"in": []any{map[string]any{}}}},
		map[string]any{"a": map[string]any{"exists": "yes"}},
	} {
		if a := w.call(ann, "POST", "/api/v1/collections/docs/search", map[string]any{"query": "x", "filter": filter}); a.Status != 400 && a.Status != 422 {
			t.Errorf("%v: %d %s", filter, a.Status, a.Body)
		}
	}
}

// Fifty tenants store overlapping texts, each with a secret of its own, some behind access lists. What a tenant finds, and
// each score, is the same to the last bit as if it were alone; and what is behind an access list changes nothing for
// those who are not on it.
func TestFiftyTenantsLeaveNoTrace(t *testing.T) {
	const tenants = 50
	texts := []string{
		"The audit log holds every decision and its reason.", "Backups are kept for thirty days in another hall.",
		"The doctor sees the budget of the clinic twice a year.", "Boats lie in the harbour until the storm is over.",
	}
	store := func(w *world, who *auth.Identity, doc map[string]any) {
		w.want(202, w.call(who, "POST", "/api/v1/collections/docs/documents", doc))
	}
	indexed := func(w *world) {
		w.eventually("all is indexed", func() bool { return w.rows("search_document WHERE status <> 'indexed'") == 0 })
	}
	fill := func(w *world, n int, closed bool) {
		who := person(fmt.Sprint("t", n), "user:owner")
		w.collection(who, "docs")
		r := rand.New(rand.NewPCG(uint64(n), 7))
		for i := range 4 {
			store(w, who, map[string]any{"id": fmt.Sprint("d", i), "text": texts[r.IntN(len(texts))] + " " + texts[i] + fmt.Sprintf(" The code of tenant %d is zebra%d.", n, n)})
		}
		if closed {
			store(w, who, map[string]any{"id": "closed", "text": "Boats and backups: the secret is zebra and audit.", "access": []string{"role:chiefs"}})
		}
	}
	ask := func(w *world, n int, roles ...string) (out []found) {
		who := person(fmt.Sprint("t", n), "user:reader", roles...)
		for _, q := range []string{"audit log", "boats and backups", "physician", fmt.Sprintf("zebra%d", n), fmt.Sprintf("zebra%d zebra", (n+1)%tenants)} {
			for _, mode := range []string{"words", "meaning", "hybrid"} {
				f := w.search(who, "docs", map[string]any{"query": q, "mode": mode, "limit": 20})
				for i := range f.Hits {
					if f.Hits[i].Document == "closed" && !slices.Contains(roles, "chiefs") {
						t.Errorf("tenant %d reads what is closed", n)
					}
					for other := range tenants {
						if other != n && strings.Contains(f.Hits[i].Text, fmt.Sprintf("zebra%d.", other)) {
							t.Errorf("tenant %d reads the secret of %d", n, other)
						}
					}
				}
				out = append(out, f)
			}
		}
		return out
	}
	crowd := open(t)
	for n := range tenants {
		fill(crowd, n, n%2 == 0)
	}
	indexed(crowd)
	for _, n := range []int{0, 7, 24, 49} {
		alone := open(t)
		fill(alone, n, false)
		indexed(alone)
		if got, want := ask(crowd, n), ask(alone, n); !reflect.DeepEqual(got, want) {
			for i := range got {
				if !reflect.DeepEqual(got[i], want[i]) {
					t.Errorf("tenant %d, search %d: %+v, alone %+v", n, i, got[i], want[i])
				}
			}
		}
		alone.close()
	}
	if f := crowd.search(person("t0", "user:reader", "chiefs"), "docs", map[string]any{"query": "secret", "mode": "words"}); len(f.Hits) != 1 {
		t.Errorf("who is on the list finds %v", f.documents())
	}
}
