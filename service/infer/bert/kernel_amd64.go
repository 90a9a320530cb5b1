package bert

import "golang.org/x/sys/cpu"

//go:generate sh -c "go run ./gen > kernel_amd64.s"

// Kernels lists what this machine can run, the fastest first.
func Kernels() []Kernel {
	ks := []Kernel{portable()}
	if hasAVX2() {
		ks = append([]Kernel{avx2()}, ks...)
	}
	if hasAVX512() {
		ks = append([]Kernel{avx512()}, ks...)
	}
	return ks
}

// x/sys/cpu has asked the operating system, too.
func hasAVX2() bool   { return cpu.X86.HasAVX2 && cpu.X86.HasFMA }
func hasAVX512() bool { return cpu.X86.HasAVX512F && hasAVX2() }

func avx512() Kernel {
	return Kernel{
		Name:    "avx512",
		panel:   checkedPanel(panelAVX512),
		product: productAVX512,
		packed:  packedProductAVX512,
		softmax: checkedSoftmax(softmaxAVX512),
		gelu:    checkedGelu(geluAVX512),
		norm:    checkedNorm(normAVX512),
	}
}

func avx2() Kernel {
	return Kernel{
		Name:    "avx2",
		panel:   checkedPanel(panelAVX2),
		product: productAVX2,
		softmax: checkedSoftmax(softmaxAVX2),
		gelu:    checkedGelu(geluAVX2),
		norm:    checkedNorm(normAVX2),
	}
}

// The assembly trusts its lengths; these look first.

func productAVX512(m, k int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int, scale, bias []float32, next string) {
	checkProduct(m, k, a, lda, b, ldb, c, ldc, scale, bias)
	const rows = 14
	for i, tiles := 0, (m+rows-1)/rows; tiles > 0; tiles-- {
		h := (m - i + tiles - 1) / tiles // tiles of about the same height
		tileAVX512(h, &a[i*lda], lda, &b[0], ldb, &c[i*ldc], ldc, k, &scale[0], &bias[0], next)
		i += h
	}
}

func packedProductAVX512(m, k int, a []float32, lda int, b string, c []float32, ldc int, scale, bias []float32) {
	if m <= 0 || k <= 0 || lda < 0 || ldc < 0 {
		panic("bert: a product of nothing")
	}
	_, _, _ = a[(m-1)*lda+k-1], b[k*PanelRow-1], c[(m-1)*ldc+cols-1]
	_, _ = scale[cols-1], bias[cols-1]
	const rows = 14
	for i, tiles := 0, (m+rows-1)/rows; tiles > 0; tiles-- {
		h := (m - i + tiles - 1) / tiles
		packedAVX512(h, &a[i*lda], lda, b, &c[i*ldc], ldc, k, &scale[0], &bias[0])
		i += h
	}
}

func productAVX2(m, k int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int, scale, bias []float32, next string) {
	checkProduct(m, k, a, lda, b, ldb, c, ldc, scale, bias)
	const rows = 6
	for i, tiles := 0, (m+rows-1)/rows; tiles > 0; tiles-- {
		h := (m - i + tiles - 1) / tiles
		for j := 0; j < cols; j += cols / 2 {
			tileAVX2(h, &a[i*lda], lda, &b[j], ldb, &c[i*ldc+j], ldc, k, &scale[j], &bias[j], next)
		}
		i += h
	}
}

func checkProduct(m, k int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int, scale, bias []float32) {
	if m <= 0 || k <= 0 || lda < 0 || ldb < 0 || ldc < 0 {
		panic("bert: a product of nothing")
	}
	_, _, _ = a[(m-1)*lda+k-1], b[(k-1)*ldb+cols-1], c[(m-1)*ldc+cols-1]
	_, _ = scale[cols-1], bias[cols-1]
}

func checkedPanel(f func(dst *float32, src string)) func([]float32, string) {
	return func(dst []float32, src string) {
		if len(src)%PanelRow != 0 || len(src) == 0 {
			panic("bert: a panel of no whole rows")
		}
		_ = dst[len(src)/PanelRow*cols-1]
		f(&dst[0], src)
	}
}

func checkedSoftmax(f func(x *float32, m, n, ld int)) func([]float32, int, int, int) {
	return func(x []float32, m, n, ld int) {
		if m <= 0 || n <= 0 || n%cols != 0 || ld < 0 {
			panic("bert: softmax of no whole rows")
		}
		_ = x[(m-1)*ld+n-1]
		f(&x[0], m, n, ld)
	}
}

func checkedGelu(f func(x *float32, n int)) func([]float32) {
	return func(x []float32) {
		if len(x) == 0 || len(x)%16 != 0 {
			panic("bert: gelu of no whole registers")
		}
		f(&x[0], len(x))
	}
}

func checkedNorm(f func(x, r, gain, bias *float32)) func(x, r, gain, bias []float32) {
	return func(x, r, gain, bias []float32) {
		_, _, _, _ = x[Dim-1], r[Dim-1], gain[Dim-1], bias[Dim-1]
		f(&x[0], &r[0], &gain[0], &bias[0])
	}
}

//go:noescape
func tileAVX2(m int, a *float32, lda int, b *float32, ldb int, c *float32, ldc, k int, scale, bias *float32, next string)

//go:noescape
func tileAVX512(m int, a *float32, lda int, b *float32, ldb int, c *float32, ldc, k int, scale, bias *float32, next string)

//go:noescape
func packedAVX512(m int, a *float32, lda int, b string, c *float32, ldc, k int, scale, bias *float32)

//go:noescape
func panelAVX2(dst *float32, src string)

//go:noescape
func panelAVX512(dst *float32, src string)

//go:noescape
func softmaxAVX2(x *float32, m, n, ld int)

//go:noescape
func softmaxAVX512(x *float32, m, n, ld int)

//go:noescape
func geluAVX2(x *float32, n int)

//go:noescape
func geluAVX512(x *float32, n int)

//go:noescape
func normAVX2(x, r, gain, bias *float32)

//go:noescape
func normAVX512(x, r, gain, bias *float32)
