package vector

import (
	"math"
	"unsafe"
)

// A vector is kept a second time as whole numbers of a byte each, with a scale of its own: a quarter of the memory, and
// so of the time that a search takes to read it. Scores made of codes come with a bound of their error, so that what is
// near enough to matter can be told for certain and be scored exactly.

const codeStep = 32 // rows of codes are a multiple of so many bytes long

// codeKernel computes with codes: out[i] = q · row i, for rows one after the other, or anywhere. Sums do not overflow.
type codeKernel struct {
	name   string
	rows   func(q []int16, codes []int8, out []int32)
	gather func(q []int16, rows []*int8, out []int32)
	widen  func(dst []int16, src []int8)
}

// strideOf is how long the codes of a vector are.
func strideOf(dim int) int { return (dim + codeStep - 1) / codeStep * codeStep }

// encode writes a unit vector as codes: v ≈ scale × codes, and off by a vector of length ≤ err.
func encode(v []float32, codes []int8) (scale, err float32) {
	var largest float32
	for _, f := range v {
		largest = max(largest, float32(math.Abs(float64(f))))
	}
	scale = largest / 127
	var ss float64
	for i, f := range v {
		c := math.RoundToEven(float64(f) / float64(scale))
		c = min(127, max(-127, c))
		codes[i] = int8(c)
		d := float64(f) - c*float64(scale)
		ss += d * d
	}
	clear(codes[len(v):])
	return scale, float32(math.Sqrt(ss))*roundUp + math.SmallestNonzeroFloat32
}

const roundUp = 1 + 1e-6 // more than rounding to float32 takes away

// probe is a query as whole numbers: its codes are finer than those of rows.
type probe struct {
	exact []float32
	codes []int16
	scale float32
	// A row's score by codes differs from its exact one, as the scan computes it, by no more than norm × the row's err + slack.
	norm, slack float32
}

func (p *probe) set(q []float32) {
	p.exact = q
	var largest float32
	for _, f := range q {
		largest = max(largest, float32(math.Abs(float64(f))))
	}
	finest := min(math.MaxInt16, (math.MaxInt32/127)/len(p.codes)) // so that no sum overflows
	p.scale = largest / float32(finest)
	var off, norm float64
	for i, f := range q {
		c := math.RoundToEven(float64(f) / float64(p.scale))
		c = min(float64(finest), max(-float64(finest), c))
		p.codes[i] = int16(c)
		d := float64(f) - c*float64(p.scale)
		off += d * d
		norm += float64(f) * float64(f)
	}
	clear(p.codes[len(q):])
	p.norm = float32(math.Sqrt(norm)) * roundUp
	// q·v − q̂·v̂ = q·(v − v̂) + (q − q̂)·v̂. The rest is rounding: of float32 sums in the exact scan (Higham 2002, §3.1,
	// any order of summation), and of the few products that make a score of codes.
	const unit = 1.0 / (1 << 24)
	rounding := float64(len(q)+16) * unit * (1 + slack) * (1 + slack) * 1.01
	p.slack = float32(math.Sqrt(off)*(1+slack)*1.05+rounding)*roundUp + 8*unit
}

// codesPortable is for machines without a kernel of their own.
func codesPortable() codeKernel {
	return codeKernel{"portable", rowsPortable, gatherPortable, widenPortable}
}

func rowsPortable(q []int16, codes []int8, out []int32) {
	n := len(q)
	for i := range out {
		out[i] = dotPortable(q, codes[i*n:][:n])
	}
}

func dotPortable(q []int16, codes []int8) int32 {
	codes = codes[:len(q)]
	var s0, s1, s2, s3 int32
	for j := 0; j+4 <= len(q); j += 4 {
		s0 += int32(q[j]) * int32(codes[j])
		s1 += int32(q[j+1]) * int32(codes[j+1])
		s2 += int32(q[j+2]) * int32(codes[j+2])
		s3 += int32(q[j+3]) * int32(codes[j+3])
	}
	return s0 + s1 + s2 + s3
}

func widenPortable(dst []int16, src []int8) {
	for i, c := range src[:len(dst)] {
		dst[i] = int16(c)
	}
}

// gatherPortable reads rows that start anywhere; each is as long as q.
func gatherPortable(q []int16, rows []*int8, out []int32) {
	for i, r := range rows {
		out[i] = dotPortable(q, unsafe.Slice(r, len(q))) //nolint:gosec // as long as all rows are
	}
}
