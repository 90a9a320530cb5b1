package search_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"aran/platform/auth"
	"aran/service/search"
)

// slowly is a service whose loops hardly ever run by themselves.
var slowly option = func(c *search.Config, _ *search.Deps) { c.RetryAfter = 5 * time.Minute }

const reembedding = "/api/v1/collections/docs/reembedding"

func (w *world) reembedding(id *auth.Identity) (j struct {
	ID, State, Reason, Model, From, To string
	Total, Done                        int
},
) {
	w.t.Helper()
	w.want(200, w.call(id, "GET", reembedding, nil)).JSON(w.t, &j)
	return j
}

// library fills a collection with documents of one and of several parts.
func library(w *world, me *auth.Identity) {
	w.t.Helper()
	w.collection(me, "docs")
	for i := range 8 {
		text := fmt.Sprintf("vehicle repair number %d", i)
		if i%3 == 0 {
			text += strings.Repeat(". A sentence about the repair of vehicles stands here", 60)
		}
		w.want(202, w.call(me, "POST", "/api/v1/collections/docs/documents", map[string]any{"id": fmt.Sprint("d", i), "text": text}))
	}
	for i := range 8 {
		w.settled(me, "docs", fmt.Sprint("d", i))
	}
}

// onlyOne checks that all vectors are of one encoder, each part once, and that none is left beside.
func onlyOne(w *world, encoder string) {
	w.t.Helper()
	w.eventually("old vectors are gone", func() bool {
		return w.rows("search_vector_beside") == 0 && w.rows("search_edition e JOIN search_document d ON d.edition = e.id WHERE e.encoder <> '"+encoder+"'") == 0
	})
	if n := w.rows("search_passage"); w.db.Shared() && w.vectors == search.VectorsPgvector {
		if items := w.rows("search_vector_item"); items != n {
			w.t.Errorf("%d vectors of %d passages", items, n)
		}
	}
}

func TestAnotherModelTakesOverWithoutAGap(t *testing.T) {
	w := open(t)
	me := person("acme", "user:ann")
	library(w, me)
	stop := make(chan struct{})
	var g sync.WaitGroup
	g.Go(func() { // searches all the while
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			f := w.search(me, "docs", map[string]any{"query": "car", "mode": "meaning", "limit": 3})
			if len(f.Hits) != 3 || f.Degraded || f.Encoder != "encoder-one" && f.Encoder != "other-words" {
				t.Errorf("search %d: %d hits, degraded %v, by %s", n, len(f.Hits), f.Degraded, f.Encoder)
				return
			}
		}
	})
	var c struct {
		Model, Encoder string
		Reembedding    struct{ State, To string }
	}
	w.want(200, w.call(me, "PATCH", "/api/v1/collections/docs", map[string]any{"model": "other-words"})).JSON(t, &c)
	if c.Reembedding.To != "other-words" {
		t.Fatalf("%+v", c)
	}
	w.put(me, "docs", map[string]any{"id": "late", "text": "vehicle repair, late"}) // comes meanwhile
	w.eventually("it is done", func() bool { return w.reembedding(me).State == search.ReembeddingDone })
	f := w.search(me, "docs", map[string]any{"query": "car", "mode": "meaning", "limit": 100})
	if f.Encoder != "other-words" || f.Degraded || !slices.Contains(f.documents(), "late") || !slices.Contains(f.documents(), "d0") {
		t.Errorf("%+v", f)
	}
	if f := w.search(me, "docs", map[string]any{"query": "வாகனம் பழுது"}); f.Encoder != "other-words" || f.Degraded {
		t.Errorf("a model of many languages is not asked about Tamil: %+v", f)
	}
	onlyOne(w, "other-words")
	close(stop)
	g.Wait()
	after := w.search(me, "docs", map[string]any{"query": "car", "mode": "meaning", "limit": 100})
	if fmt.Sprint(after.Hits) != fmt.Sprint(f.Hits) {
		t.Error("settling changed what is found")
	}
	w.want(200, w.call(me, "GET", "/api/v1/collections/docs", nil)).JSON(t, &c)
	if j := w.reembedding(me); c.Model != "other-words" || c.Encoder != "other-words" || j.Done != j.Total || j.From != "encoder-one" {
		t.Errorf("%+v %+v", c, j)
	}
	w.eventually("events are out", func() bool {
		return len(w.events.of(search.ReembeddingStarted)) == 1 && len(w.events.of(search.ReembeddingEnded)) == 1
	})
}

func TestANewVersionOfTheModelTakesOverByItself(t *testing.T) {
	w := open(t)
	me := person("acme", "user:ann")
	library(w, me)
	w.encoder.also.Store("encoder-one") // the version of before still answers who names it
	w.encoder.digest.Store("encoder-two")
	w.eventually("it went over", func() bool {
		f := w.search(me, "docs", map[string]any{"query": "car", "mode": "meaning", "limit": 3})
		if len(f.Hits) != 3 || f.Degraded {
			t.Fatalf("a gap: %+v", f)
		}
		return f.Encoder == "encoder-two"
	})
	onlyOne(w, "encoder-two")
}

func TestAVersionThatIsGoneTakesOverToo(t *testing.T) {
	w := open(t)
	me := person("acme", "user:ann")
	library(w, me)
	w.encoder.digest.Store("encoder-two") // nobody serves the one of before
	w.put(me, "docs", map[string]any{"id": "new", "text": "vehicle repair, new"})
	if f := w.search(me, "docs", map[string]any{"query": "vehicle new"}); !slices.Contains(f.documents(), "new") {
		t.Errorf("%v", f.documents())
	}
	w.eventually("all is found by meaning again", func() bool {
		f := w.search(me, "docs", map[string]any{"query": "car", "mode": "meaning", "limit": 100})
		return f.Encoder == "encoder-two" && !f.Degraded && slices.Contains(f.documents(), "new") && slices.Contains(f.documents(), "d0")
	})
	onlyOne(w, "encoder-two")
}

func TestReembeddingIsCancelled(t *testing.T) {
	w := open(t)
	me := person("acme", "user:ann")
	library(w, me)
	w.encoder.away.Store(true)
	w.want(503, w.call(me, "PATCH", "/api/v1/collections/docs", map[string]any{"model": "other-words"}))
	w.encoder.away.Store(false)
	w.want(400, w.call(me, "PATCH", "/api/v1/collections/docs", map[string]any{"model": "talker"}))
	w.want(404, w.call(me, "GET", reembedding, nil))
	w.want(409, w.call(me, "DELETE", reembedding, nil))
	w.want(409, w.call(me, "POST", reembedding, nil))
	w.encoder.slow.Store(true)
	w.want(200, w.call(me, "PATCH", "/api/v1/collections/docs", map[string]any{"model": "other-words"}))
	w.eventually("some of it is there", func() bool { return w.rows("search_vector_beside") > 0 })
	w.want(200, w.call(me, "DELETE", reembedding, nil))
	w.encoder.slow.Store(false)
	onlyOne(w, "encoder-one")
	if j := w.reembedding(me); j.State != search.ReembeddingCancelled || j.Done >= j.Total {
		t.Errorf("%+v", j)
	}
	f := w.search(me, "docs", map[string]any{"query": "car", "mode": "meaning", "limit": 3})
	if len(f.Hits) != 3 || f.Degraded || f.Encoder != "encoder-one" {
		t.Errorf("%+v", f)
	}
	w.want(404, w.call(person("bolt", "user:bob"), "GET", reembedding, nil))
	w.want(404, w.call(person("bolt", "user:bob"), "PATCH", "/api/v1/collections/docs", map[string]any{"description": "mine"}))
}
