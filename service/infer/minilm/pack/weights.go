package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
)

// The model's shape.
const (
	vocabSize = 30522
	dim       = 384
	window    = 256
	layers    = 6
	group     = 48 // numbers of a word's embedding that share a scale
	cols      = 32 // columns of a panel
)

// tensor is a matrix of float32, row-major; a vector has one row.
type tensor struct {
	rows, cols int
	v          []float32
}

// parse reads the safetensors format: u64 length, a JSON header, the data.
func parse(b []byte) (map[string]tensor, error) {
	if len(b) < 8 || binary.LittleEndian.Uint64(b) > uint64(len(b)-8) { //nolint:gosec // not negative
		return nil, errors.New("the header is cut off")
	}
	n := int(binary.LittleEndian.Uint64(b)) //nolint:gosec // checked against len(b)
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(b[8:8+n], &raw); err != nil {
		return nil, err
	}
	delete(raw, "__metadata__")
	body, out := b[8+n:], make(map[string]tensor)
	for name, r := range raw {
		var h struct {
			Type    string `json:"dtype"`
			Shape   []int  `json:"shape"`
			Offsets [2]int `json:"data_offsets"`
		}
		if err := json.Unmarshal(r, &h); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if h.Type != "F32" {
			continue
		}
		if len(h.Shape) == 1 {
			h.Shape = []int{1, h.Shape[0]}
		}
		if len(h.Shape) != 2 || min(h.Shape[0], h.Shape[1]) < 0 || max(h.Shape[0], h.Shape[1]) > len(body) {
			return nil, fmt.Errorf("%s: bad shape %v", name, h.Shape)
		}
		t := tensor{rows: h.Shape[0], cols: h.Shape[1]}
		if h.Offsets[0] < 0 || h.Offsets[1] > len(body) || h.Offsets[1]-h.Offsets[0] != 4*t.rows*t.cols || h.Offsets[1] < h.Offsets[0] {
			return nil, fmt.Errorf("%s: bad offsets %v", name, h.Offsets)
		}
		t.v = make([]float32, t.rows*t.cols)
		for i := range t.v {
			t.v[i] = math.Float32frombits(binary.LittleEndian.Uint32(body[h.Offsets[0]+4*i:]))
		}
		out[name] = t
	}
	return out, nil
}

// weights writes the file's second part, all of it without gaps, numbers little-endian:
//
//	word embeddings: i8 [vocab][dim]; their scales: bf16 [vocab][dim/group]
//	f32: position embeddings with the one token type added [window][dim]; norm's gain, bias [dim]
//	for each layer: matrix qkv, matrix out, gain, bias, matrix up, matrix down, gain, bias
//
// A matrix [in][out] is its panels, then f32 scale [out] and bias [out]; out = scale × sum + bias.
// A panel holds 32 columns; for each of its [in] rows: 32 × i8 with the upper 8 bits of the
// weight, then 16 × u8 with the lower 4 bits (of column c in the lower half, of 16+c in the upper).
func weights(out *bytes.Buffer, t map[string]tensor) error {
	w := writer{out: out, t: t}
	w.words("embeddings.word_embeddings.weight")
	pos, kind := w.get("embeddings.position_embeddings.weight"), w.get("embeddings.token_type_embeddings.weight")
	if w.err != nil {
		return w.err
	}
	for i := range window * dim {
		w.float(pos.v[i] + kind.v[i%dim])
	}
	w.floats("embeddings.LayerNorm.weight", "embeddings.LayerNorm.bias")
	for i := range layers {
		p := fmt.Sprintf("encoder.layer.%d.", i)
		w.matrix(p+"attention.self.query", p+"attention.self.key", p+"attention.self.value")
		w.matrix(p + "attention.output.dense")
		w.floats(p+"attention.output.LayerNorm.weight", p+"attention.output.LayerNorm.bias")
		w.matrix(p + "intermediate.dense")
		w.matrix(p + "output.dense")
		w.floats(p+"output.LayerNorm.weight", p+"output.LayerNorm.bias")
	}
	return w.err
}

// writer keeps the first error.
type writer struct {
	out *bytes.Buffer
	t   map[string]tensor
	err error
}

func (w *writer) get(name string) tensor {
	t, ok := w.t[name]
	if !ok && w.err == nil {
		w.err = fmt.Errorf("the model has no %s", name)
	}
	return t
}

func (w *writer) float(f float32) {
	w.out.Write(binary.LittleEndian.AppendUint32(nil, math.Float32bits(f)))
}

func (w *writer) floats(names ...string) {
	for _, n := range names {
		for _, f := range w.get(n).v {
			w.float(f)
		}
	}
}

func (w *writer) words(name string) {
	var scales []byte
	v := w.get(name).v
	for len(v) > 0 {
		var s float32
		for _, f := range v[:group] {
			s = max(s, f/127, -f/127)
		}
		bits := (math.Float32bits(s) + 0xffff) >> 16 // bfloat16, rounded up: nothing is clipped
		s = math.Float32frombits(bits << 16)
		scales = binary.LittleEndian.AppendUint16(scales, uint16(bits))
		for _, f := range v[:group] {
			w.out.WriteByte(byte(int8(round(f, s)))) //nolint:gosec // 8 bits
		}
		v = v[group:]
	}
	w.out.Write(scales)
}

// matrix writes the linear layers of these names side by side.
func (w *writer) matrix(names ...string) {
	var rows [][]float32 // [out][in]
	var bias []float32
	for _, n := range names {
		t := w.get(n + ".weight")
		for i := range t.rows {
			rows = append(rows, t.v[i*t.cols:][:t.cols])
		}
		bias = append(bias, w.get(n+".bias").v...)
	}
	scale := make([]float32, len(rows))
	for i, r := range rows {
		for _, f := range r {
			scale[i] = max(scale[i], f/2047, -f/2047)
		}
	}
	for p := 0; p < len(rows); p += cols {
		for k := range rows[p] {
			var hi [cols]byte
			var lo [cols / 2]byte
			for c := range cols {
				q := round(rows[p+c][k], scale[p+c])
				hi[c] = byte(int8(q >> 4)) //nolint:gosec // 12 bits
				lo[c%16] |= byte(q&15) << (c / 16 * 4)
			}
			w.out.Write(hi[:])
			w.out.Write(lo[:])
		}
	}
	for _, f := range scale {
		w.float(f)
	}
	for _, f := range bias {
		w.float(f)
	}
}

func round(f, scale float32) int {
	if scale == 0 {
		return 0
	}
	return int(math.RoundToEven(float64(f) / float64(scale)))
}
