package main

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

func TestWrongFilesAreRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "model.safetensors"), []byte("something else"), 0o600); err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(dir, "out.bin")
	if err := run(dir, to, &bytes.Buffer{}); err == nil {
		t.Error("a file of another digest was packed")
	}
	if _, err := os.Stat(to); err == nil {
		t.Error("something was written")
	}
}

func TestMatrixKeepsTwelveBits(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	const in = 5
	weight, bias := tensor{rows: cols, cols: in}, tensor{rows: 1, cols: cols}
	for range cols * in {
		weight.v = append(weight.v, float32(rnd.NormFloat64()))
	}
	for range cols {
		bias.v = append(bias.v, float32(rnd.NormFloat64()))
	}
	var out bytes.Buffer
	w := writer{out: &out, t: map[string]tensor{"x.weight": weight, "x.bias": bias}}
	w.matrix("x")
	if w.err != nil {
		t.Fatal(w.err)
	}
	b := out.Bytes()
	if len(b) != in*48+8*cols {
		t.Fatalf("%d bytes", len(b))
	}
	float := func(at int) float64 { return float64(math.Float32frombits(binary.LittleEndian.Uint32(b[at:]))) }
	for c := range cols {
		scale := float(in*48 + 4*c)
		for k := range in {
			q := int(int8(b[k*48+c]))<<4 | int(b[k*48+cols+c%16]>>(c/16*4)&15)
			want := float64(weight.v[c*in+k])
			if d := math.Abs(float64(q)*scale - want); d > scale*0.5001 || q < -2047 || q > 2047 {
				t.Errorf("row %d, column %d: %d × %v, want %v", k, c, q, scale, want)
			}
		}
		if got := float(in*48 + 4*cols + 4*c); got != float64(bias.v[c]) {
			t.Errorf("bias %d is %v, want %v", c, got, bias.v[c])
		}
	}
	if w.matrix("y"); w.err == nil {
		t.Error("a missing tensor was not noticed")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("\x40\x00\x00\x00\x00\x00\x00\x00" + `{"a":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]}}        1234`))
	f.Add([]byte("\xff\xff\xff\xff\xff\xff\xff\xff{}"))
	f.Add([]byte("\x3b\x00\x00\x00\x00\x00\x00\x00" + `{"a":{"dtype":"F32","shape":[-1,1],"data_offsets":[8,4]}}   1234`))
	f.Fuzz(func(t *testing.T, b []byte) {
		tensors, err := parse(b)
		if err != nil {
			return
		}
		for name, x := range tensors {
			if len(x.v) != x.rows*x.cols {
				t.Errorf("%s: %d numbers for %d × %d", name, len(x.v), x.rows, x.cols)
			}
		}
	})
}
