// Package bert computes encoders of BERT's form with 384 numbers a token (Devlin et al. 2018): the layers, and
// the arithmetic of the processor at hand.
//
// It knows no file, no tokenizer and no text: tokens go in, the last layer's rows come out. A text's rows do not
// depend on what else is in the batch, to the last bit. The assembly trusts its lengths; nothing reaches it
// without having been looked at.
package bert

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
)

// The form.
const (
	Dim   = 384 // numbers of a token
	Inner = 4 * Dim
	heads = 12
	headW = Dim / heads // numbers of a head: one panel
)

// Panel is how many columns a panel has, and PanelRow how many bytes one of its rows takes when packed.
const (
	Panel    = cols
	PanelRow = cols + cols/2
)

// Matrix is a linear layer of In × Out numbers in panels of columns, either packed or plain. Out is a multiple
// of Panel, In at most Inner.
type Matrix struct {
	In, Out int
	Packed  string    // 12-bit numbers [Out/Panel][In][PanelRow], to multiply by Scale
	Plain   []float32 // [Out/Panel][In][Panel]
	Scale   []float32 // [Out], of a packed matrix
	Bias    []float32 // [Out]
}

// Norm is a layer's norm over Dim numbers.
type Norm struct{ Gain, Bias []float32 }

// Layer is attention and what follows it.
type Layer struct {
	QKV, Out, Up, Down Matrix
	Norm1, Norm2       Norm
}

// Model is an encoder's weights.
type Model struct {
	Word   func(dst []float32, id int32) // writes a token's embedding
	Places []float32                     // [window][Dim], the first segment's embedding included
	Norm   Norm
	Layers []Layer
}

// Batch is some texts whose tokens go through the model together.
type Batch struct {
	ids   []int32
	texts []int    // which they are
	spans [][2]int // of each in ids
}

// Batches puts texts into batches of at most window tokens. tokens gives text i's, with markers: 1 to window of
// them. The long ones come first and each goes where it still fits: nothing is padded, and batches are full.
func Batches(window, texts int, tokens func(i int) []int32) []Batch {
	ids, order := make([][]int32, texts), make([]int, texts)
	for i := range ids {
		ids[i], order[i] = tokens(i), i
	}
	slices.SortStableFunc(order, func(a, b int) int { return len(ids[b]) - len(ids[a]) })
	var all []Batch
	open := 0 // batches before it are full
	for _, i := range order {
		at := open
		for at < len(all) && len(all[at].ids)+len(ids[i]) > window {
			at++
		}
		if at == len(all) {
			all = append(all, Batch{})
		}
		b := &all[at]
		b.texts = append(b.texts, i)
		b.spans = append(b.spans, [2]int{len(b.ids), len(b.ids) + len(ids[i])})
		b.ids = append(b.ids, ids[i]...)
		for open < len(all) && len(all[open].ids) == window {
			open++
		}
	}
	return all
}

// Runner sends batches through models of one window. Safe for concurrent use: it computes on no more processors
// than GOMAXPROCS was when it was made, whoever calls; others wait.
type Runner struct {
	fast  Kernel
	slots chan struct{} // one for each pass that may run
	spare sync.Pool     // of *scratch
}

// NewRunner takes the window in tokens, a multiple of Panel, and the kernel to compute with.
func NewRunner(window int, k Kernel) *Runner {
	return &Runner{
		fast:  k,
		slots: make(chan struct{}, runtime.GOMAXPROCS(0)),
		spare: sync.Pool{New: func() any { return newScratch(window) }},
	}
}

// Run gives each text's rows to take, from several goroutines, and only until take returns. It stops early when
// ctx ends, or with take's first error.
func (r *Runner) Run(ctx context.Context, m *Model, all []Batch, take func(text int, rows Rows) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(cap(r.slots))
	for _, b := range all {
		g.Go(func() error { return r.pass(ctx, m, b, take) })
	}
	return g.Wait()
}

// pass runs a batch when a processor is free.
func (r *Runner) pass(ctx context.Context, m *Model, b Batch, take func(text int, rows Rows) error) error {
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	s, _ := r.spare.Get().(*scratch)
	defer r.spare.Put(s)
	if err := m.forward(ctx, &r.fast, s, b); err != nil {
		return err
	}
	for i, t := range b.texts {
		if err := take(t, Rows{s, b.spans[i]}); err != nil {
			return fmt.Errorf("text %d: %w", t, err)
		}
	}
	return nil
}

// Best returns for each of n rows of query the largest product with one of m rows of document: with rows of unit
// length, the cosine of the nearest. Without any rows of a document it is −1.
func (r *Runner) Best(query []float32, n int, document []float32, m int) []float32 {
	best := make([]float32, n)
	for i := range best {
		best[i] = -1
	}
	if m == 0 {
		return best
	}
	s, _ := r.spare.Get().(*scratch)
	defer r.spare.Put(s)
	panel := s.panel[:Dim*cols]
	for at := 0; at < n; at += cols { // the columns of a panel are rows of the query
		wide := min(cols, n-at)
		clear(panel)
		for c := range wide {
			for d, v := range query[(at+c)*Dim:][:Dim] {
				panel[d*cols+c] = v
			}
		}
		r.fast.product(m, Dim, document, Dim, panel, cols, s.scores, s.ldScore, s.one, s.zero, "")
		for i := range m {
			for c, v := range s.scores[i*s.ldScore:][:wide] {
				best[at+c] = max(best[at+c], v)
			}
		}
	}
	return best
}
