package main

import (
	"os"
	"strings"
	"testing"

	"aran/platform/vector"
	"aran/service/infer/minilm"
	"aran/service/search"
)

const again = "the documentation changed: run `go generate ./app/handbook`"

func load(t *testing.T) (search.Pack, *minilm.Encoder) {
	t.Helper()
	raw, err := os.ReadFile("../" + file)
	if err != nil {
		t.Fatal(err)
	}
	p, err := search.DecodePack(raw)
	if err != nil {
		t.Fatal(err)
	}
	e, err := minilm.Load()
	if err != nil {
		t.Fatal(err)
	}
	return p, e
}

func TestHandbookIsCurrent(t *testing.T) {
	old, e := load(t)
	now, contexts, err := collect("../../..", e)
	if err != nil {
		t.Fatal(err)
	}
	if old.Encoder != now.Encoder || len(old.Documents) != len(now.Documents) {
		t.Fatal(again)
	}
	const sample = 6 // every so many passages are encoded again: all of them take seconds
	n := 0
	for i, d := range now.Documents {
		was := old.Documents[i]
		if was.ID != d.ID || was.Title != d.Title || was.Text != d.Text || len(was.Passages) != len(d.Passages) {
			t.Fatalf("%s: %s", d.Source, again)
		}
		for j, p := range d.Passages {
			o := was.Passages[j]
			if o.Start != p.Start || o.End != p.End || strings.Join(o.Headings, "/") != strings.Join(p.Headings, "/") {
				t.Fatalf("%s: %s", d.Source, again)
			}
			if n%sample == 0 {
				v, err := e.Encode(t.Context(), contexts[n:n+1])
				if err != nil {
					t.Fatal(err)
				}
				if c := vector.Dot(v[0].Vector, o.Vector); c < 0.99 {
					t.Errorf("%s: passage %d has another vector (cosine %.4f): %s", d.Source, j, c, again)
				}
			}
			n++
		}
	}
}

func TestHandbookAnswersTheFirstQuestion(t *testing.T) {
	p, e := load(t)
	q, err := e.Encode(t.Context(), []string{"What does the audit log hold?"})
	if err != nil {
		t.Fatal(err)
	}
	best, score := "", float32(-1)
	for _, d := range p.Documents {
		for _, x := range d.Passages {
			if c := vector.Dot(q[0].Vector, x.Vector); c > score {
				best, score = d.Text[x.Start:x.End], c
			}
		}
	}
	if !strings.Contains(best, "one entry for every decision") {
		t.Errorf("nearest is %q (%.3f)", best, score)
	}
}
