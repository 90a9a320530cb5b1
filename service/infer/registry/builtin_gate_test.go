package registry

import (
	"testing"

	"aran/service/infer/minilm"
)

// The program's own encoder passes the smoke test and the gate of its own manifest.
func TestBuiltInEncoderPassesItsGate(t *testing.T) {
	r, err := Open("", Options{})
	if err != nil {
		t.Fatal(err)
	}
	m, err := r.Manifest("all-minilm-l6-v2")
	if err != nil {
		t.Fatal(err)
	}
	e, err := minilm.Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range append(m.Smoke, m.Gate.Cases...) {
		out, err := e.Encode(t.Context(), c.Texts())
		if err != nil {
			t.Fatal(err)
		}
		vectors := make([][]float32, len(out))
		for i := range out {
			vectors[i] = out[i].Vector
		}
		margin, err := c.JudgeVectors(m.Dim, vectors)
		t.Logf("%s: closer by %.3f", c.Text, margin)
		if err != nil {
			t.Error(err)
		}
	}
}
