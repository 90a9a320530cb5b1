package registry

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
)

func unit(at ...float32) Vector {
	v := make(Vector, 4)
	copy(v, at)
	return v
}

func embedder() Manifest {
	return Manifest{
		Name: "e", Version: "1", Title: "E", Kind: Embed, Engine: Encoder, Licence: "MIT", Dim: 4, Weights: "e.aran",
		Files: []File{{Path: "e.aran", Size: 4, SHA256: sum([]byte("aran"))}},
		Provenance: &Provenance{Publisher: "We", Source: "https://models.example/e", Data: []Dataset{{Name: "Pairs", Licence: "CC-BY-4.0"}}, Vetted: &Vetting{By: "Anna", At: "2026-01-02"}},
		Evaluation: []Evaluation{{Dataset: "SciFact", Metric: "ndcg@10", Value: 0.62, At: "2026-01-02"}},
		Smoke:      []Case{{Text: "a cat", Expect: Expect{Closer: "a kitten", Farther: "a tax return", Margin: 0.1}}},
		Gate:       &Gate{Metric: GateCosine, Min: 0.99, MaxSlowdown: 3, Cases: []Case{{Text: "a", Expect: Expect{Vector: unit(1)}}}},
	}
}

func TestManifestWithProof(t *testing.T) {
	best := 1
	rerank := embedder()
	rerank.Kind, rerank.Engine, rerank.Encoder = Rerank, Head, sum([]byte("encoder"))
	rerank.Smoke = []Case{{Query: "q", Documents: []string{"a", "b"}, Expect: Expect{Best: &best}}}
	rerank.Gate = &Gate{Metric: GateBest, Min: 1, Cases: rerank.Smoke}
	classify := embedder()
	classify.Kind, classify.Engine, classify.Encoder, classify.Labels = Classify, Head, sum([]byte("encoder")), []string{"good", "bad"}
	classify.Smoke = []Case{{Text: "t", Expect: Expect{Label: "good", MinScore: 0.5}}}
	classify.Gate = &Gate{Metric: GateLabel, Min: 0.9, Cases: classify.Smoke}
	generate := tiny(nil, nil)
	generate.Smoke = []Case{{Prompt: "Say yes.", Expect: Expect{Contains: []string{"yes"}, MaxTokens: 8}}}
	generate.Gate = &Gate{Metric: GatePass, Min: 0.5, Cases: generate.Smoke, MaxMillis: 1000}
	for _, m := range []Manifest{embedder(), rerank, classify, generate} {
		got, err := ParseManifest(encode(t, m))
		if err != nil {
			t.Errorf("%s: %v", m.Kind, err)
			continue
		}
		if a, b := encode(t, got), encode(t, m); string(a) != string(b) {
			t.Errorf("%s: read back as\n%s, want\n%s", m.Kind, a, b)
		}
	}
}

func TestProofThatIsRefused(t *testing.T) {
	for name, change := range map[string]func(m *Manifest){
		"no dimension":                   func(m *Manifest) { m.Dim = 0 },
		"kind that the engine can't":     func(m *Manifest) { m.Kind, m.Smoke, m.Gate = Generate, nil, nil },
		"libraries for an encoder":       func(m *Manifest) { m.Files = append(m.Files, File{Path: "lib/a.so", Size: 1, SHA256: sum(nil)}) },
		"an encoder that is a head":      func(m *Manifest) { m.Encoder = sum(nil) },
		"a head without its encoder":     func(m *Manifest) { m.Engine, m.Kind, m.Smoke, m.Gate = Head, Rerank, nil, nil },
		"labels for an encoder":          func(m *Manifest) { m.Labels = []string{"a", "b"} },
		"weights in GGUF":                func(m *Manifest) { m.Files[0].Path, m.Weights = "e.gguf", "e.gguf" },
		"the program's engine":           func(m *Manifest) { m.Engine = Upstream },
		"provenance without data":        func(m *Manifest) { m.Provenance.Data = nil },
		"provenance without a publisher": func(m *Manifest) { m.Provenance.Publisher = "" },
		"provenance with plain http":     func(m *Manifest) { m.Provenance.Source = "http://models.example" },
		"a day that is none":             func(m *Manifest) { m.Provenance.Vetted.At = "2026-02-30" },
		"control characters":             func(m *Manifest) { m.Title = "a\x1b[2Jb" },
		"evaluation without a metric":    func(m *Manifest) { m.Evaluation[0].Metric = "" },
		"case without a text":            func(m *Manifest) { m.Smoke[0].Text = "" },
		"case without expectations":      func(m *Manifest) { m.Smoke[0].Expect = Expect{} },
		"case of another kind":           func(m *Manifest) { m.Smoke[0].Expect = Expect{Contains: []string{"a"}} },
		"closer without farther":         func(m *Manifest) { m.Smoke[0].Expect.Farther = "" },
		"vector of another dimension":    func(m *Manifest) { m.Gate.Cases[0].Expect.Vector = Vector{1} },
		"cosine without a vector":        func(m *Manifest) { m.Smoke[0].Expect.MinCosine = 0.9 },
		"unknown metric":                 func(m *Manifest) { m.Gate.Metric = "vibes" },
		"metric of another kind":         func(m *Manifest) { m.Gate.Metric = GateBest },
		"gate that all pass":             func(m *Manifest) { m.Gate.Min = 0 },
		"gate without cases":             func(m *Manifest) { m.Gate.Cases = nil },
		"gate whose cases say else":      func(m *Manifest) { m.Gate.Metric = GateOrder },
		"slowdown below one":             func(m *Manifest) { m.Gate.MaxSlowdown = 0.5 },
	} {
		m := embedder()
		change(&m)
		if _, err := ParseManifest(encode(t, m)); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	for _, bad := range []string{`""`, `"AAAA"`, `"AAA="`, `"!"`, `[1,0]`, `"AADAfw=="`} {
		var v Vector
		if err := json.Unmarshal([]byte(bad), &v); err == nil {
			t.Errorf("vector %s was taken as %v", bad, v)
		}
	}
}

func TestJudge(t *testing.T) {
	nan := float32(math.NaN())
	order := Case{Name: "cats", Text: "a", Expect: Expect{Closer: "b", Farther: "c", Margin: 0.2}}
	reference := Case{Text: "a", Expect: Expect{Vector: unit(1), MinCosine: 0.9}}
	both := Case{Text: "a", Expect: Expect{Vector: unit(1), Closer: "b", Farther: "c"}}
	best := 0
	rank := Case{Query: "q", Documents: []string{"a", "b"}, Expect: Expect{Best: &best}}
	label := Case{Text: "a", Expect: Expect{Label: "good", MinScore: 0.6}}
	text := Case{Prompt: "a", Expect: Expect{Contains: []string{"Yes"}, Excludes: []string{"no"}, Matches: "^Y", MinLength: 3, MaxTokens: 4}}
	vectors := func(c Case, vs ...Vector) error {
		in := make([][]float32, len(vs))
		for i, v := range vs {
			in[i] = v
		}
		_, err := c.JudgeVectors(4, in)
		return err
	}
	for _, c := range []struct {
		name string
		err  error
		why  string // empty: it passes
	}{
		{"the closer one is closer", vectors(order, unit(1), unit(1), unit(0, 1)), ""},
		{"the closer one is not", vectors(order, unit(1), unit(0, 1), unit(1)), "closer by -1.000"},
		{"not by enough", vectors(order, unit(1), unit(1), unit(1)), "closer by 0.000"},
		{"too few vectors", vectors(order, unit(1)), "1 vectors for 3"},
		{"the same vector", vectors(reference, unit(1)), ""},
		{"another model of the same dimension", vectors(reference, unit(0.6, 0.8)), "0.6000"},
		{"another dimension", vectors(reference, Vector{1}), "1 numbers, want 4"},
		{"not of unit length", vectors(reference, unit(2)), "length 2"},
		{"not a number", vectors(reference, unit(nan)), "length NaN"},
		{"both pass", vectors(both, unit(1), unit(1), unit(0, 1)), ""},
		{"order passes, reference does not", vectors(both, unit(0, 1), unit(0, 1), unit(1)), "reference"},
		{"best is best", rank.JudgeScores([]float64{2, 1}), ""},
		{"best is not", rank.JudgeScores([]float64{1, 2}), "document 1"},
		{"a tie is no order", rank.JudgeScores([]float64{1, 1}), "document 1"},
		{"a score that is no number", rank.JudgeScores([]float64{1, math.NaN()}), "NaN"},
		{"too few scores", rank.JudgeScores([]float64{1}), "1 scores"},
		{"the label", label.JudgeLabel("good", 0.7), ""},
		{"another label", label.JudgeLabel("bad", 0.9), `"bad"`},
		{"not sure enough", label.JudgeLabel("good", 0.5), "0.500"},
		{"the answer", text.JudgeText("Oh yes", 2), `does not match`},
		{"the right answer", text.JudgeText("Yes, sure", 2), ""},
		{"a word is missing", text.JudgeText("Yep", 2), `lacks "Yes"`},
		{"a word too many", text.JudgeText("Yes, no", 2), `has "no"`},
		{"too long", text.JudgeText("Yes, sure", 9), "9 tokens"},
		{"too short", (&Case{Prompt: "a", Expect: Expect{MinLength: 3}}).JudgeText(" a ", 1), "1 characters"},
	} {
		missed, is := errors.AsType[*MissedError](c.err)
		if c.why == "" && c.err != nil || c.why != "" && (!is || !strings.Contains(missed.Error(), c.why)) {
			t.Errorf("%s: %v; want %q", c.name, c.err, c.why)
		}
	}
	if got := (&Gate{Metric: GateCosine}).Value([]float64{1, 0.5}, []bool{true, false}); got != 0.75 {
		t.Errorf("mean cosine %v", got)
	}
	if got := (&Gate{Metric: GatePass}).Value(nil, []bool{true, false, true, true}); got != 0.75 {
		t.Errorf("share that passes %v", got)
	}
	if got := (&Gate{Metric: GatePass}).Value(nil, nil); got != 0 {
		t.Errorf("of nothing %v", got)
	}
}
