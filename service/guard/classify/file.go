package classify

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
)

// About is the header of a model's file: what it is, how it was made and how good it was on sources that were left out.
type About struct {
	Version  string        `json:"version"`
	Features string        `json:"features"` // must be the program's
	Concepts []string      `json:"concepts"`
	Trained  []SourceCount `json:"trained"`
	Left     []SourceCount `json:"left_out"`  // read, and not trained on
	BaseRate float64       `json:"base_rate"` // share of attacks among texts, for which scores are probabilities
	Combine  []Combiner    `json:"combine"`   // of rules, of rules and this classifier, and so on
}

// SourceCount is a source of texts.
type SourceCount struct {
	Name    string `json:"name"`
	Attacks int    `json:"attacks"`
	Benign  int    `json:"benign"`
}

// featuresVersion names the form of the features: another one can't use the weights.
const featuresVersion = "windows of 64 words, grams 1-2, pieces, concepts near 7; 2"

// A file is the magic, the length of the header and the header as JSON, then the bias, and three lists: hashes and
// weights of grams, the same of pieces, and the dense weights. All numbers are little-endian, lists have their length in
// front, hashes rise.
const (
	magic     = "arangc01"
	maxHeader = 1 << 20
	maxList   = 1 << 20
)

// Weights is a model in parts, as training makes it.
type Weights struct {
	About  About
	Bias   float32
	Grams  []Weight
	Pieces []Weight
	Dense  []float32
}

// Weight belongs to a hash.
type Weight struct {
	Hash   uint64
	Weight float32
}

// Encode writes a model's file: the same bytes for the same parts.
func (w *Weights) Encode() ([]byte, error) {
	head, err := json.Marshal(w.About)
	if err != nil {
		return nil, fmt.Errorf("write the header: %w", err)
	}
	var b bytes.Buffer
	b.WriteString(magic)
	put := func(n int) { b.Write(binary.LittleEndian.AppendUint32(nil, uint32(n))) } //nolint:gosec // bounded below
	float := func(f float32) { b.Write(binary.LittleEndian.AppendUint32(nil, math.Float32bits(f))) }
	put(len(head))
	b.Write(head)
	float(w.Bias)
	for _, list := range [][]Weight{w.Grams, w.Pieces} {
		list = slices.SortedFunc(slices.Values(list), func(a, b Weight) int { return cmp.Compare(a.Hash, b.Hash) })
		put(len(list))
		for _, x := range list {
			b.Write(binary.LittleEndian.AppendUint64(nil, x.Hash))
		}
		for _, x := range list {
			float(x.Weight)
		}
	}
	put(len(w.Dense))
	for _, f := range w.Dense {
		float(f)
	}
	return b.Bytes(), nil
}

var errShort = errors.New("it is cut off")

// reader takes numbers from the front of a file. After an error it gives zeros.
type reader struct {
	b   []byte
	err error
}

func (r *reader) take(n int) []byte {
	if r.err != nil || n < 0 || n > len(r.b) {
		r.err = cmp.Or(r.err, errShort)
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) count(most int) int {
	b := r.take(4)
	if b == nil {
		return 0
	}
	n := binary.LittleEndian.Uint32(b)
	if n > uint32(most) { //nolint:gosec // small
		r.err = fmt.Errorf("a list of %d is too long", n)
		return 0
	}
	return int(n)
}

func (r *reader) floats(n int) []float32 {
	b := r.take(4 * n)
	out := make([]float32, len(b)/4)
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
		if out[i]-out[i] != 0 {
			r.err = cmp.Or(r.err, errors.New("it holds what is no number"))
		}
	}
	return out
}

func (r *reader) table() *table {
	n := r.count(maxList)
	hashes := r.take(8 * n)
	weights := r.floats(n)
	if r.err != nil {
		return nil
	}
	t := newTable(n)
	last := uint64(0)
	for i, w := range weights {
		h := binary.LittleEndian.Uint64(hashes[8*i:])
		if h <= last || !t.put(h, w) {
			r.err = errors.New("its hashes do not rise")
			return nil
		}
		last = h
	}
	return t
}

// Parse reads a model's file. All of it is checked, and a file made for other features or concepts than this program's is
// an error. Reading one runs no code.
func Parse(b []byte) (*Model, error) {
	m, err := parse(b)
	if err != nil {
		return nil, fmt.Errorf("read the classifier: %w", err)
	}
	return m, nil
}

func parse(b []byte) (*Model, error) {
	r := &reader{b: b}
	if string(r.take(len(magic))) != magic {
		return nil, errors.New("it is no classifier of the guard")
	}
	m := &Model{digest: digestOf(b)}
	head := r.take(r.count(maxHeader))
	if r.err != nil {
		return nil, r.err
	}
	if err := json.Unmarshal(head, &m.about); err != nil {
		return nil, fmt.Errorf("read the header: %w", err)
	}
	var err error
	if m.concept, err = parseConcepts(conceptsFile); err != nil {
		return nil, err
	}
	if m.about.Features != featuresVersion || !slices.Equal(m.about.Concepts, m.concept.names) {
		return nil, fmt.Errorf("it was made for the features %.100q and %d concepts, this program has %q and %d", m.about.Features, len(m.about.Concepts), featuresVersion, len(m.concept.names))
	}
	if bias := r.floats(1); len(bias) == 1 {
		m.bias = bias[0]
	}
	m.grams, m.pieces = r.table(), r.table()
	m.dense = r.floats(r.count(maxList))
	switch {
	case r.err != nil:
		return nil, r.err
	case len(r.b) > 0:
		return nil, fmt.Errorf("%d bytes stand behind its end", len(r.b))
	case !m.about.combines():
		return nil, errors.New("it does not say how to combine rules and classifier")
	case len(m.dense) != denseSize(len(m.concept.names)):
		return nil, fmt.Errorf("%d dense weights, want %d", len(m.dense), denseSize(len(m.concept.names)))
	}
	return m, nil
}
