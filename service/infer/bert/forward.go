package bert

import (
	"context"
	"errors"
	"math"
)

// Rows stand a little further apart than they are long, so that the rows that a product reads
// side by side fall into different sets of the cache.
const (
	ldX     = Dim + 16
	ldQKV   = 3*Dim + 16
	ldInner = Inner + 16
)

// fewRows is up to where unpacking a panel for its own sake does not pay.
const fewRows = 14

// scratch is the working memory of one pass over up to window tokens.
type scratch struct {
	ldScore int
	x       []float32 // [window][ldX]
	y       []float32 // [window][ldX]
	qkv     []float32 // [window][ldQKV]
	inner   []float32 // [window][ldInner]
	keys    []float32 // panels of one head's keys, transposed: [window/cols][headW][cols]
	scores  []float32 // [window][ldScore]
	panel   []float32 // [Inner][cols]
	mask    []float32 // [window]
	root    []float32 // [cols] of 1/√headW
	one     []float32 // [cols] of 1
	zero    []float32 // [cols] of 0
}

// newScratch takes 4 MB for 256 tokens, 9 MB for 512. window is a multiple of cols.
func newScratch(window int) *scratch {
	s := &scratch{
		ldScore: window + 16,
		x:       make([]float32, window*ldX), y: make([]float32, window*ldX),
		qkv: make([]float32, window*ldQKV), inner: make([]float32, window*ldInner), keys: make([]float32, window*headW),
		scores: make([]float32, window*(window+16)), panel: make([]float32, Inner*cols), mask: make([]float32, window),
		root: make([]float32, cols), one: make([]float32, cols), zero: make([]float32, cols),
	}
	for i := range cols {
		s.root[i], s.one[i] = float32(1/math.Sqrt(headW)), 1
	}
	return s
}

// forward runs the model over a batch and leaves the last layer's rows in s.x.
func (m *Model) forward(ctx context.Context, k *Kernel, s *scratch, b Batch) error {
	n := len(b.ids)
	for _, span := range b.spans {
		for i := span[0]; i < span[1]; i++ {
			m.Word(s.x[i*ldX:][:Dim], b.ids[i])
			k.norm(s.x[i*ldX:], m.Places[(i-span[0])*Dim:], m.Norm.Gain, m.Norm.Bias)
		}
	}
	for i := range m.Layers {
		if err := ctx.Err(); err != nil {
			return err
		}
		l := &m.Layers[i]
		k.linear(&l.QKV, n, s.x, ldX, s.qkv, ldQKV, s)
		for _, span := range b.spans {
			k.attend(s, span[0], span[1]-span[0])
		}
		k.linear(&l.Out, n, s.x2(), ldX, s.y, ldX, s)
		k.add(&l.Norm1, n, s)
		k.linear(&l.Up, n, s.x, ldX, s.inner, ldInner, s)
		for i := range n {
			k.gelu(s.inner[i*ldInner:][:Inner])
		}
		k.linear(&l.Down, n, s.inner, ldInner, s.y, ldX, s)
		k.add(&l.Norm2, n, s)
	}
	return nil
}

// linear is c = a · w for n rows.
func (k *Kernel) linear(w *Matrix, n int, a []float32, lda int, c []float32, ldc int, s *scratch) {
	if w.Plain != nil {
		for j := 0; j < w.Out; j += cols {
			k.product(n, w.In, a, lda, w.Plain[j*w.In:], cols, c[j:], ldc, s.one, w.Bias[j:], "")
		}
		return
	}
	size := w.In * PanelRow
	if k.packed != nil && n <= fewRows {
		for j, rest := 0, w.Packed; j < w.Out; j, rest = j+cols, rest[size:] {
			k.packed(n, w.In, a, lda, rest[:size], c[j:], ldc, w.Scale[j:], w.Bias[j:])
		}
		return
	}
	panel := s.panel[:w.In*cols]
	for j, rest := 0, w.Packed; j < w.Out; j += cols {
		k.panel(panel, rest[:size])
		rest = rest[size:]
		k.product(n, w.In, a, lda, panel, cols, c[j:], ldc, w.Scale[j:], w.Bias[j:], rest)
	}
}

// add is x = norm(x + y) for n rows.
func (k *Kernel) add(w *Norm, n int, s *scratch) {
	for i := range n {
		k.norm(s.x[i*ldX:], s.y[i*ldX:], w.Gain, w.Bias)
	}
}

// attend works on one text, n tokens from row at: softmax(q · kᵀ / √headW) · v for each head,
// into the front of the rows of s.inner.
func (k *Kernel) attend(s *scratch, at, n int) {
	wide := (n + cols - 1) / cols * cols
	for i := range wide { // columns behind the text count as nothing
		s.mask[i] = 0
		if i >= n {
			s.mask[i] = -1e30
		}
	}
	for h := range heads {
		qkv := s.qkv[at*ldQKV+h*headW:]
		transpose(s.keys, qkv[Dim:], n)
		for j := 0; j < wide; j += cols {
			k.product(n, headW, qkv, ldQKV, s.keys[j*headW:], cols, s.scores[j:], s.ldScore, s.root, s.mask[j:], "")
		}
		k.softmax(s.scores, n, wide, s.ldScore)
		k.product(n, n, s.scores, s.ldScore, qkv[2*Dim:], ldQKV, s.x2()[at*ldX+h*headW:], ldX, s.one, s.zero, "")
	}
}

// x2 is where attention leaves its rows: nobody else needs this memory then.
func (s *scratch) x2() []float32 { return s.inner }

// transpose turns n rows of keys into panels; what stands behind them in the last panel is 0.
func transpose(panels, keys []float32, n int) {
	for i := 0; i < n; i += cols {
		p := panels[i*headW:][:headW*cols]
		if i+cols > n {
			clear(p)
		}
		for c := range min(cols, n-i) {
			row := keys[(i+c)*ldQKV:][:headW]
			for d, v := range row {
				p[d*cols+c] = v
			}
		}
	}
}

var errNoVector = errors.New("the model's numbers leave their range: it gives no vector")

// Rows are the last layer's rows of one text, [n][Dim] with a distance between them.
type Rows struct {
	s    *scratch
	span [2]int
}

// Len is how many there are: one for each token, markers included.
func (r Rows) Len() int { return r.span[1] - r.span[0] }

// Mean is the mean of the rows, of unit length. A model whose sums leave the range of numbers has none.
func (r Rows) Mean() ([]float32, error) {
	v := make([]float32, Dim)
	for i := r.span[0]; i < r.span[1]; i++ {
		for j, x := range r.s.x[i*ldX:][:Dim] {
			v[j] += x
		}
	}
	return v, unit(v, v)
}

// Each are copies of the rows from the first up to the end, each of unit length: [end-first][Dim].
func (r Rows) Each(first, end int) ([]float32, error) {
	out := make([]float32, (end-first)*Dim)
	for i := range end - first {
		if err := unit(out[i*Dim:][:Dim], r.s.x[(r.span[0]+first+i)*ldX:][:Dim]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// unit writes v at unit length; to may be v.
func unit(to, v []float32) error {
	var squares float64
	for _, x := range v {
		squares += float64(x) * float64(x)
	}
	if !(squares > 0) || math.IsInf(squares, 0) {
		return errNoVector
	}
	scale := float32(1 / math.Sqrt(squares))
	for j, x := range v {
		to[j] = x * scale
	}
	return nil
}
