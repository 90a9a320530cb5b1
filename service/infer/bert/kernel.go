package bert

import "math"

// cols is how many columns a panel has. A panel is [rows][cols] float32.
const cols = 32

// Kernel is the arithmetic of one kind of processor. Each sum runs in the order of its terms,
// so a text's vector does not depend on what else is in the batch.
type Kernel struct {
	Name string
	// panel unpacks [in] rows of 12-bit weights.
	panel func(dst []float32, src string)
	// product is c = scale × (a · b) + bias for m rows of a with k numbers each, and the k rows
	// of a panel b; lda, ldb and ldc say how far apart rows stand; scale and bias have cols numbers.
	// next is packed weights to fetch meanwhile, or empty.
	product func(m, k int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int, scale, bias []float32, next string)
	// packed is product with a packed panel, or nil. It saves unpacking where few rows share a panel.
	packed func(m, k int, a []float32, lda int, b string, c []float32, ldc int, scale, bias []float32)
	// softmax works on m rows of n numbers each; n is a multiple of cols.
	softmax func(x []float32, m, n, ld int)
	// gelu is x × Φ(x), in place; len(x) is a multiple of 16.
	gelu func(x []float32)
	// norm is x = (x + r − mean) / deviation × gain + bias over one row of Dim numbers.
	norm func(x, r, gain, bias []float32)
}

func portable() Kernel {
	return Kernel{
		Name: "portable", panel: panelPortable, product: productPortable,
		softmax: softmaxPortable, gelu: geluPortable, norm: normPortable,
	}
}

func panelPortable(dst []float32, src string) {
	for len(src) > 0 {
		row, out := src[:PanelRow], dst[:cols]
		for c := range cols / 2 {
			lo := row[cols+c]
			out[c] = float32(int(int8(row[c]))<<4 | int(lo&15))               //nolint:gosec // meant to be signed
			out[cols/2+c] = float32(int(int8(row[cols/2+c]))<<4 | int(lo>>4)) //nolint:gosec // meant to be signed
		}
		src, dst = src[PanelRow:], dst[cols:]
	}
}

func productPortable(m, k int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int, scale, bias []float32, _ string) {
	for i := range m {
		var sum [cols]float32
		for j, x := range a[i*lda:][:k] {
			row := (*[cols]float32)(b[j*ldb:])
			for n := range sum {
				sum[n] += x * row[n]
			}
		}
		out := c[i*ldc:][:cols]
		for n := range out {
			out[n] = scale[n]*sum[n] + bias[n]
		}
	}
}

func softmaxPortable(x []float32, m, n, ld int) {
	for i := range m {
		row := x[i*ld:][:n]
		top := row[0]
		for _, v := range row {
			top = max(top, v)
		}
		var sum float32
		for j, v := range row {
			e := float32(math.Exp(float64(v - top)))
			row[j] = e
			sum += e
		}
		for j := range row {
			row[j] /= sum
		}
	}
}

func geluPortable(x []float32) {
	for i, v := range x {
		x[i] = 0.5 * v * (1 + float32(math.Erf(float64(v)*math.Sqrt2/2)))
	}
}

const epsilon = 1e-12

func normPortable(x, r, gain, bias []float32) {
	x, r, gain, bias = x[:Dim], r[:Dim], gain[:Dim], bias[:Dim]
	var sum float32
	for j := range x {
		x[j] += r[j]
		sum += x[j]
	}
	mean := sum / Dim
	var squares float32
	for _, v := range x {
		squares += (v - mean) * (v - mean)
	}
	k := float32(1 / math.Sqrt(float64(squares/Dim)+epsilon))
	for j, v := range x {
		x[j] = (v-mean)*k*gain[j] + bias[j]
	}
}
