package golden

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"testing/fstest"

	"aran/service/infer/minilm"
)

func TestTheBuiltInEncoderIsRight(t *testing.T) {
	all, err := Builtin()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 200 {
		t.Fatalf("%d texts, want 200", len(all))
	}
	e, err := minilm.Load()
	if err != nil {
		t.Fatal(err)
	}
	r, err := Run(t.Context(), e, all[:20])
	if err != nil {
		t.Fatal(err)
	}
	if r.Texts != 20 || r.Dim != minilm.Dim || *r.MaxAbsDiff > 1e-5 || *r.CosineMin < 0.999999 || r.TextsPerS <= 0 || r.LatencyUS <= 0 {
		t.Errorf("%+v: %v, %v", r, *r.MaxAbsDiff, *r.CosineMin)
	}
}

// fake gives each text a vector of its length, another one when it asks.
type fake struct{}

func (fake) Encode(_ context.Context, texts []string) (out []minilm.Embedding, _ error) {
	for _, s := range texts {
		out = append(out, minilm.Embedding{Vector: []float32{float32(len(s)), 1}, Tokens: len(s)})
	}
	return out, nil
}

func (fake) EncodeQueries(_ context.Context, texts []string) (out []minilm.Embedding, _ error) {
	for _, s := range texts {
		out = append(out, minilm.Embedding{Vector: []float32{-float32(len(s)), 1}, Tokens: len(s)})
	}
	return out, nil
}

func TestFolder(t *testing.T) {
	for _, c := range []struct{ name, a, b, want string }{
		{"equal, in both forms", `{"text":"ab","vector":[2,1],"x":1}`, `{"text":"abc","query":true,"vector":"AABAwAAAgD8="}`, `"max_abs_diff":0,"cosine_min":1,`},
		{"another vector", `{"text":"ab","vector":[2,1.5]}`, "\n", `"max_abs_diff":0.5,`},
		{"no vectors", `{"text":"ab"}`, `{"_id":"1","title":"a","text":"b"}`, `"max_abs_diff":null,"cosine_min":null,`},
		{"no texts", "", "", "no text"},
		{"a line without text", `{"vector":[1,2]}`, "", "a.jsonl, line 1: it has no text"},
		{"a line that is none", `{"text":"ab"}`, `["ab"]`, "b.jsonl, line 1"},
		{"a vector of text", `{"text":"ab","vector":"?"}`, "", "base64"},
		{"an empty vector", `{"text":"ab","vector":[]}`, "", "0 numbers"},
		{"a vector that is no number", `{"text":"ab","vector":"AADAfwAAgD8="}`, "", "no number"},
		{"vectors of two lengths", `{"text":"ab","vector":[1,2]}`, `{"text":"ab","vector":[1,2,3]}`, "others have 2"},
		{"another length than the encoder's", `{"text":"ab","vector":[1,2,3]}`, "", "have 2 numbers"},
		{"other tokens", `{"text":"ab","tokens":3}`, "", "2 tokens"},
		{"a long line", `{"text":"` + strings.Repeat("x", maxLine) + `"}`, "", "line 1"},
	} {
		all, err := Read(fstest.MapFS{"a.jsonl": {Data: []byte(c.a)}, "b.jsonl": {Data: []byte(c.b)}, "c.txt": {Data: []byte("no")}})
		var r Result
		if err == nil {
			r, err = Run(t.Context(), fake{}, all)
		}
		got, _ := json.Marshal(r)
		if err != nil {
			got = []byte(err.Error())
		}
		if !strings.Contains(string(got), c.want) {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func FuzzLine(f *testing.F) {
	f.Add([]byte(`{"text":"abc","query":true,"vector":"AABAwAAAgD8="}`))
	f.Add([]byte(`{"text":"ab","vector":[2,1]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseLine(b)
		if err == nil && c.Vector != nil && check(c.Vector) != nil {
			t.Errorf("a vector of %d numbers", len(c.Vector))
		}
	})
}
