// Package heads holds what stands on top of a text encoder: small layers that tell how well a passage answers a
// query, or which class a text is of.
//
// A head is data, a safetensors file, and belongs to the encoder whose digest it names: on top of another one its
// numbers mean nothing, and whoever has another one must refuse it. Reading one runs no code, and nothing in it is
// trusted before it was looked at.
package heads

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	_ "embed"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"unicode/utf8"
)

// Kinds of heads.
const (
	Rerank   = "rerank"
	Classify = "classify"
)

// Names of the heads inside the program.
const (
	RerankName    = "minilm-rerank"
	InjectionName = "minilm-injection"
)

// Attack is the label of InjectionName's head for texts that give instructions where they may not; Harmless is the other.
const (
	Attack   = "attack"
	Harmless = "harmless"
)

//go:embed rerank.safetensors
var rerank []byte

//go:embed injection.safetensors
var injection []byte

// Injection is the head inside the program that tells attacks on a model from harmless texts (make train-guard).
func Injection() (*Head, error) { return Parse(injection) }

// Builtin is the rerank head inside the program (test/bench/rerank).
func Builtin() (*Head, error) { return Parse(rerank) }

// Head is a head. Safe for concurrent use.
type Head struct {
	Kind    string
	Encoder string   // digest of the encoder that it belongs to
	Labels  []string // classify: the classes, in the order of the outputs
	digest  string
	in      int
	layers  []layer
}

// layer is out = weight · in + bias; between two of them what is negative becomes 0.
type layer struct {
	weight [][]float32 // [out][in]
	bias   []float32   // [out]
}

// Bounds of a file.
const (
	maxFile   = 64 << 20 // bytes
	maxHeader = 1 << 20
	maxWidth  = 1 << 14 // inputs or outputs of a layer
	maxLabels = 1 << 10
	maxLabel  = 200 // bytes
)

// Open reads a head from a file. The errors are Parse's and those of reading.
func Open(path string) (*Head, error) {
	f, err := os.Open(path) //nolint:gosec // the caller names the file
	if err != nil {
		return nil, fmt.Errorf("open the head: %w", err)
	}
	defer f.Close() //nolint:errcheck // it was read only
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read the head %s: %w", path, err)
	}
	h, err := Parse(b)
	if err != nil {
		return nil, fmt.Errorf("the head %s: %w", path, err)
	}
	return h, nil
}

// entry is a tensor in the header of a safetensors file.
type entry struct {
	Type    string   `json:"dtype"`
	Shape   []int64  `json:"shape"`
	Offsets [2]int64 `json:"data_offsets"`
}

// Parse reads a head: a safetensors file whose tensors, all F32, are `weight` [outputs, inputs] and `bias`
// [outputs], and for one more layer below `hidden.weight` and `hidden.bias`. Its metadata are `kind`, `encoder`
// (a digest), `labels` (classify: a JSON array, one for each output) and `features` (rerank: a JSON array, which
// must be Features), and whatever else. All of the file is accounted for.
func Parse(b []byte) (*Head, error) {
	if len(b) < 8 || len(b) > maxFile {
		return nil, fmt.Errorf("a file of %d bytes is no head", len(b))
	}
	size := binary.LittleEndian.Uint64(b)
	if size > maxHeader || size > uint64(len(b)-8) { //nolint:gosec // there are 8 at least
		return nil, errors.New("the header is cut off, or no safetensors header")
	}
	var header map[string]json.RawMessage
	d := json.NewDecoder(bytes.NewReader(b[8 : 8+size]))
	if err := d.Decode(&header); err != nil {
		return nil, fmt.Errorf("read the header: %w", err)
	}
	var about map[string]string
	if err := json.Unmarshal(header["__metadata__"], &about); err != nil {
		return nil, fmt.Errorf("read the metadata: %w", err)
	}
	delete(header, "__metadata__")
	sum := sha256.Sum256(b)
	h := &Head{Kind: about["kind"], Encoder: about["encoder"], digest: hex.EncodeToString(sum[:])}
	names := []string{"weight", "bias"}
	if len(header) == 4 {
		names = []string{"hidden.weight", "hidden.bias", "weight", "bias"}
	}
	if !slices.Equal(slices.Sorted(maps.Keys(header)), slices.Sorted(slices.Values(names))) {
		return nil, fmt.Errorf("its tensors are %.200q, want %q", slices.Sorted(maps.Keys(header)), names)
	}
	if err := h.read(header, names, b[8+size:]); err != nil {
		return nil, err
	}
	return h, h.check(about)
}

func (h *Head) read(header map[string]json.RawMessage, names []string, data []byte) error {
	var entries []entry
	for _, name := range names {
		var e entry
		if err := json.Unmarshal(header[name], &e); err != nil {
			return fmt.Errorf("tensor %s: %w", name, err)
		}
		n := int64(1)
		for _, s := range e.Shape {
			if s < 1 || s > maxWidth {
				return fmt.Errorf("tensor %s has the shape %d", name, e.Shape)
			}
			n *= s
		}
		if e.Type != "F32" || len(e.Shape) < 1 || len(e.Shape) > 2 || e.Offsets[0] < 0 || e.Offsets[1] > int64(len(data)) || e.Offsets[1]-e.Offsets[0] != 4*n {
			return fmt.Errorf("tensor %s is not F32 of the shape %d inside the file", name, e.Shape)
		}
		entries = append(entries, e)
	}
	covered := slices.Clone(entries)
	slices.SortFunc(covered, func(a, b entry) int { return int(a.Offsets[0] - b.Offsets[0]) })
	end := int64(0)
	for _, e := range covered {
		if e.Offsets[0] != end {
			return errors.New("between its tensors is a gap, or they share bytes")
		}
		end = e.Offsets[1]
	}
	if end != int64(len(data)) {
		return fmt.Errorf("%d bytes stand behind its tensors", int64(len(data))-end)
	}
	for ; len(entries) > 0; entries, names = entries[2:], names[2:] {
		w, bias := entries[0], entries[1]
		if len(w.Shape) != 2 || len(bias.Shape) != 1 || w.Shape[0] != bias.Shape[0] {
			return fmt.Errorf("%s %d and %s %d do not fit", names[0], w.Shape, names[1], bias.Shape)
		}
		numbers, err := floats(data[w.Offsets[0]:w.Offsets[1]])
		l := layer{weight: slices.Collect(slices.Chunk(numbers, int(w.Shape[1])))}
		var err2 error
		l.bias, err2 = floats(data[bias.Offsets[0]:bias.Offsets[1]])
		if err = errors.Join(err, err2); err != nil {
			return err
		}
		if len(h.layers) == 0 {
			h.in = int(w.Shape[1])
		} else if len(h.layers[0].bias) != int(w.Shape[1]) {
			return fmt.Errorf("%d outputs below %d inputs", len(h.layers[0].bias), w.Shape[1])
		}
		h.layers = append(h.layers, l)
	}
	return nil
}

func floats(b []byte) ([]float32, error) {
	out := make([]float32, len(b)/4)
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
		if out[i]-out[i] != 0 {
			return nil, errors.New("it holds what is no number")
		}
	}
	return out, nil
}

func (h *Head) check(about map[string]string) error {
	outputs := len(h.layers[len(h.layers)-1].bias)
	if h.Encoder == "" || len(h.Encoder) > 128 {
		return errors.New("it does not name the digest of its encoder")
	}
	switch h.Kind {
	case Rerank:
		var features []string
		if err := json.Unmarshal([]byte(about["features"]), &features); err != nil || !slices.Equal(features, Features()) || h.in != len(features) || outputs != 1 {
			return fmt.Errorf("its features are %.200q for %d inputs and %d outputs, want %q and 1", about["features"], h.in, outputs, Features())
		}
	case Classify:
		if err := json.Unmarshal([]byte(about["labels"]), &h.Labels); err != nil || len(h.Labels) != outputs || outputs < 2 || outputs > maxLabels {
			return fmt.Errorf("%d labels for %d outputs, want 2 to %d", len(h.Labels), outputs, maxLabels)
		}
		seen := map[string]bool{}
		for _, l := range h.Labels {
			if l == "" || len(l) > maxLabel || !utf8.ValidString(l) || seen[l] || strings.ContainsFunc(l, func(r rune) bool { return r < ' ' }) {
				return fmt.Errorf("the label %.100q is empty, too long, or stands there twice", l)
			}
			seen[l] = true
		}
	default:
		return fmt.Errorf("its kind is %.50q, want %s or %s", h.Kind, Rerank, Classify)
	}
	return nil
}

// Digest is the SHA-256 (hex) of the head's file.
func (h *Head) Digest() string { return h.digest }

// apply computes the outputs.
func (h *Head) apply(x []float32) []float64 {
	in := make([]float64, len(x))
	for i, v := range x {
		in[i] = float64(v)
	}
	for n, l := range h.layers {
		out := make([]float64, len(l.bias))
		for o := range out {
			out[o] = float64(l.bias[o])
			for i, w := range l.weight[o] {
				out[o] += float64(w) * in[i]
			}
			if n < len(h.layers)-1 {
				out[o] = max(0, out[o])
			}
		}
		in = out
	}
	return in
}

// Label is a class and how likely it is.
type Label struct {
	Name  string
	Score float64
}

// Classify returns all labels of a text by its vector, the likeliest first; their scores sum to 1. It is an error
// when the head is no classifier or takes vectors of another length.
func (h *Head) Classify(vector []float32) ([]Label, error) {
	if h.Kind != Classify || len(vector) != h.in {
		return nil, fmt.Errorf("a %s head for %d numbers can't classify %d", h.Kind, h.in, len(vector))
	}
	z := h.apply(vector)
	top, sum := slices.Max(z), 0.0
	for i := range z {
		z[i] = math.Exp(z[i] - top)
		sum += z[i]
	}
	out := make([]Label, len(z))
	for i := range z {
		out[i] = Label{h.Labels[i], z[i] / sum}
	}
	slices.SortStableFunc(out, func(a, b Label) int { return cmp.Compare(b.Score, a.Score) })
	return out, nil
}
