package vector

import "golang.org/x/sys/cpu"

// kernels lists what this machine can run, the fastest first.
func kernels() []kernel {
	ks := []kernel{{"portable", scanPortable}}
	if hasAVX2() {
		ks = append([]kernel{{"avx2", scanAVX2}}, ks...)
	}
	if cpu.X86.HasAVX512F {
		ks = append([]kernel{{"avx512", scanAVX512}}, ks...)
	}
	return ks
}

func fastest() kernel {
	switch { // x/sys/cpu has asked the operating system, too
	case cpu.X86.HasAVX512F:
		return kernel{"avx512", scanAVX512}
	case hasAVX2():
		return kernel{"avx2", scanAVX2}
	default:
		return kernel{"portable", scanPortable}
	}
}

func hasAVX2() bool { return cpu.X86.HasAVX2 && cpu.X86.HasFMA }

func scanAVX2(q, rows, out []float32) {
	if n := len(out); n > 0 {
		rows = rows[:n*len(q)] // the assembly trusts its lengths
		dotRowsAVX2(&q[0], &rows[0], &out[0], len(q), n)
	}
}

func scanAVX512(q, rows, out []float32) {
	if n := len(out); n > 0 {
		rows = rows[:n*len(q)]
		dotRowsAVX512(&q[0], &rows[0], &out[0], len(q), n)
	}
}

//go:noescape
func dotRowsAVX2(q, rows, out *float32, dim, n int)

//go:noescape
func dotRowsAVX512(q, rows, out *float32, dim, n int)
