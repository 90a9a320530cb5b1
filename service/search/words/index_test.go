package words_test

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"aran/service/search/words"
)

func id(term string) int64 { return words.ID("c", term) }

func ids(terms ...string) (out []int64) {
	for _, t := range terms {
		out = append(out, id(t))
	}
	return out
}

// forward are passages of space-separated terms.
func forward(passages ...string) words.Forward {
	var counts []map[string]int
	for _, p := range passages {
		m := map[string]int{}
		for t := range strings.FieldsSeq(p) {
			m[t]++
		}
		counts = append(counts, m)
	}
	return words.NewForward(id, counts)
}

func add(t testing.TB, x *words.Index, owner int64, passages ...string) {
	t.Helper()
	if err := x.Add(owner, func(i int) int64 { return owner*100 + int64(i) }, forward(passages...)); err != nil {
		t.Fatal(err)
	}
}

// corpus is random text: passages by owner.
func corpus(r *rand.Rand, owners int) map[int64][]string {
	out := map[int64][]string{}
	for o := range owners {
		for range 1 + r.IntN(3) {
			var p []string
			for range 3 + r.IntN(30) {
				p = append(p, fmt.Sprintf("t%d", int(math.Sqrt(float64(r.IntN(900))))))
			}
			out[int64(o)] = append(out[int64(o)], strings.Join(p, " "))
		}
	}
	return out
}

// plain is BM25 as its formula says, over what is readable.
func plain(texts map[int64][]string, readable, wanted func(int64) bool, terms []string, k int) (out []words.Found) {
	passages, total, in := int64(0), 0, map[string]int64{}
	for o, list := range texts {
		for _, p := range list {
			if !readable(o) {
				continue
			}
			f := strings.Fields(p)
			passages++
			total += len(f)
			for _, t := range terms {
				if slices.Contains(f, t) {
					in[t]++
				}
			}
		}
	}
	for o, list := range texts {
		for i, p := range list {
			f, score := strings.Fields(p), 0.0
			for _, t := range terms {
				n := 0
				for _, w := range f {
					if w == t {
						n++
					}
				}
				score += words.Weight(in[t], passages) * words.Score(n, len(f), float64(total)/float64(passages))
			}
			if score > 0 && readable(o) && wanted(o) {
				out = append(out, words.Found{ID: o*100 + int64(i), Score: score})
			}
		}
	}
	slices.SortFunc(out, func(a, b words.Found) int { return cmp.Or(cmp.Compare(b.Score, a.Score), cmp.Compare(a.ID, b.ID)) })
	return out[:min(len(out), k)]
}

func all(int64) bool { return true }

func TestIndexRanksAsTheFormulaSays(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	texts := corpus(r, 800)
	x := words.NewIndex()
	for o := range int64(800) {
		add(t, x, o, texts[o]...)
	}
	even := func(o int64) bool { return o%2 == 0 }
	third := func(o int64) bool { return o%3 == 0 }
	owners := func(ok func(int64) bool) (out []int64) {
		out = []int64{}
		for o := range int64(800) {
			if ok(o) {
				out = append(out, o)
			}
		}
		return out
	}
	check := func(what string) {
		t.Helper()
		for range 20 {
			terms := []string{fmt.Sprint("t", r.IntN(30)), fmt.Sprint("t", r.IntN(30)), "none"}
			slices.Sort(terms)
			terms = slices.Compact(terms)
			for name, c := range map[string]struct {
				view             words.View
				readable, wanted func(int64) bool
			}{
				"everything":     {words.View{}, all, all},
				"readable":       {x.View(owners(even), nil), even, all},
				"wanted":         {x.View(nil, owners(third)), all, third},
				"both":           {x.View(owners(even), owners(third)), even, third},
				"nothing to see": {x.View([]int64{}, nil), func(int64) bool { return false }, all},
			} {
				got, weights := x.Search(ids(terms...), c.view, 25)
				want := plain(texts, c.readable, c.wanted, terms, 25)
				if len(got) != len(want) || len(weights) != len(terms) {
					t.Fatalf("%s, %s: %d found, want %d", what, name, len(got), len(want))
				}
				for i := range got {
					if got[i].ID != want[i].ID || math.Abs(got[i].Score-want[i].Score) > 1e-9 {
						t.Fatalf("%s, %s: place %d is %v, want %v", what, name, i, got[i], want[i])
					}
				}
			}
		}
	}
	check("fresh")
	for o := range int64(300) {
		x.Delete(o)
		delete(texts, o)
	}
	check("after deletions")
	for o := range int64(300) {
		x.Delete(799 - o)
		delete(texts, 799-o)
	}
	if x.Passages() != len(slices.Concat(slices.Collect(func(yield func([]string) bool) {
		for _, p := range texts {
			if !yield(p) {
				return
			}
		}
	})...)) {
		t.Errorf("%d passages", x.Passages())
	}
	check("after compaction")
}

// What cannot be read has no influence, down to the last bit.
func TestScoresTellNothingOfWhatIsNotReadable(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	texts := corpus(r, 300)
	alone, beside := words.NewIndex(), words.NewIndex()
	var mine []int64
	for o := range int64(300) {
		add(t, beside, o, texts[o]...)
		if o%5 == 0 {
			add(t, alone, o, texts[o]...)
			mine = append(mine, o)
		}
	}
	for i := range 30 {
		terms := ids("t5", fmt.Sprint("t", i), "t29")
		want, w1 := alone.Search(terms, words.View{}, 50)
		got, w2 := beside.Search(terms, beside.View(mine, nil), 50)
		if !reflect.DeepEqual(got, want) || !slices.Equal(w1, w2) {
			t.Fatalf("%v, alone %v", got, want)
		}
	}
}

func TestForwardRoundTrip(t *testing.T) {
	want := forward("a b a c", "c", "")
	got, err := words.Unpack(want.Pack())
	if err != nil || len(got.Passages) != 3 || !slices.Equal(got.IDs, want.IDs) || got.Passages[0].Length != 4 || !slices.Equal(got.Passages[0].Terms, want.Passages[0].Terms) {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	b := want.Pack()
	if _, err := words.Unpack(b[:len(b)-1]); err == nil {
		t.Error("a cut list was read")
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(forward("a b a", "c").Pack())
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := words.Unpack(b)
		if err != nil {
			return
		}
		for _, p := range got.Passages {
			for _, o := range p.Terms {
				if o.Term < 0 || o.Term >= len(got.IDs) || o.Count < 1 {
					t.Fatalf("%+v", o)
				}
			}
		}
	})
}

// BenchmarkIndex searches 100,000 passages of 80 terms, as many distinct words as natural text has, with queries of six words.
func BenchmarkIndex(b *testing.B) {
	r := rand.New(rand.NewPCG(5, 6))
	zipf := rand.NewZipf(r, 1.1, 8, 300_000)
	x := words.NewIndex()
	for o := range int64(100_000) {
		m := map[string]int{}
		for range 80 {
			m[fmt.Sprint(zipf.Uint64())]++
		}
		if err := x.Add(o, func(int) int64 { return o }, words.NewForward(id, []map[string]int{m})); err != nil {
			b.Fatal(err)
		}
	}
	var queries [][]int64
	for range 100 {
		var q []string
		for range 6 {
			q = append(q, fmt.Sprint(20+zipf.Uint64()))
		}
		queries = append(queries, ids(q...))
	}
	n := 0
	for b.Loop() {
		x.Search(queries[n%len(queries)], words.View{}, 100)
		n++
	}
}
