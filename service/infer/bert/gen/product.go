package main

import "fmt"

// product multiplies up to w.rows rows of a with two registers of columns of b. The sums stay
// in registers; each takes its terms in order. Meanwhile it fetches next, the packed panel that
// comes after this one: reading weights would otherwise take as long as computing with them.
func (w *writer) product() {
	w.text("tile", "(m int, a *float32, lda int, b *float32, ldb int, c *float32, ldc, k int, scale, bias *float32, next string)", 96)
	w.op("MOVQ m+0(FP), AX")
	w.op("MOVQ a+8(FP), R8")
	w.op("MOVQ lda+16(FP), R10")
	w.op("MOVQ b+24(FP), SI")
	w.op("MOVQ ldb+32(FP), DX")
	w.op("MOVQ c+40(FP), DI")
	w.op("MOVQ ldc+48(FP), BX")
	w.op("MOVQ k+56(FP), CX")
	w.op("MOVQ next_base+80(FP), R13")
	w.op("TESTQ R13, R13")
	w.op("CMOVQEQ SI, R13 // nothing comes next: what is there already")
	w.op("SHLQ $2, DX")
	w.tiles("rows", func(b0, b1, _ string) {
		w.op("PREFETCHT0 (R13)")
		w.op("ADDQ $48, R13")
		w.op("VMOVUPS (SI), %s", b0)
		w.op("VMOVUPS %d(SI), %s", w.bytes(), b1)
		w.op("ADDQ DX, SI")
	}, 64)
}

// packed is product on a packed panel: unpacking takes no time of its own beside few rows. It
// needs all 32 registers.
func (w *writer) packed() {
	w.text("packed", "(m int, a *float32, lda int, b string, c *float32, ldc, k int, scale, bias *float32)", 80)
	w.op("MOVQ m+0(FP), AX")
	w.op("MOVQ a+8(FP), R8")
	w.op("MOVQ lda+16(FP), R10")
	w.op("MOVQ b_base+24(FP), SI")
	w.op("MOVQ c+40(FP), DI")
	w.op("MOVQ ldc+48(FP), BX")
	w.op("MOVQ k+56(FP), CX")
	mask := w.v(31)
	w.op("VMOVDQU32 lowNibble<>(SB), %s", mask)
	w.tiles("packed", func(b0, b1, x string) {
		w.op("PREFETCHT0 1536(SI) // panels follow each other")
		w.op("VPMOVZXBD 32(SI), %s", x)
		w.op("VPMOVSXBD (SI), %s", b0)
		w.op("VPMOVSXBD 16(SI), %s", b1)
		w.op("VPSLLD $4, %s, %[1]s", b0)
		w.op("VPSLLD $4, %s, %[1]s", b1)
		w.op("VPTERNLOGD $0xf8, %s, %s, %s // b0 | x & mask", mask, x, b0)
		w.op("VPSRLD $4, %s, %[1]s", x)
		w.op("VPORD %s, %s, %[2]s", x, b1)
		w.op("VCVTDQ2PS %s, %[1]s", b0)
		w.op("VCVTDQ2PS %s, %[1]s", b1)
		w.op("ADDQ $48, SI")
	}, 64)
}

// tiles goes to the code for AX rows. weights loads the next row of b into two registers and may
// use a third. scale and bias stand at frame offset args.
func (w *writer) tiles(label string, weights func(b0, b1, x string), args int) {
	w.op("SHLQ $2, R10")
	w.op("SHLQ $2, BX")
	w.op("LEAQ (R10)(R10*2), R11 // 3 rows")
	w.op("LEAQ (R10)(R10*4), R12 // 5 rows")
	w.op("LEAQ (R8)(R11*2), R9")
	w.op("ADDQ R10, R9 // row 7")
	for m := w.rows; m > 1; m-- {
		w.op("CMPQ AX, $%d", m)
		w.op("JEQ  %s%d", label, m)
	}
	for m := 1; m <= w.rows; m++ {
		w.line("")
		if m > 1 {
			w.line("%s%d:", label, m)
		}
		w.tile(m, weights, args)
	}
}

func (w *writer) tile(m int, weights func(b0, b1, x string), args int) {
	row := func(i int) string {
		base := "R8"
		if i >= 7 {
			base, i = "R9", i-7
		}
		return fmt.Sprintf([]string{"(%s)", "(%s)(R10*1)", "(%s)(R10*2)", "(%s)(R11*1)", "(%s)(R10*4)", "(%s)(R12*1)", "(%s)(R11*2)"}[i], base)
	}
	b0, b1, x := w.v(2*w.rows), w.v(2*w.rows+1), w.v(2*w.rows+2)
	for i := range 2 * m {
		w.op("VPXOR%s %s, %[2]s, %[2]s", w.bits, w.v(i))
	}
	w.line("")
	w.line("terms%d:", m)
	weights(b0, b1, x)
	for i := range m {
		w.op("VBROADCASTSS %s, %s", row(i), x)
		w.op("VFMADD231PS %s, %s, %s", x, b0, w.v(2*i))
		w.op("VFMADD231PS %s, %s, %s", x, b1, w.v(2*i+1))
	}
	w.op("ADDQ $4, R8")
	if m > 7 {
		w.op("ADDQ $4, R9")
	}
	w.op("DECQ CX")
	w.op("JNZ  terms%d", m)
	w.line("")
	w.op("MOVQ scale+%d(FP), AX", args)
	w.op("MOVQ bias+%d(FP), R8", args+8)
	w.op("VMOVUPS (AX), %s", b0)
	w.op("VMOVUPS %d(AX), %s", w.bytes(), b1)
	for i := range m {
		w.op("VFMADD213PS (R8), %s, %s", b0, w.v(2*i))
		w.op("VFMADD213PS %d(R8), %s, %s", w.bytes(), b1, w.v(2*i+1))
		w.op("VMOVUPS %s, (DI)", w.v(2*i))
		w.op("VMOVUPS %s, %d(DI)", w.v(2*i+1), w.bytes())
		if i < m-1 {
			w.op("ADDQ BX, DI")
		}
	}
	w.ret()
}

// panel turns 12-bit weights into float32: 8 upper bits and 4 lower ones from different bytes.
func (w *writer) panel() {
	w.text("panel", "(dst *float32, src string)", 24)
	w.op("MOVQ dst+0(FP), DI")
	w.op("MOVQ src_base+8(FP), SI")
	w.op("MOVQ src_len+16(FP), CX")
	mask, upper, lower, both := w.v(5), w.v(0), w.v(1), w.v(2)
	w.op("VMOVDQU%s lowNibble<>(SB), %s", map[string]string{"D": "32", "": ""}[w.bits], mask)
	w.line("")
	w.line("row:")
	for c := 0; c < 16; c += w.width { // columns c and 16+c share bytes
		w.op("VPMOVZXBD %d(SI), %s", 32+c, both)
		for half := range 2 {
			w.op("VPMOVSXBD %d(SI), %s", 16*half+c, upper)
			w.op("VPSLLD $4, %s, %[1]s", upper)
			if half == 0 {
				w.op("VPAND%s %s, %s, %s", w.bits, mask, both, lower)
			} else {
				w.op("VPSRLD $4, %s, %s", both, lower)
			}
			w.op("VPOR%s %s, %s, %[3]s", w.bits, lower, upper)
			w.op("VCVTDQ2PS %s, %[1]s", upper)
			w.op("VMOVUPS %s, %d(DI)", upper, 4*(16*half+c))
		}
	}
	w.op("ADDQ $48, SI")
	w.op("ADDQ $128, DI")
	w.op("SUBQ $48, CX")
	w.op("JNZ  row")
	w.ret()
}
