package vector

import (
	"math"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
	"time"
)

// Every kernel of this machine against float64, on lengths around each of their steps.
func TestKernelsAgreeWithFloat64(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, k := range kernels() {
		for dim := 1; dim <= 200; dim++ {
			const n, guard = 5, 12345
			q, rows := random(rnd, dim), random(rnd, n*dim)
			out := make([]float32, n+1)
			out[n] = guard
			k.scan(q, rows, out[:n])
			if out[n] != guard {
				t.Fatalf("%s wrote past its results at dim %d", k.name, dim)
			}
			for i := range n {
				var want, size float64
				for j, v := range q {
					p := float64(v) * float64(rows[i*dim+j])
					want += p
					size += math.Abs(p)
				}
				if d := math.Abs(float64(out[i]) - want); d > 1e-6*size {
					t.Errorf("%s dim %d row %d: %v, want %v", k.name, dim, i, out[i], want)
				}
			}
		}
		k.scan([]float32{1}, nil, nil)
	}
}

func TestEqualRowsScoreTheSame(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for _, k := range kernels() {
		for _, dim := range []int{3, 100, 384} {
			q, row := random(rnd, dim), random(rnd, dim)
			var rows []float32
			for range 9 {
				rows = append(rows, row...)
			}
			out := make([]float32, 9)
			k.scan(q, rows, out)
			for i, s := range out {
				if s != out[0] {
					t.Errorf("%s dim %d: row %d scores %v, row 0 %v", k.name, dim, i, s, out[0])
				}
			}
		}
	}
}

func TestShortRowsPanicInsteadOfReadingOn(t *testing.T) {
	for _, k := range kernels() {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s read past its rows", k.name)
				}
			}()
			k.scan(make([]float32, 8), make([]float32, 15), make([]float32, 2))
		}()
	}
}

func random(rnd *rand.Rand, n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(rnd.NormFloat64())
	}
	return v
}

func BenchmarkDot384(b *testing.B) {
	rnd := rand.New(rand.NewPCG(1, 2))
	q, r, out := random(rnd, 384), random(rnd, 384), make([]float32, 1)
	for _, k := range kernels() {
		b.Run(k.name, func(b *testing.B) {
			for b.Loop() {
				k.scan(q, r, out)
			}
		})
	}
}

// Every kernel of codes against the portable one: their sums are whole numbers, so they are equal.
func TestCodeKernelsAgree(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	want := codesPortable()
	for _, k := range codeKernels() {
		for stride := codeStep; stride <= 2048; stride += codeStep * (1 + rnd.IntN(4)) {
			const n, guard = 7, 12345
			q, codes := make([]int16, stride), make([]int8, n*stride)
			finest := min(math.MaxInt16, (math.MaxInt32/127)/stride)
			for i := range q {
				q[i] = int16(rnd.IntN(2*finest+1) - finest)
			}
			for i := range codes {
				codes[i] = int8(rnd.IntN(255) - 127)
			}
			if stride%64 == 0 { // as large as sums can be
				for i := range q {
					q[i] = int16(finest)
				}
				for i := range stride {
					codes[i] = 127
				}
			}
			a, b, c := make([]int32, n), make([]int32, n+1), make([]int32, n+1)
			b[n], c[n] = guard, guard
			rows := make([]*int8, n)
			for i := range rows {
				rows[i] = &codes[i*stride]
			}
			want.rows(q, codes, a)
			k.rows(q, codes, b[:n])
			k.gather(q, rows, c[:n])
			if b[n] != guard || c[n] != guard || !slices.Equal(a, b[:n]) || !slices.Equal(a, c[:n]) {
				t.Fatalf("%s stride %d: %v and %v, want %v", k.name, stride, b, c, a)
			}
			wide, other := make([]int16, stride), make([]int16, stride)
			k.widen(wide, codes[:stride])
			want.widen(other, codes[:stride])
			if !slices.Equal(wide, other) {
				t.Fatalf("%s stride %d widens otherwise", k.name, stride)
			}
		}
	}
}

func BenchmarkCodes100k(b *testing.B) {
	const n, dim = 100_000, 384
	rnd := rand.New(rand.NewPCG(1, 2))
	codes, q, out := make([]int8, n*dim), make([]int16, dim), make([]int32, n)
	for i := range codes {
		codes[i] = int8(rnd.Uint32())
	}
	for _, k := range codeKernels() {
		b.Run(k.name, func(b *testing.B) {
			before := cpuTime(b)
			for b.Loop() {
				k.rows(q, codes, out)
			}
			b.ReportMetric(float64((cpuTime(b)-before).Microseconds())/1e3/float64(b.N), "cpu-ms/op")
		})
	}
}

// cpuTime is what the process has taken: on a busy machine the clock tells nothing.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
