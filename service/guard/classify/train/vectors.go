package train

import (
	"math"
	"math/rand/v2"
)

// Reduce takes the mean off vectors and projects them on the directions in which they differ most (principal components,
// by orthogonal iteration). The result is scaled to a standard deviation of 1 over all numbers.
func Reduce(vectors [][]float32, dims int) [][]float32 {
	size := len(vectors[0])
	mean := make([]float64, size)
	for _, v := range vectors {
		for i, x := range v {
			mean[i] += float64(x) / float64(len(vectors))
		}
	}
	cov := make([][]float64, size)
	for i := range cov {
		cov[i] = make([]float64, size)
	}
	c := make([]float64, size)
	for n := 0; n < len(vectors); n += 4 { // a quarter of them shows the directions
		for i, x := range vectors[n] {
			c[i] = float64(x) - mean[i]
		}
		for i := range c {
			axpy(cov[i], c[i], c)
		}
	}
	q := directions(cov, dims)
	out := make([][]float32, len(vectors))
	sum := 0.0
	for n, v := range vectors {
		for i, x := range v {
			c[i] = float64(x) - mean[i]
		}
		out[n] = make([]float32, dims)
		for k := range q {
			p := dot(q[k], c)
			out[n][k] = float32(p)
			sum += p * p
		}
	}
	scale := float32(1 / math.Sqrt(sum/float64(len(vectors)*dims)))
	for _, v := range out {
		for i := range v {
			v[i] *= scale
		}
	}
	return out
}

const (
	seed  = 7
	turns = 25
)

// directions are the first eigenvectors of a symmetric matrix, nearly.
func directions(a [][]float64, n int) [][]float64 {
	r := rand.New(rand.NewPCG(seed, seed)) //nolint:gosec // reproducible on purpose
	q := make([][]float64, n)
	for i := range q {
		q[i] = make([]float64, len(a))
		for j := range q[i] {
			q[i][j] = r.NormFloat64()
		}
	}
	for range turns {
		for i := range q {
			v := make([]float64, len(a))
			for j := range a {
				v[j] = dot(a[j], q[i])
			}
			q[i] = v
		}
		for i := range q { // Gram–Schmidt
			for j := range i {
				axpy(q[i], -dot(q[i], q[j]), q[j])
			}
			length := math.Sqrt(dot(q[i], q[i]))
			for j := range q[i] {
				q[i][j] /= length
			}
		}
	}
	return q
}
