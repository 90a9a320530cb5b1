package bert

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// tiny is a model of one layer with random weights, packed or plain; both hold the same numbers.
func tiny(rnd *rand.Rand, plain bool) *Model {
	matrix := func(in, out int) Matrix {
		b := make([]byte, out/cols*in*PanelRow)
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		w := Matrix{In: in, Out: out, Packed: string(b), Scale: slices.Repeat([]float32{1.0 / 16384}, out), Bias: random(rnd, out)}
		if plain {
			w.Plain = make([]float32, in*out)
			panelPortable(w.Plain, w.Packed)
			for i := range w.Plain {
				w.Plain[i] /= 16384 // a power of two: nothing is rounded
			}
			w.Packed, w.Scale = "", nil
		}
		return w
	}
	norm := func() Norm { return Norm{random(rnd, Dim), random(rnd, Dim)} }
	words := random(rnd, 100*Dim)
	return &Model{
		Word:   func(dst []float32, id int32) { copy(dst, words[int(id)*Dim:][:Dim]) },
		Places: random(rnd, 64*Dim), Norm: norm(),
		Layers: []Layer{{QKV: matrix(Dim, 3*Dim), Out: matrix(Dim, Dim), Up: matrix(Dim, Inner), Down: matrix(Inner, Dim), Norm1: norm(), Norm2: norm()}},
	}
}

func means(t *testing.T, m *Model, k Kernel, texts [][]int32) [][]float32 {
	t.Helper()
	out := make([][]float32, len(texts))
	all := Batches(64, len(texts), func(i int) []int32 { return texts[i] })
	err := NewRunner(64, k).Run(t.Context(), m, all, func(text int, rows Rows) (err error) {
		out[text], err = rows.Mean()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestPlainAndPackedWeightsGiveTheSame(t *testing.T) {
	texts := [][]int32{{1, 2, 3}, {4}, {5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20}, slices.Repeat([]int32{21, 22}, 32)}
	want := means(t, tiny(rand.New(rand.NewPCG(1, 1)), true), portable(), texts)
	for _, k := range Kernels() {
		for _, plain := range []bool{false, true} {
			for i, v := range means(t, tiny(rand.New(rand.NewPCG(1, 1)), plain), k, texts) {
				for j := range v {
					if d := math.Abs(float64(v[j] - want[i][j])); !(d < 1e-5) {
						t.Fatalf("%s, plain %v, text %d: number %d is %v, want %v", k.Name, plain, i, j, v[j], want[i][j])
					}
				}
			}
		}
	}
}

func TestBatchesHoldEveryTextOnce(t *testing.T) {
	lengths := []int{64, 1, 63, 2, 30, 30, 4, 64, 64, 10}
	seen := map[int]bool{}
	all := Batches(64, len(lengths), func(i int) []int32 { return make([]int32, lengths[i]) })
	if len(all) != 6 { // 332 tokens
		t.Errorf("%d batches, want 6", len(all))
	}
	for _, b := range all {
		if len(b.ids) == 0 || len(b.ids) > 64 {
			t.Errorf("a batch of %d tokens", len(b.ids))
		}
		for i, text := range b.texts {
			if seen[text] || b.spans[i][1]-b.spans[i][0] != lengths[text] {
				t.Errorf("text %d stands there twice, or with %d tokens", text, b.spans[i][1]-b.spans[i][0])
			}
			seen[text] = true
		}
	}
	if len(seen) != len(lengths) {
		t.Errorf("%d texts of %d", len(seen), len(lengths))
	}
}

func TestRunStopsWhenTheCallerLeavesWhileItWaits(t *testing.T) {
	r := NewRunner(64, Kernels()[0])
	for range cap(r.slots) { // every processor is busy
		r.slots <- struct{}{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		done <- r.Run(ctx, tiny(rand.New(rand.NewPCG(1, 1)), true), []Batch{{ids: []int32{1}, texts: []int{0}, spans: [][2]int{{0, 1}}}}, func(int, Rows) error { return nil })
	}()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v, want canceled", err)
	}
}

func TestBest(t *testing.T) {
	rnd := rand.New(rand.NewPCG(9, 9))
	for _, k := range Kernels() {
		for _, n := range []int{0, 1, 31, 33} {
			for _, m := range []int{0, 1, 40} {
				query, document := random(rnd, n*Dim), random(rnd, m*Dim)
				got := NewRunner(64, k).Best(query, n, document, m)
				for i := range n {
					want := -1.0
					for j := range m {
						var dot float64
						for d := range Dim {
							dot += float64(query[i*Dim+d]) * float64(document[j*Dim+d])
						}
						want = max(want, dot)
					}
					if math.Abs(float64(got[i])-want) > 1e-3 {
						t.Fatalf("%s %d×%d: row %d is %v, want %v", k.Name, n, m, i, got[i], want)
					}
				}
				if len(got) != n {
					t.Fatalf("%d results for %d rows", len(got), n)
				}
			}
		}
	}
}
