package minilm

import (
	"errors"
	"fmt"
	"math"

	"aran/service/infer/bert"
)

const (
	layers = 6
	group  = 48 // numbers of a word's embedding that share a scale
)

// words are the embeddings of word pieces; they stay packed.
type words struct {
	numbers string // i8 [vocabSize][Dim]
	scales  string // bf16 [vocabSize][Dim/group]
}

// newModel points into the packed weights: what is small is laid out as float32, the rest is read where it is.
func newModel(weights string) (*bert.Model, error) {
	r := &reader{b: weights}
	w := words{r.take(vocabSize * Dim), r.halves(vocabSize * Dim / group)}
	m := &bert.Model{Word: w.write, Places: r.floats(Window * Dim), Norm: r.norm()}
	for range layers {
		m.Layers = append(m.Layers, bert.Layer{
			QKV: r.matrix(Dim, 3*Dim), Out: r.matrix(Dim, Dim), Norm1: r.norm(),
			Up: r.matrix(Dim, bert.Inner), Down: r.matrix(bert.Inner, Dim), Norm2: r.norm(),
		})
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

func (r *reader) norm() bert.Norm { return bert.Norm{Gain: r.floats(Dim), Bias: r.floats(Dim)} }

func (r *reader) matrix(in, out int) bert.Matrix {
	return bert.Matrix{In: in, Out: out, Packed: r.take(out / bert.Panel * in * bert.PanelRow), Scale: r.floats(out), Bias: r.floats(out)}
}

// write writes the embedding of a word piece.
func (w words) write(dst []float32, id int32) {
	row := w.numbers[int(id)*Dim:][:Dim]
	scales := w.scales[int(id)*(Dim/group)*2:][:Dim/group*2]
	for g := range Dim / group {
		s := math.Float32frombits(uint32(scales[2*g])<<16 | uint32(scales[2*g+1])<<24)
		part, out := row[g*group:][:group], dst[g*group:][:group]
		for j := range out {
			out[j] = float32(int8(part[j])) * s //nolint:gosec // meant to be signed
		}
	}
}
