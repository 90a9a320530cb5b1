package search

import (
	"slices"
	"testing"
)

func list(ids ...passageID) (out []ranked) {
	for i, id := range ids {
		out = append(out, ranked{id: id, score: float64(10 - i)})
	}
	return out
}

func fused(fusion string, w Weights, documents bool, byWords, byMeaning []ranked) (out []passageID) {
	s := &Service{cfg: Default()}
	s.cfg.Fusion = fusion
	for _, r := range s.fuse([]scope{{weights: w}}, documents, byWords, byMeaning) {
		out = append(out, r.id)
	}
	return out
}

func TestFuse(t *testing.T) {
	one := Weights{1, 1}
	far := []ranked{{id: 1, score: 100}, {id: 2, score: 11}, {id: 3, score: 10}}
	for _, c := range []struct {
		name       string
		fusion     string
		w          Weights
		byWords    []ranked
		byMeaning  []ranked
		want       []passageID
		byDocument bool
	}{
		{"what both found stands first", FusionRanks, one, list(1, 2), list(3, 2), []passageID{2, 1, 3}, false},
		{"one list keeps its order", FusionScores, one, nil, list(3, 2, 1), []passageID{3, 2, 1}, false},
		{"ranks alone count", FusionRanks, one, far, list(2, 3, 1), []passageID{2, 1, 3}, false},
		{"how far ahead counts", FusionScores, one, far, list(2, 1, 3), []passageID{1, 2, 3}, false},
		{"weights", FusionRanks, Weights{3, 1}, list(1, 2), list(2, 1), []passageID{1, 2}, false},
		{"weights of scores", FusionScores, Weights{1, 3}, list(1, 2), list(2, 1), []passageID{2, 1}, false},
		{"a weight of 0", FusionScores, Weights{0, 1}, list(1), list(2, 3), []passageID{2, 3}, false},
		{"documents by different passages", FusionRanks, one, list(passageOf(7, 0), passageOf(8, 0)), list(passageOf(8, 3), passageOf(9, 0)), []passageID{passageOf(8, 3), passageOf(7, 0), passageOf(9, 0)}, true},
	} {
		if got := fused(c.fusion, c.w, c.byDocument, c.byWords, c.byMeaning); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestSentences(t *testing.T) {
	for text, want := range map[string][]string{
		"It is so, e.g. here and there. \"Really?\" she asked the others. No. 5 is alive and well!": {"It is so, e.g. here and there.", "\"Really?\" she asked the others.", "No. 5 is alive and well!"},
		"A heading without end\n\nThen a text.\nIt goes on":                                         {"A heading without end", "Then a text.\nIt goes on"},
		"安全平台。它是好的！完":                                                                               {"安全平台。", "它是好的！", "完"},
		"  \n\n ":                                                                                   nil,
		"Pi is 3.14159 and e is 2.71828 as all of you know. Good":                                   {"Pi is 3.14159 and e is 2.71828 as all of you know.", "Good"},
	} {
		var got []string
		for _, s := range sentences(text) {
			got = append(got, text[s.Start:s.End])
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q:\n%q, want\n%q", text, got, want)
		}
	}
}

func FuzzSentences(f *testing.F) {
	f.Add("One. Two! \n\nThree?) “Four.” 五。")
	f.Fuzz(func(t *testing.T, s string) {
		last := int64(0)
		for _, x := range sentences(s) {
			if x.Start < last || x.End <= x.Start || x.End > int64(len(s)) {
				t.Fatalf("%q: %v after %d", s, x, last)
			}
			last = x.End
		}
	})
}

func TestAlike(t *testing.T) {
	a := "The pump in hall seven needs new oil every third month, says the service book of the maker of pumps."
	for text, want := range map[string]bool{
		a: true,
		"the pump in Hall Seven needs new oil every third month: says the service book of the maker of pumps": true,
		"The pump in hall nine needs new filters twice a year, says the service book of another maker":        false,
		"something else altogether": false,
		"":                          false,
	} {
		if sketchOf(a).alike(sketchOf(text)) != want {
			t.Errorf("alike(%q) is %v", text, !want)
		}
	}
}
