package minilm

import (
	"context"
	"errors"
	"math"
)

var errNoVector = errors.New("the model's numbers leave their range: it gives no vector")

// Rows stand a little further apart than they are long, so that the rows that a product reads
// side by side fall into different sets of the cache.
const (
	ldX     = Dim + 16
	ldQKV   = 3*Dim + 16
	ldInner = inner + 16
	ldScore = Window + 16
)

// fewRows is up to where unpacking a panel for its own sake does not pay.
const fewRows = 14

// scratch is the working memory of one pass over up to Window tokens.
type scratch struct {
	x      []float32 // [Window][ldX]
	y      []float32 // [Window][ldX]
	qkv    []float32 // [Window][ldQKV]
	inner  []float32 // [Window][ldInner]
	keys   []float32 // panels of one head's keys, transposed: [Window/cols][headW][cols]
	scores []float32 // [Window][ldScore]
	panel  []float32 // [inner][cols]
	mask   []float32 // [Window]
	root   []float32 // [cols] of 1/√headW
	one    []float32 // [cols] of 1
	zero   []float32 // [cols] of 0
}

func newScratch() *scratch {
	s := &scratch{
		x: make([]float32, Window*ldX), y: make([]float32, Window*ldX),
		qkv: make([]float32, Window*ldQKV), inner: make([]float32, Window*ldInner), keys: make([]float32, Window*headW),
		scores: make([]float32, Window*ldScore), panel: make([]float32, inner*cols), mask: make([]float32, Window),
		root: make([]float32, cols), one: make([]float32, cols), zero: make([]float32, cols),
	}
	for i := range cols {
		s.root[i], s.one[i] = float32(1/math.Sqrt(headW)), 1
	}
	return s
}

// forward runs the model over a batch and leaves the last layer's rows in s.x.
func (m *model) forward(ctx context.Context, k *kernel, s *scratch, b batch) error {
	n := len(b.ids)
	for _, span := range b.spans {
		for i := span[0]; i < span[1]; i++ {
			m.word(s.x[i*ldX:], b.ids[i])
			k.norm(s.x[i*ldX:], m.places[(i-span[0])*Dim:], m.norm.gain, m.norm.bias)
		}
	}
	for i := range m.layers {
		if err := ctx.Err(); err != nil {
			return err
		}
		l := &m.layers[i]
		k.linear(&l.qkv, n, s.x, ldX, s.qkv, ldQKV, s.panel)
		for _, span := range b.spans {
			k.attend(s, span[0], span[1]-span[0])
		}
		k.linear(&l.out, n, s.x2(), ldX, s.y, ldX, s.panel)
		k.add(&l.norm1, n, s)
		k.linear(&l.up, n, s.x, ldX, s.inner, ldInner, s.panel)
		for i := range n {
			k.gelu(s.inner[i*ldInner:][:inner])
		}
		k.linear(&l.down, n, s.inner, ldInner, s.y, ldX, s.panel)
		k.add(&l.norm2, n, s)
	}
	return nil
}

// linear is c = a · w for n rows.
func (k *kernel) linear(w *matrix, n int, a []float32, lda int, c []float32, ldc int, panel []float32) {
	size := w.in * panelRow
	if k.packed != nil && n <= fewRows {
		for j, rest := 0, w.panels; j < w.out; j, rest = j+cols, rest[size:] {
			k.packed(n, w.in, a, lda, rest[:size], c[j:], ldc, w.scale[j:], w.bias[j:])
		}
		return
	}
	panel = panel[:w.in*cols]
	for j, rest := 0, w.panels; j < w.out; j += cols {
		k.panel(panel, rest[:size])
		rest = rest[size:]
		k.product(n, w.in, a, lda, panel, cols, c[j:], ldc, w.scale[j:], w.bias[j:], rest)
	}
}

// add is x = norm(x + y) for n rows.
func (k *kernel) add(w *normal, n int, s *scratch) {
	for i := range n {
		k.norm(s.x[i*ldX:], s.y[i*ldX:], w.gain, w.bias)
	}
}

// attend works on one text, n tokens from row at: softmax(q · kᵀ / √headW) · v for each head,
// into the front of the rows of s.inner.
func (k *kernel) attend(s *scratch, at, n int) {
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
			k.product(n, headW, qkv, ldQKV, s.keys[j*headW:], cols, s.scores[j:], ldScore, s.root, s.mask[j:], "")
		}
		k.softmax(s.scores, n, wide, ldScore)
		k.product(n, n, s.scores, ldScore, qkv[2*Dim:], ldQKV, s.x2()[at*ldX+h*headW:], ldX, s.one, s.zero, "")
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

// pool is the mean of a text's rows, of unit length. A model whose sums leave the range of numbers has none.
func (s *scratch) pool(span [2]int) ([]float32, error) {
	v := make([]float32, Dim)
	for i := span[0]; i < span[1]; i++ {
		for j, x := range s.x[i*ldX:][:Dim] {
			v[j] += x
		}
	}
	var squares float64
	for _, x := range v {
		squares += float64(x) * float64(x)
	}
	if !(squares > 0) || math.IsInf(squares, 0) {
		return nil, errNoVector
	}
	scale := float32(1 / math.Sqrt(squares))
	for j := range v {
		v[j] *= scale
	}
	return v, nil
}
