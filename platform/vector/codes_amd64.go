package vector

import "golang.org/x/sys/cpu"

// codeKernels lists what this machine can run, the fastest first.
func codeKernels() []codeKernel {
	ks := []codeKernel{codesPortable()}
	if hasAVX2() {
		ks = append([]codeKernel{{"avx2", rowsAVX2, gatherAVX2, widenCodesAVX2}}, ks...)
	}
	if hasAVX2() && cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW {
		ks = append([]codeKernel{{"avx512", rowsAVX512, gatherAVX512, widenCodesAVX2}}, ks...)
	}
	return ks
}

func rowsAVX512(q []int16, codes []int8, out []int32) {
	if n := len(out); n > 0 {
		codes = codes[:n*len(q)]
		dotCodesAVX512(&q[0], &codes[0], &out[0], len(q), n)
	}
}

func gatherAVX512(q []int16, rows []*int8, out []int32) {
	if n := len(rows); n > 0 {
		out = out[:n]
		gatherCodesAVX512(&q[0], &rows[0], &out[0], len(q), n)
	}
}

func rowsAVX2(q []int16, codes []int8, out []int32) {
	if n := len(out); n > 0 {
		codes = codes[:n*len(q)] // the assembly trusts its lengths
		dotCodesAVX2(&q[0], &codes[0], &out[0], len(q), n)
	}
}

func gatherAVX2(q []int16, rows []*int8, out []int32) {
	if n := len(rows); n > 0 {
		out = out[:n]
		gatherCodesAVX2(&q[0], &rows[0], &out[0], len(q), n)
	}
}

func widenCodesAVX2(dst []int16, src []int8) {
	src = src[:len(dst)]
	widenAVX2(&dst[0], &src[0], len(dst))
}

//go:noescape
func dotCodesAVX2(q *int16, codes *int8, out *int32, stride, n int)

//go:noescape
func gatherCodesAVX2(q *int16, rows **int8, out *int32, stride, n int)

//go:noescape
func widenAVX2(dst *int16, src *int8, stride int)

//go:noescape
func dotCodesAVX512(q *int16, codes *int8, out *int32, stride, n int)

//go:noescape
func gatherCodesAVX512(q *int16, rows **int8, out *int32, stride, n int)
