package bert

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

const guard = 12345 // stands where nothing may be written

func random(rnd *rand.Rand, n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(rnd.NormFloat64())
	}
	return v
}

func TestProducts(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, k := range Kernels() {
		for m := 1; m <= 31; m++ {
			for _, n := range []int{1, 2, 7, 32, 33, 129, 384} {
				lda, ldb, ldc := n+m%3, cols+m%5, cols+m%4
				a, b := random(rnd, (m-1)*lda+n), random(rnd, (n-1)*ldb+cols)
				scale, bias := random(rnd, cols), random(rnd, cols)
				c := make([]float32, m*ldc+1)
				for i := range c {
					c[i] = guard
				}
				k.product(m, n, a, lda, b, ldb, c[:(m-1)*ldc+cols], ldc, scale, bias, "")
				for i := range c {
					row, col := i/ldc, i%ldc
					if row == m || col >= cols {
						if c[i] != guard {
							t.Fatalf("%s %d×%d: wrote at row %d, column %d", k.Name, m, n, row, col)
						}
						continue
					}
					var want, size float64
					for j := range n {
						p := float64(a[row*lda+j]) * float64(b[j*ldb+col])
						want += p
						size += math.Abs(p)
					}
					want = want*float64(scale[col]) + float64(bias[col])
					size = size*math.Abs(float64(scale[col])) + math.Abs(float64(bias[col]))
					if d := math.Abs(float64(c[i]) - want); d > 3e-6*size {
						t.Fatalf("%s %d×%d: row %d, column %d is %v, want %v", k.Name, m, n, row, col, c[i], want)
					}
				}
			}
		}
	}
}

func TestPanelsUnpackEveryWeight(t *testing.T) {
	for _, k := range Kernels() {
		for c := range cols {
			const rows = 4096 // each 12-bit number once
			src := make([]byte, rows*PanelRow)
			for r := range rows {
				q := r - 2048
				src[r*PanelRow+c] = byte(int8(q >> 4))
				src[r*PanelRow+cols+c%16] = byte(q&15) << (c / 16 * 4)
			}
			dst := make([]float32, rows*cols+1)
			dst[rows*cols] = guard
			k.panel(dst, string(src))
			for r := range rows {
				for j, got := range dst[r*cols:][:cols] {
					want := float32(0)
					if j == c {
						want = float32(r - 2048)
					}
					if got != want {
						t.Fatalf("%s: weight %v in column %d became %v in column %d", k.Name, r-2048, c, got, j)
					}
				}
			}
			if dst[rows*cols] != guard {
				t.Fatalf("%s wrote behind its panel", k.Name)
			}
		}
	}
}

// Whether a panel is unpacked before or meanwhile, the result is the same to the last bit.
func TestPackedProducts(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 8))
	for _, k := range Kernels() {
		if k.packed == nil {
			continue
		}
		for m := 1; m <= 30; m++ {
			for _, n := range []int{1, 3, 384} {
				src := make([]byte, n*PanelRow)
				for i := range src {
					src[i] = byte(rnd.Uint32())
				}
				lda, ldc := n+m%3, cols+m%4
				a, scale, bias := random(rnd, (m-1)*lda+n), random(rnd, cols), random(rnd, cols)
				panel, want, got := make([]float32, n*cols), make([]float32, m*ldc), make([]float32, m*ldc)
				panelPortable(panel, string(src))
				k.product(m, n, a, lda, panel, cols, want, ldc, scale, bias, "")
				k.packed(m, n, a, lda, string(src), got, ldc, scale, bias)
				if !slices.Equal(got, want) {
					t.Fatalf("%s %d×%d: another result", k.Name, m, n)
				}
			}
		}
	}
}

func TestSoftmax(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for _, k := range Kernels() {
		for _, n := range []int{32, 64, 96, 256} {
			const m = 3
			ld := n + 5
			x := random(rnd, m*ld)
			for i := range x {
				x[i] *= 20
			}
			for i := range m { // a text shorter than its panel
				for j := n - 7; j < n; j++ {
					x[i*ld+j] = -1e30
				}
				x[i*ld+n] = guard
			}
			in := append([]float32(nil), x...)
			k.softmax(x, m, n, ld)
			for i := range m {
				top, sum := math.Inf(-1), 0.0
				for _, v := range in[i*ld:][:n] {
					top = max(top, float64(v))
				}
				for _, v := range in[i*ld:][:n] {
					sum += math.Exp(float64(v) - top)
				}
				for j, v := range in[i*ld:][:n] {
					want := math.Exp(float64(v)-top) / sum
					if d := math.Abs(float64(x[i*ld+j]) - want); d > 5e-7 {
						t.Fatalf("%s n=%d row %d: %v became %v, want %v", k.Name, n, i, v, x[i*ld+j], want)
					}
				}
				if x[i*ld+n] != guard {
					t.Fatalf("%s n=%d: wrote behind its row", k.Name, n)
				}
			}
		}
	}
}

func TestGelu(t *testing.T) {
	var in []float32
	for v := -30.0; v <= 30; v += 0.01 {
		in = append(in, float32(v))
	}
	in = append(in, 0, float32(math.Copysign(0, -1)), 1e-30, -1e-30, 1000, -1000, 1e38)
	for len(in)%16 != 0 {
		in = append(in, 1)
	}
	for _, k := range Kernels() {
		for _, n := range []int{16, 32, len(in)} {
			x := append([]float32(nil), in...)
			k.gelu(x[:n])
			for i, v := range in[:n] {
				want := float64(v) / 2 * math.Erfc(-float64(v)/math.Sqrt2)
				if d := math.Abs(float64(x[i]) - want); !(d <= 1e-6*max(1, math.Abs(float64(v)))) {
					t.Fatalf("%s: gelu(%v) = %v, want %v", k.Name, v, x[i], want)
				}
			}
			if n < len(in) && x[n] != in[n] {
				t.Fatalf("%s wrote behind its numbers", k.Name)
			}
		}
	}
}

func TestNorm(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	for _, k := range Kernels() {
		for _, size := range []float32{1e-3, 1, 100} {
			x, r := random(rnd, Dim+1), random(rnd, Dim)
			gain, bias := random(rnd, Dim), random(rnd, Dim)
			for i := range x {
				x[i] = x[i]*size + size
			}
			x[Dim] = guard
			in := append([]float32(nil), x...)
			k.norm(x[:Dim], r, gain, bias)
			var mean, squares float64
			for i := range Dim {
				mean += float64(in[i]) + float64(r[i])
			}
			mean /= Dim
			for i := range Dim {
				d := float64(in[i]) + float64(r[i]) - mean
				squares += d * d
			}
			for i := range Dim {
				want := (float64(in[i])+float64(r[i])-mean)/math.Sqrt(squares/Dim+1e-12)*float64(gain[i]) + float64(bias[i])
				if d := math.Abs(float64(x[i]) - want); d > 1e-5 {
					t.Fatalf("%s: number %d is %v, want %v", k.Name, i, x[i], want)
				}
			}
			if x[Dim] != guard {
				t.Fatalf("%s wrote behind its row", k.Name)
			}
		}
	}
}

// The assembly reads where it is told to: lengths that do not fit must stop before it.
func TestShortSlicesPanic(t *testing.T) {
	f := func(n int) []float32 { return make([]float32, n) }
	for _, k := range Kernels() {
		for name, call := range map[string]func(){
			"a":     func() { k.product(2, 8, f(15), 8, f(8*cols), cols, f(2*cols), cols, f(cols), f(cols), "") },
			"b":     func() { k.product(2, 8, f(16), 8, f(8*cols-1), cols, f(2*cols), cols, f(cols), f(cols), "") },
			"c":     func() { k.product(2, 8, f(16), 8, f(8*cols), cols, f(2*cols-1), cols, f(cols), f(cols), "") },
			"scale": func() { k.product(2, 8, f(16), 8, f(8*cols), cols, f(2*cols), cols, f(cols-1), f(cols), "") },
			"bias":  func() { k.product(2, 8, f(16), 8, f(8*cols), cols, f(2*cols), cols, f(cols), f(cols-1), "") },
			"panel": func() { k.panel(f(2*cols-1), string(make([]byte, 2*PanelRow))) },
			"packed": func() {
				k.packed(2, 8, f(16), 8, string(make([]byte, 8*PanelRow-1)), f(2*cols), cols, f(cols), f(cols))
			},
			"softmax": func() { k.softmax(f(2*cols-1), 2, cols, cols) },
			"norm":    func() { k.norm(f(Dim), f(Dim-1), f(Dim), f(Dim)) },
		} {
			if k.packed == nil && name == "packed" {
				continue
			}
			func() {
				defer func() {
					if recover() == nil {
						t.Errorf("%s went past %s", k.Name, name)
					}
				}()
				call()
			}()
		}
	}
}

func BenchmarkProduct(b *testing.B) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, k := range Kernels() {
		for _, m := range []int{8, 128} {
			const n, ld = Dim, Dim + 16
			a, p, c := random(rnd, m*ld), random(rnd, n*cols), make([]float32, m*cols)
			scale, bias := random(rnd, cols), random(rnd, cols)
			b.Run(k.Name+map[int]string{8: "/rows=8", 128: "/rows=128"}[m], func(b *testing.B) {
				from := cpuTime(b)
				for b.Loop() {
					k.product(m, n, a, ld, p, cols, c, cols, scale, bias, "")
				}
				b.ReportMetric(float64(b.N)*2*float64(m*n*cols)/1e9/(cpuTime(b)-from).Seconds(), "GFLOP/cpu-s")
			})
		}
	}
	for _, k := range Kernels() {
		src, dst := string(make([]byte, Dim*PanelRow)), make([]float32, Dim*cols)
		b.Run(k.Name+"/panel", func(b *testing.B) {
			b.SetBytes(int64(len(src)))
			for b.Loop() {
				k.panel(dst, src)
			}
		})
	}
}
