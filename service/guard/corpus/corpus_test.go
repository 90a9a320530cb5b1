package corpus_test

import (
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"aran/service/guard/corpus"
)

var read = sync.OnceValues(corpus.Rows)

func rows(t *testing.T) []corpus.Row {
	t.Helper()
	rows, err := read()
	if err != nil {
		t.Fatalf("read the corpus: %v", err)
	}
	return rows
}

func TestRowsAreLabelledAndDistinct(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range rows(t) {
		switch k := corpus.Key(r.Text); {
		case seen[k]:
			t.Errorf("%s has a duplicate: %.80q", r.Source, r.Text)
		case r.Source == "", r.Family == "", r.Lang == "", r.Licence == "":
			t.Errorf("a row is not labelled: %+v", r)
		case r.Label != 0 && r.Label != 1:
			t.Errorf("%s has label %d", r.Source, r.Label)
		case len(r.Text) > 20_000:
			t.Errorf("%s has a row of %d bytes", r.Source, len(r.Text))
		case !utf8.ValidString(r.Text) || strings.TrimSpace(r.Text) != r.Text:
			t.Errorf("%s has a row that is not clean text: %.80q", r.Source, r.Text)
		default:
			seen[k] = true
		}
	}
}

func TestRowsAreTheSameEveryTime(t *testing.T) {
	a := rows(t)
	b, err := corpus.Rows()
	if err != nil {
		t.Fatalf("read the corpus again: %v", err)
	}
	if len(a) != len(b) {
		t.Fatalf("%d rows, then %d", len(a), len(b))
	}
	for i := range a {
		if a[i] != b[i] {
			t.Fatalf("row %d differs: %.80q, %.80q", i, a[i].Text, b[i].Text)
		}
	}
}

// A pair with one side only teaches its carrier.
func TestPairsAreComplete(t *testing.T) {
	labels := map[string][2]int{}
	for _, r := range rows(t) {
		if r.Pair != "" {
			n := labels[r.Pair]
			n[r.Label]++
			labels[r.Pair] = n
		}
	}
	for pair, n := range labels {
		if n[0] == 0 || n[1] == 0 {
			t.Errorf("pair %s has %d benign and %d attacks", pair, n[0], n[1])
		}
	}
	if len(labels) == 0 {
		t.Error("there are no pairs")
	}
}

// A language of one label only teaches that the language is the attack.
func TestEveryLanguageHasBothLabels(t *testing.T) {
	for _, c := range corpus.Counts(rows(t), func(r corpus.Row) string { return r.Lang }) {
		if c.Benign == 0 || c.Attacks == 0 {
			t.Errorf("language %s", c)
		}
	}
}

func TestCounts(t *testing.T) {
	all := rows(t)
	for what, name := range map[string]func(corpus.Row) string{
		"source":   func(r corpus.Row) string { return r.Source + ", " + r.Licence },
		"family":   func(r corpus.Row) string { return r.Family },
		"language": func(r corpus.Row) string { return r.Lang },
	} {
		sum := 0
		for _, c := range corpus.Counts(all, name) {
			sum += c.Benign + c.Attacks
			t.Logf("%s %s", what, c)
		}
		if sum != len(all) {
			t.Errorf("counts by %s add up to %d of %d rows", what, sum, len(all))
		}
	}
}
