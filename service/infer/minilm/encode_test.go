package minilm

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"aran/service/infer/bert"
)

type golden struct {
	Text      string
	Tokens    int
	Truncated bool
	Vector    string
	want      []float32
}

// ONNX Runtime's vectors (test/bench/embed/golden_vectors.py) of the same weights, in float32: 200 texts in
// English and Tamil, mixed, of odd Unicode, and of every length.
func goldens(t testing.TB) []golden {
	t.Helper()
	b, err := os.ReadFile("../golden/vectors.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	var out []golden
	for line := range bytes.Lines(b) {
		var g golden
		if err := json.Unmarshal(line, &g); err != nil {
			t.Fatal(err)
		}
		b, err := base64.StdEncoding.DecodeString(g.Vector)
		if err != nil || len(b) != 4*Dim {
			t.Fatalf("vector of %q: %d bytes, %v", g.Text, len(b), err)
		}
		for i := range Dim {
			g.want = append(g.want, math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:])))
		}
		out = append(out, g)
	}
	if len(out) != 200 {
		t.Fatalf("%d cases, want 200", len(out))
	}
	return out
}

func encoder(t testing.TB, k bert.Kernel) *Encoder {
	t.Helper()
	e, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	e.run = bert.NewRunner(Window, k)
	return e
}

func texts(gs []golden) []string {
	out := make([]string, len(gs))
	for i, g := range gs {
		out[i] = g.Text
	}
	return out
}

// Plain Go takes a second for some hundred tokens, and ten times that under the race detector.
const portableTokens = 150

var everything = flag.Bool("everything", false, "compare all texts on all kernels, the plain Go one too")

func TestVectorsEqualTheReference(t *testing.T) {
	all := goldens(t)
	for _, k := range bert.Kernels() {
		gs := all
		if k.Name == "portable" && !*everything {
			gs = nil
			for i, n := 0, 0; n < portableTokens; i = (i + 37) % len(all) { // of each kind
				if all[i].Tokens <= 24 {
					gs, n = append(gs, all[i]), n+all[i].Tokens
				}
			}
		}
		got, err := encoder(t, k).Encode(t.Context(), texts(gs))
		if err != nil {
			t.Fatal(err)
		}
		var worst float64
		for i, g := range gs {
			if got[i].Tokens != g.Tokens || got[i].Truncated != g.Truncated {
				t.Errorf("%s %.30q: %d tokens, truncated %v; want %d, %v", k.Name, g.Text, got[i].Tokens, got[i].Truncated, g.Tokens, g.Truncated)
			}
			for j, v := range got[i].Vector {
				d := math.Abs(float64(v - g.want[j]))
				if !(d <= 1e-5) {
					t.Fatalf("%s %.30q: number %d is %v, want %v", k.Name, g.Text, j, v, g.want[j])
				}
				worst = max(worst, d)
			}
		}
		t.Logf("%s: largest difference %.2g", k.Name, worst)
	}
}

func TestVectorDoesNotDependOnItsCompany(t *testing.T) {
	gs := goldens(t)[30:60]
	e := encoder(t, bert.Kernels()[0])
	together, err := e.Encode(t.Context(), texts(gs))
	if err != nil {
		t.Fatal(err)
	}
	for i, g := range gs {
		apart, err := e.Encode(t.Context(), []string{g.Text})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(apart[0].Vector, together[i].Vector) {
			t.Errorf("%q: another vector alone than among others", g.Text)
		}
	}
}

func TestManyCallersAtOnce(t *testing.T) {
	gs := goldens(t)[:12]
	e := encoder(t, bert.Kernels()[0])
	want, err := e.Encode(t.Context(), texts(gs))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for w := range 6 {
		wg.Go(func() {
			for i := range gs {
				at := (i + w) % len(gs)
				got, err := e.Encode(t.Context(), []string{gs[at].Text})
				if err != nil || !slices.Equal(got[0].Vector, want[at].Vector) {
					t.Errorf("%q: %v, or another vector than before", gs[at].Text, err)
				}
			}
		})
	}
	wg.Wait()
}

func TestEncodeStopsWhenTheCallerLeaves(t *testing.T) {
	e := encoder(t, bert.Kernels()[0])
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := e.Encode(ctx, []string{"hello"}); !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v, want canceled", err)
	}
}

func TestNoTexts(t *testing.T) {
	if got, err := encoder(t, bert.Kernels()[0]).Encode(t.Context(), nil); err != nil || len(got) != 0 {
		t.Errorf("Encode(nil) = %v, %v", got, err)
	}
}

func BenchmarkEncode(b *testing.B) {
	passage := strings.Repeat("The audit log holds every decision with its evidence. ", 20)
	e := encoder(b, bert.Kernels()[0])
	toks := e.tok.Tokens(passage)
	cut := func(n int) string { return passage[:toks[n-3].End] } // n tokens with both markers
	for _, c := range []struct {
		name  string
		texts []string
	}{
		{"tokens=8", []string{cut(8)}},
		{"tokens=16", []string{cut(16)}},
		{"tokens=32", []string{cut(32)}},
		{"tokens=128", []string{cut(128)}},
		{"tokens=200x1", []string{cut(200)}},
		{"tokens=8x32", slices.Repeat([]string{cut(8)}, 32)},
	} {
		b.Run(c.name, func(b *testing.B) {
			if _, err := e.Encode(b.Context(), c.texts); err != nil { // lays out the weights
				b.Fatal(err)
			}
			from := cpuTime(b)
			for b.Loop() {
				if _, err := e.Encode(b.Context(), c.texts); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*len(c.texts))/(cpuTime(b)-from).Seconds(), "texts/cpu-s")
		})
	}
}
