package heads

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"aran/service/infer/minilm"
)

// file writes a safetensors file; tensors are [name, shape…] with their numbers.
func file(about map[string]string, tensors ...tensorOf) []byte {
	header, at, data := map[string]any{"__metadata__": about}, 0, []byte(nil)
	for _, t := range tensors {
		kind := "F32"
		if t.kind != "" {
			kind = t.kind
		}
		header[t.name] = map[string]any{"dtype": kind, "shape": t.shape, "data_offsets": []int{at, at + 4*len(t.numbers)}}
		at += 4 * len(t.numbers)
		for _, v := range t.numbers {
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
		}
	}
	h, err := json.Marshal(header)
	if err != nil {
		panic(err)
	}
	return append(append(binary.LittleEndian.AppendUint64(nil, uint64(len(h))), h...), data...)
}

type tensorOf struct {
	name, kind string
	shape      []int
	numbers    []float32
}

func classifier() (map[string]string, []tensorOf) {
	return map[string]string{"kind": "classify", "encoder": "e", "labels": `["cold","warm"]`},
		[]tensorOf{{name: "weight", shape: []int{2, 3}, numbers: []float32{1, 0, 0, 0, 1, 0}}, {name: "bias", shape: []int{2}, numbers: []float32{0, 0.5}}}
}

func TestClassify(t *testing.T) {
	about, tensors := classifier()
	h, err := Parse(file(about, tensors...))
	if err != nil {
		t.Fatal(err)
	}
	got, err := h.Classify([]float32{0, 1, 9})
	if err != nil {
		t.Fatal(err)
	}
	want := 1 / (1 + math.Exp(-1.5))
	if got[0].Name != "warm" || math.Abs(got[0].Score-want) > 1e-9 || math.Abs(got[0].Score+got[1].Score-1) > 1e-9 {
		t.Errorf("got %v, want warm with %v", got, want)
	}
	if _, err := h.Classify([]float32{0, 1}); err == nil {
		t.Error("a vector of two numbers was classified by a head for three")
	}
	if _, err := h.Score(nil, nil, nil); err == nil {
		t.Error("a classifier reranked")
	}
	if h.Encoder != "e" || len(h.Digest()) != 64 {
		t.Errorf("encoder %q, digest %q", h.Encoder, h.Digest())
	}
}

func TestHiddenLayer(t *testing.T) {
	h, err := Parse(file(map[string]string{"kind": "classify", "encoder": "e", "labels": `["a","b"]`},
		tensorOf{name: "hidden.weight", shape: []int{1, 2}, numbers: []float32{1, -1}}, tensorOf{name: "hidden.bias", shape: []int{1}, numbers: []float32{0}},
		tensorOf{name: "weight", shape: []int{2, 1}, numbers: []float32{1, 0}}, tensorOf{name: "bias", shape: []int{2}, numbers: []float32{0, 0}}))
	if err != nil {
		t.Fatal(err)
	}
	if got := h.apply([]float32{1, 3}); got[0] != 0 {
		t.Errorf("below the hidden layer −2 became %v, want 0", got[0])
	}
	if got := h.apply([]float32{3, 1}); got[0] != 2 {
		t.Errorf("below the hidden layer 2 became %v", got[0])
	}
}

func TestDamagedHeadsAreRefused(t *testing.T) {
	change := func(f func(about map[string]string, tensors []tensorOf) []tensorOf) []byte {
		about, tensors := classifier()
		return file(about, f(about, tensors)...)
	}
	about, tensors := classifier()
	good := file(about, tensors...)
	for _, c := range []struct {
		name, want string
		file       []byte
	}{
		{"nothing", "no head", nil},
		{"a header without end", "cut off", good[:20]},
		{"a header longer than any", "cut off", slices.Concat(binary.LittleEndian.AppendUint64(nil, math.MaxUint64), good[8:])},
		{"a header that is no JSON", "header", slices.Concat(good[:8], []byte("["), good[9:])},
		{"weights that are cut off", "inside the file", good[:len(good)-1]},
		{"bytes behind the weights", "behind", slices.Concat(good, []byte{0})},
		{"another kind", "kind", change(func(a map[string]string, t []tensorOf) []tensorOf { a["kind"] = "generate"; return t })},
		{"no encoder", "encoder", change(func(a map[string]string, t []tensorOf) []tensorOf { a["encoder"] = ""; return t })},
		{"a label twice", "label", change(func(a map[string]string, t []tensorOf) []tensorOf { a["labels"] = `["a","a"]`; return t })},
		{"a label of nothing", "label", change(func(a map[string]string, t []tensorOf) []tensorOf { a["labels"] = `["a",""]`; return t })},
		{"too few labels", "labels", change(func(a map[string]string, t []tensorOf) []tensorOf { a["labels"] = `["a"]`; return t })},
		{"labels that are none", "labels", change(func(a map[string]string, t []tensorOf) []tensorOf { a["labels"] = `{}`; return t })},
		{"features of a classifier", "features", change(func(a map[string]string, t []tensorOf) []tensorOf { a["kind"] = "rerank"; return t })},
		{"another tensor", "tensors", change(func(_ map[string]string, t []tensorOf) []tensorOf { t[0].name = "code"; return t })},
		{"a tensor too many", "tensors", change(func(_ map[string]string, t []tensorOf) []tensorOf {
			return append(t, tensorOf{name: "x", shape: []int{1}, numbers: []float32{1}})
		})},
		{"another type", "F32", change(func(_ map[string]string, t []tensorOf) []tensorOf { t[0].kind = "F64"; return t })},
		{"a large shape", "shape", change(func(_ map[string]string, t []tensorOf) []tensorOf { t[0].shape = []int{1 << 40, 1 << 40}; return t })},
		{"another shape", "shape", change(func(_ map[string]string, t []tensorOf) []tensorOf { t[0].shape = []int{3, 3}; return t })},
		{"shapes that do not fit", "fit", change(func(_ map[string]string, t []tensorOf) []tensorOf { t[0].shape = []int{3, 2}; return t })},
		{"what is no number", "no number", change(func(_ map[string]string, t []tensorOf) []tensorOf { t[1].numbers[0] = float32(math.Inf(1)); return t })},
	} {
		if _, err := Parse(c.file); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: err = %v, want one that says %q", c.name, err, c.want)
		}
	}
	path := filepath.Join(t.TempDir(), "head")
	if err := os.WriteFile(path, make([]byte, 100), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{path, path + "none"} {
		if _, err := Open(p); err == nil {
			t.Errorf("%s was opened", p)
		}
	}
}

func TestBuiltinHeadBelongsToTheBuiltinEncoder(t *testing.T) {
	h, err := Builtin()
	if err != nil {
		t.Fatal(err)
	}
	e, err := minilm.Load()
	if err != nil {
		t.Fatal(err)
	}
	if h.Encoder != e.Digest() || h.Kind != Rerank {
		t.Errorf("a %s head of %s, want one to rerank of %s", h.Kind, h.Encoder, e.Digest())
	}
	passages := []string{
		"Bread rises because yeast makes gas from sugar.", "The parliament met to debate the budget.",
		"Statins lower the level of cholesterol in the blood by blocking an enzyme of the liver.", "",
	}
	all, err := e.Sequences(t.Context(), append([]string{"How do statins reduce cholesterol?"}, passages...))
	if err != nil {
		t.Fatal(err)
	}
	scores, err := h.Score(e, &all[0], all[1:])
	if err != nil {
		t.Fatal(err)
	}
	if len(scores) != 4 || slices.Index(scores, slices.Max(scores)) != 2 {
		t.Errorf("scores %v, want the third highest", scores)
	}
	again, err := h.Score(e, &all[0], all[1:])
	if err != nil || !slices.Equal(scores, again) {
		t.Errorf("scores %v, then %v, %v", scores, again, err)
	}
	none, err := e.Sequences(t.Context(), []string{""})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range mustScore(t, h, e, &none[0], all[1:]) {
		if math.IsNaN(s) {
			t.Error("a query of nothing has a score that is no number")
		}
	}
}

func mustScore(t *testing.T, h *Head, e *minilm.Encoder, query *minilm.Sequence, passages []minilm.Sequence) []float64 {
	t.Helper()
	s, err := h.Score(e, query, passages)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestFeatures(t *testing.T) {
	axis := func(at ...int) (rows []float32) {
		for _, a := range at {
			row := make([]float32, minilm.Dim)
			row[a] = 1
			rows = append(rows, row...)
		}
		return rows
	}
	e, err := minilm.Load()
	if err != nil {
		t.Fatal(err)
	}
	q := minilm.Sequence{Embedding: minilm.Embedding{Vector: axis(0)}, IDs: []int32{7, 8, 7}, Rows: axis(0, 1, 0)}
	got := features(e, &q, []minilm.Sequence{
		{Embedding: minilm.Embedding{Vector: axis(0)}, IDs: []int32{8}, Rows: axis(1)},
		{Embedding: minilm.Embedding{Vector: axis(1)}, IDs: []int32{8, 9}, Rows: axis(1, 2)},
	})
	common, rare := math.Log(1+0.5/2.5), math.Log(1+2.5/0.5) // both passages have 8, none has 7
	want := []float32{20.0 / 21, 0, 1.0 / 3, float32(common / (2*rare + common)), float32(common / (rare + common))}
	for i, w := range want {
		if math.Abs(float64(got[1][i]-w)) > 1e-6 {
			t.Errorf("%s is %v, want %v", Features()[i], got[1][i], w)
		}
	}
	if got[0][0] != 1 || got[0][1] != 1 {
		t.Errorf("the first passage has %v", got[0])
	}
}

func FuzzParse(f *testing.F) {
	about, tensors := classifier()
	f.Add(file(about, tensors...))
	f.Add(rerank)
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := Parse(b)
		if err != nil {
			return
		}
		for _, v := range h.apply(make([]float32, h.in)) {
			if v-v != 0 {
				t.Errorf("zeros became %v", v)
			}
		}
	})
}
