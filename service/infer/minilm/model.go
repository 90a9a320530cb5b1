package minilm

import (
	"errors"
	"fmt"
	"math"
)

// The model's shape (BERT, 6 layers).
const (
	layers = 6
	heads  = 12
	headW  = Dim / heads // numbers of a head: one panel
	inner  = 4 * Dim
	group  = 48 // numbers of a word's embedding that share a scale
)

// matrix is a linear layer; its panels stay packed in the binary.
type matrix struct {
	in, out     int
	panels      string // [out/cols][in][panelRow]
	scale, bias []float32
}

type normal struct{ gain, bias []float32 }

type layer struct {
	qkv, out, up, down matrix
	norm1, norm2       normal
}

// model points into the packed weights: what is small is laid out as float32, the rest is read
// where it is.
type model struct {
	words  string    // i8 [vocabSize][Dim]
	scales string    // bf16 [vocabSize][Dim/group]
	places []float32 // [Window][Dim]
	norm   normal
	layers [layers]layer
}

func newModel(weights string) (*model, error) {
	r := &reader{b: weights}
	m := &model{words: r.take(vocabSize * Dim), scales: r.halves(vocabSize * Dim / group)}
	m.places = r.floats(Window * Dim)
	m.norm = r.normal()
	for i := range m.layers {
		l := &m.layers[i]
		l.qkv = r.matrix(Dim, 3*Dim)
		l.out = r.matrix(Dim, Dim)
		l.norm1 = r.normal()
		l.up = r.matrix(Dim, inner)
		l.down = r.matrix(inner, Dim)
		l.norm2 = r.normal()
	}
	switch {
	case r.short:
		return nil, errors.New("the packed model's weights are cut off")
	case len(r.b) > 0:
		return nil, fmt.Errorf("%d bytes stand behind the packed model's weights", len(r.b))
	case r.wild:
		return nil, errors.New("the packed model holds a scale, bias or position that is no number")
	}
	return m, nil
}

func (r *reader) normal() normal { return normal{r.floats(Dim), r.floats(Dim)} }

func (r *reader) matrix(in, out int) matrix {
	return matrix{in: in, out: out, panels: r.take(out / cols * in * panelRow), scale: r.floats(out), bias: r.floats(out)}
}

// word writes the embedding of a word piece.
func (m *model) word(dst []float32, id int32) {
	row := m.words[int(id)*Dim:][:Dim]
	scales := m.scales[int(id)*(Dim/group)*2:][:Dim/group*2]
	for g := range Dim / group {
		s := math.Float32frombits(uint32(scales[2*g])<<16 | uint32(scales[2*g+1])<<24)
		part, out := row[g*group:][:group], dst[g*group:][:group]
		for j := range out {
			out[j] = float32(int8(part[j])) * s //nolint:gosec // meant to be signed
		}
	}
}
