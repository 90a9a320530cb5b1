package vector

// scanFunc writes the inner product of q with each row of rows, [len(out)][len(q)], to out.
// A row's result depends on that row alone, never on its place: equal vectors score the same.
type scanFunc func(q, rows, out []float32)

type kernel struct {
	name string
	scan scanFunc
}

// scanPortable is for machines without a kernel of their own.
func scanPortable(q, rows, out []float32) {
	n := len(q)
	for i := range out {
		r := rows[i*n:][:n]
		var s0, s1, s2, s3 float32
		j := 0
		for ; j+4 <= n; j += 4 {
			s0 += q[j] * r[j]
			s1 += q[j+1] * r[j+1]
			s2 += q[j+2] * r[j+2]
			s3 += q[j+3] * r[j+3]
		}
		for ; j < n; j++ {
			s0 += q[j] * r[j]
		}
		out[i] = (s0 + s1) + (s2 + s3)
	}
}
