package main

import (
	"math"
	"strconv"
)

// The constants, each repeated over the widest register.
var floats = []struct { //nolint:gochecknoglobals // a table
	name string
	v    float64
}{
	{"one", 1},
	{"half", 0.5},
	{"minusOne", -1},
	// exp: Cephes' expf, on [-87, 87]
	{"expLow", -87},
	{"expHigh", 87},
	{"log2e", 1.44269504088896341},
	{"ln2High", 0.693359375},
	{"ln2Low", -2.12194440e-4},
	{"exp0", 1.9875691500e-4},
	{"exp1", 1.3981999507e-3},
	{"exp2", 8.3334519073e-3},
	{"exp3", 4.1665795894e-2},
	{"exp4", 1.6666665459e-1},
	{"exp5", 5.0000001201e-1},
	// erf: Abramowitz and Stegun 7.1.26, good to 1.5e-7
	{"rootHalf", math.Sqrt2 / 2},
	{"erfP", 0.3275911},
	{"erf1", 0.254829592},
	{"erf2", -0.284496736},
	{"erf3", 1.421413741},
	{"erf4", -1.453152027},
	{"erf5", 1.061405429},
}

func (w *writer) constants() {
	for _, c := range floats {
		w.constant(c.name, math.Float32bits(float32(c.v)), strconv.FormatFloat(c.v, 'g', -1, 64))
	}
	w.constant("lowNibble", 15, "15")
	w.constant("expBias", 127, "127")
	w.constant("norm", math.Float32bits(1.0/384), "1/384")
	w.constant("epsilon", math.Float32bits(1e-12), "1e-12")
}

func (w *writer) constant(name string, bits uint32, comment string) {
	w.line("")
	w.line("// %s", comment)
	for i := range 8 {
		w.line("DATA %s<>+%d(SB)/8, $0x%08x%08[3]x", name, 8*i, bits)
	}
	w.line("GLOBL %s<>(SB), RODATA|NOPTR, $64", name)
}

// exp replaces x by its exponential; t, n and p are lost.
func (w *writer) exp(x, t, n, p string) {
	w.op("VMAXPS expLow<>(SB), %s, %[1]s", x)
	w.op("VMINPS expHigh<>(SB), %s, %[1]s", x)
	w.op("VMULPS log2e<>(SB), %s, %s", x, n)
	w.op("VCVTPS2DQ %s, %[1]s // rounds to the nearest", n)
	w.op("VCVTDQ2PS %s, %s", n, t)
	w.op("VFNMADD231PS ln2High<>(SB), %s, %s", t, x)
	w.op("VFNMADD231PS ln2Low<>(SB), %s, %s", t, x)
	w.op("VMOVUPS exp0<>(SB), %s", p)
	for i := 1; i <= 5; i++ {
		w.op("VFMADD213PS exp%d<>(SB), %s, %s", i, x, p)
	}
	w.op("VMULPS %s, %[1]s, %s", x, t)
	w.op("VFMADD213PS %s, %s, %s", x, t, p)
	w.op("VADDPS one<>(SB), %s, %[1]s", p)
	w.op("VPADDD expBias<>(SB), %s, %[1]s", n)
	w.op("VPSLLD $23, %s, %[1]s", n)
	w.op("VMULPS %s, %s, %s", n, p, x)
}

// fold combines all numbers of register 0 with the operation, and puts the result everywhere.
func (w *writer) fold(op string) {
	if w.width == 16 {
		w.op("VEXTRACTF64X4 $1, Z0, Y1")
		w.op("%s Y1, Y0, Y0", op)
	}
	w.op("VEXTRACTF128 $1, Y0, X1")
	w.op("%s X1, X0, X0", op)
	w.op("VPERMILPS $0x4e, X0, X1")
	w.op("%s X1, X0, X0", op)
	w.op("VPERMILPS $0xb1, X0, X1")
	w.op("%s X1, X0, X0", op)
	w.op("VBROADCASTSS X0, %s", w.v(0))
}

// each writes a loop over CX bytes at SI (and what else is indexed by R13).
func (w *writer) each(label string, body func()) {
	w.op("XORQ R13, R13")
	w.line("")
	w.line("%s:", label)
	body()
	w.op("ADDQ $%d, R13", w.bytes())
	w.op("CMPQ R13, CX")
	w.op("JLT  %s", label)
	w.line("")
}

func (w *writer) softmax() {
	w.text("softmax", "(x *float32, m, n, ld int)", 32)
	w.op("MOVQ x+0(FP), SI")
	w.op("MOVQ m+8(FP), R8")
	w.op("MOVQ n+16(FP), CX")
	w.op("MOVQ ld+24(FP), DX")
	w.op("SHLQ $2, CX")
	w.op("SHLQ $2, DX")
	w.line("")
	w.line("row:")
	x, top, sum := w.v(2), w.v(3), w.v(4)
	w.op("VMOVUPS (SI), %s", w.v(0))
	w.each("top", func() { w.op("VMAXPS (SI)(R13*1), %s, %[1]s", w.v(0)) })
	w.fold("VMAXPS")
	w.op("VMOVUPS %s, %s", w.v(0), top)
	w.op("VPXOR%s %s, %[2]s, %[2]s", w.bits, sum)
	w.each("power", func() {
		w.op("VMOVUPS (SI)(R13*1), %s", x)
		w.op("VSUBPS %s, %s, %[2]s", top, x)
		w.exp(x, w.v(5), w.v(6), w.v(7))
		w.op("VMOVUPS %s, (SI)(R13*1)", x)
		w.op("VADDPS %s, %s, %[2]s", x, sum)
	})
	w.op("VMOVUPS %s, %s", sum, w.v(0))
	w.fold("VADDPS")
	w.op("VMOVUPS one<>(SB), %s", x)
	w.op("VDIVPS %s, %s, %s", w.v(0), x, w.v(0))
	w.each("share", func() {
		w.op("VMULPS (SI)(R13*1), %s, %s", w.v(0), x)
		w.op("VMOVUPS %s, (SI)(R13*1)", x)
	})
	w.op("ADDQ DX, SI")
	w.op("DECQ R8")
	w.op("JNZ  row")
	w.ret()
}

func (w *writer) gelu() {
	w.text("gelu", "(x *float32, n int)", 16)
	w.op("MOVQ x+0(FP), SI")
	w.op("MOVQ n+8(FP), CX")
	w.op("SHLQ $2, CX")
	x, size, a, t, y, e := w.v(0), w.v(1), w.v(2), w.v(3), w.v(4), w.v(5)
	w.each("number", func() {
		w.op("VMOVUPS (SI)(R13*1), %s", x)
		w.op("VMULPS minusOne<>(SB), %s, %s", x, size)
		w.op("VMAXPS %s, %s, %[2]s // |x|", x, size)
		w.op("VMULPS rootHalf<>(SB), %s, %s", size, a)
		w.op("VMOVUPS one<>(SB), %s", y)
		w.op("VMOVUPS erfP<>(SB), %s", t)
		w.op("VFMADD213PS %s, %s, %s", y, a, t)
		w.op("VDIVPS %s, %s, %[1]s", t, y)
		w.op("VMOVUPS erf5<>(SB), %s", y)
		for i := 4; i >= 1; i-- {
			w.op("VFMADD213PS erf%d<>(SB), %s, %s", i, t, y)
		}
		w.op("VMULPS %s, %s, %[2]s", t, y)
		w.op("VMULPS %s, %[1]s, %s", a, e)
		w.op("VMULPS minusOne<>(SB), %s, %[1]s", e)
		w.exp(e, w.v(6), w.v(7), w.v(8))
		w.op("VFNMADD213PS one<>(SB), %s, %s // erf(|x|/√2)", y, e)
		w.op("VFMADD231PS %s, %s, %s", e, size, x)
		w.op("VMULPS half<>(SB), %s, %[1]s", x)
		w.op("VMOVUPS %s, (SI)(R13*1)", x)
	})
	w.ret()
}

func (w *writer) norm() {
	w.text("norm", "(x, r, gain, bias *float32)", 32)
	w.op("MOVQ x+0(FP), SI")
	w.op("MOVQ r+8(FP), DI")
	w.op("MOVQ gain+16(FP), R8")
	w.op("MOVQ bias+24(FP), R9")
	w.op("MOVQ $1536, CX")
	x, mean := w.v(2), w.v(3)
	w.op("VPXOR%s %s, %[2]s, %[2]s", w.bits, w.v(0))
	w.each("sum", func() {
		w.op("VMOVUPS (SI)(R13*1), %s", x)
		w.op("VADDPS (DI)(R13*1), %s, %[1]s", x)
		w.op("VMOVUPS %s, (SI)(R13*1)", x)
		w.op("VADDPS %s, %s, %[2]s", x, w.v(0))
	})
	w.fold("VADDPS")
	w.op("VMULPS norm<>(SB), %s, %s", w.v(0), mean)
	w.op("VPXOR%s %s, %[2]s, %[2]s", w.bits, w.v(0))
	w.each("squares", func() {
		w.op("VMOVUPS (SI)(R13*1), %s", x)
		w.op("VSUBPS %s, %s, %[2]s", mean, x)
		w.op("VMOVUPS %s, (SI)(R13*1)", x)
		w.op("VFMADD231PS %s, %[1]s, %s", x, w.v(0))
	})
	w.fold("VADDPS")
	w.op("VMULPS norm<>(SB), %s, %[1]s", w.v(0))
	w.op("VADDPS epsilon<>(SB), %s, %[1]s", w.v(0))
	w.op("VSQRTPS %s, %[1]s", w.v(0))
	w.op("VMOVUPS one<>(SB), %s", x)
	w.op("VDIVPS %s, %s, %s", w.v(0), x, w.v(0))
	w.each("shape", func() {
		w.op("VMULPS (SI)(R13*1), %s, %s", w.v(0), x)
		w.op("VMOVUPS (R8)(R13*1), %s", w.v(1))
		w.op("VFMADD213PS (R9)(R13*1), %s, %s", w.v(1), x)
		w.op("VMOVUPS %s, (SI)(R13*1)", x)
	})
	w.ret()
}
