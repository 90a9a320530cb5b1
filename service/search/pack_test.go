package search_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"strings"
	"testing"

	"aran/platform/auth"
	"aran/platform/store"
	"aran/platform/vector"
	"aran/service/search"
)

// book is a pack of small documents, as the generator makes them.
func book(t *testing.T, digest string, texts ...string) []byte {
	t.Helper()
	cfg := search.Default()
	cfg.PassageTokens, cfg.OverlapTokens = 64, 8
	p := search.Pack{Collection: "handbook", Description: "All about it.", Encoder: digest, Dim: dim}
	for i, text := range texts {
		d := search.PackDocument{ID: fmt.Sprint("page", i), Title: fmt.Sprint("Page ", i), Text: text, ContentType: "text/markdown", Source: "docs"}
		passages, contexts := cfg.Cut(d.Title, d.ContentType, text, tokens)
		for j := range passages {
			passages[j].Vector = vectorOf(contexts[j])
		}
		d.Passages = passages
		p.Documents = append(p.Documents, d)
	}
	raw, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func withPack(raw []byte) option {
	return func(_ *search.Config, d *search.Deps) { d.Packs = [][]byte{raw} }
}

func TestPackRoundTrip(t *testing.T) {
	raw := book(t, "encoder-one", "# A\n\nThe first page.", strings.Repeat("The second page is longer. ", 50))
	if !bytes.Equal(raw, book(t, "encoder-one", "# A\n\nThe first page.", strings.Repeat("The second page is longer. ", 50))) {
		t.Error("the same pack has other bytes")
	}
	p, err := search.DecodePack(raw)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range p.Documents {
		for _, x := range d.Passages {
			line := "Page 0 › A\n"
			if d.ID == "page1" {
				line = "Page 1\n"
			}
			if c := vector.Dot(x.Vector, vectorOf(line+d.Text[x.Start:x.End])); c < 0.999 {
				t.Errorf("%s: cosine %v with the vector that was packed", d.ID, c)
			}
		}
	}
	for name, bad := range map[string][]byte{"empty": nil, "cut": raw[:len(raw)/2], "no gzip": []byte("hello")} {
		if _, err := search.DecodePack(bad); err == nil {
			t.Errorf("%s: it was read", name)
		}
	}
}

func TestHandbookIsThereForEveryTenant(t *testing.T) {
	w := open(t, withPack(book(t, "encoder-one", "# Audit\n\nThe audit log holds every decision of the platform.", "# Keys\n\nA key ends when it is revoked.")))
	for _, p := range []*auth.Identity{person("acme", "user:ann"), person("bolt", "user:bob")} {
		for _, mode := range []string{"hybrid", "words", "meaning"} {
			f := w.search(p, "handbook", map[string]any{"query": "what does the audit log hold", "mode": mode, "limit": 1})
			if len(f.Hits) != 1 || !strings.Contains(f.Hits[0].Text, "every decision") || f.Degraded {
				t.Errorf("%s: %+v", mode, f)
			}
		}
		var c map[string]any
		w.want(200, w.call(p, "GET", "/api/v1/collections/handbook", nil)).JSON(t, &c)
		if c["public"] != true || c["read_only"] != true || c["documents"] != 2.0 {
			t.Errorf("%v", c)
		}
		w.want(404, w.call(p, "POST", "/api/v1/collections/handbook/documents", map[string]any{"text": "graffiti"}))
		w.want(404, w.call(p, "DELETE", "/api/v1/collections/handbook/documents/page0", nil))
		w.want(404, w.call(p, "DELETE", "/api/v1/collections/handbook", nil))
		a := w.want(409, w.call(p, "POST", "/api/v1/collections", map[string]any{"name": "handbook"}))
		if !strings.Contains(string(a.Body), "public collection of the platform") {
			t.Errorf("%s", a.Body)
		}
	}
}

func TestAccessListsOfAPublicCollectionOpenNothingToOtherTenants(t *testing.T) {
	w := open(t, withPack(book(t, "encoder-one", "Open words.", "Closed words.")))
	w.must(w.db.Tx(t.Context(), func(tx *store.Tx) error {
		if _, err := tx.Exec(t.Context(), "UPDATE search_document SET restricted = 1 WHERE id = 'page1'"); err != nil {
			return err
		}
		_, err := tx.Exec(t.Context(), "INSERT INTO search_access SELECT collection, id, 'user:ann' FROM search_document WHERE id = 'page1'")
		return err
	}))
	for _, mode := range []string{"hybrid", "words", "meaning"} {
		if got := w.search(person("acme", "user:ann"), "handbook", map[string]any{"query": "words", "mode": mode}).documents(); len(got) != 1 || got[0] != "page0" {
			t.Errorf("%s: acme finds %v", mode, got)
		}
		if got := w.search(person("system", "user:ann"), "handbook", map[string]any{"query": "words", "mode": mode}).documents(); len(got) != 2 {
			t.Errorf("%s: system finds %v", mode, got)
		}
	}
}

func TestNoCollectionsNamedMeansAllReadable(t *testing.T) {
	w := open(t, withPack(book(t, "encoder-one", "The handbook speaks of zebras.")))
	ann, bob := person("acme", "user:ann"), person("bolt", "user:bob")
	w.collection(ann, "docs")
	w.put(ann, "docs", map[string]any{"id": "d", "text": "Our zebras are striped."})
	find := func(p *auth.Identity, collections ...string) (out []string) {
		res, err := w.s.Retrieve(auth.With(t.Context(), *p, ""), search.Query{Collections: collections, Text: "zebras", Mode: search.Words})
		w.must(err)
		for _, h := range res.Hits {
			out = append(out, h.Collection)
		}
		return out
	}
	if got := find(ann); len(got) != 2 {
		t.Errorf("ann: %v", got)
	}
	if got := find(bob); len(got) != 1 || got[0] != "handbook" {
		t.Errorf("bob: %v", got)
	}
	if got := find(ann, "docs", "handbook", "docs"); len(got) != 2 {
		t.Errorf("named: %v", got)
	}
	if _, err := w.s.Retrieve(context.Background(), search.Query{Text: "zebras"}); err == nil {
		t.Error("nobody may search")
	}
}

func TestPackIsReplacedByANewOne(t *testing.T) {
	dir, e, j := t.TempDir(), newEncoder(), &judge{}
	first := book(t, "encoder-one", "Old words about apples.", "A page that stays.")
	me := person("acme", "user:ann")
	w := openAt(t, dir, e, j, withPack(first))
	w.search(me, "handbook", map[string]any{"query": "apples"})
	w.close()
	w = openAt(t, dir, e, j, withPack(first))
	w.eventually("events are out", func() bool { return w.rows("search_outbox WHERE type = '"+search.CollectionImported+"'") == 1 })
	w.close()
	w = openAt(t, dir, e, j, withPack(book(t, "encoder-one", "New words about pears.")))
	for _, mode := range []string{"hybrid", "words", "meaning"} {
		f := w.search(me, "handbook", map[string]any{"query": "apples pears", "mode": mode, "limit": 100})
		if len(f.Hits) != 1 || f.Hits[0].Text != "New words about pears." || f.Hits[0].Chunk != "page0:2:0" {
			t.Errorf("%s: %+v", mode, f.Hits)
		}
	}
	w.eventually("old rows are gone", func() bool { r := w.allRows(); return r["edition"] == 1 && r["vector"] == 1 && r["trash"] == 0 })
	var passages, live int
	w.must(w.db.QueryRow(t.Context(), "SELECT passages FROM search_collection").Scan(&passages))
	w.must(w.db.QueryRow(t.Context(), "SELECT COUNT(*) FROM search_passage").Scan(&live))
	if passages != live {
		t.Errorf("the collection counts %d passages and has %d", passages, live)
	}
}

func TestPackOfAnotherEncoderGoesByWords(t *testing.T) {
	w := open(t, withPack(book(t, "encoder-of-yesterday", "The audit log holds decisions.")))
	f := w.search(person("acme", "user:ann"), "handbook", map[string]any{"query": "audit decisions"})
	if len(f.Hits) != 1 || !f.Degraded {
		t.Errorf("%+v", f)
	}
}

func FuzzDecodePack(f *testing.F) {
	f.Add([]byte(`{"collection":"c","dim":2,"documents":[{"id":"a","text":"abc","passages":[{"start":0,"end":3,"vector":"AX8="}]}]}`))
	f.Fuzz(func(t *testing.T, plain []byte) {
		p, err := search.DecodePack(zipped(t, plain))
		if err != nil {
			return
		}
		for _, d := range p.Documents {
			for _, x := range d.Passages {
				if x.Start < 0 || x.End > len(d.Text) || x.Start >= x.End || len(x.Vector) != p.Dim {
					t.Fatalf("a bad passage was let in: %+v", x)
				}
			}
		}
	})
}

func zipped(t *testing.T, plain []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
