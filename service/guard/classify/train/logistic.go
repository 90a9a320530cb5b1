// Package train makes the compact classifier: from labelled texts and the vectors of word pieces to a file that package
// classify reads, with the scores of sources that were left out, on which calibration and thresholds stand.
//
// It is deterministic: the same texts, vectors and processor give the same bytes. Only the trainer's command imports it.
package train

import (
	"math"
)

// example is one row of a design matrix: sparse features, then dense ones.
type example struct {
	ids    []int32
	values []float32 // nil: all are 1
	dense  []float32
	attack bool
	weight float64
}

// logistic fits a logistic regression with an L2 penalty (λ/2·|w|², not on the bias) by L-BFGS (Nocedal & Wright 2006,
// alg. 7.4). The parameters are sparse features, dense features, bias.
func logistic(all []example, sparse, dense int, lambda float64, iterations int) []float64 {
	n := sparse + dense + 1
	w, g := make([]float64, n), make([]float64, n)
	loss := gradient(all, sparse, lambda, w, g)
	const memory = 8
	var ss, ys [][]float64
	var rho []float64
	for range iterations {
		d := direction(g, ss, ys, rho)
		slope := dot(d, g)
		if slope > -1e-10 {
			break
		}
		step := 1.0
		if len(ss) == 0 {
			step = 1 / (1 + math.Sqrt(-slope))
		}
		next, ng := make([]float64, n), make([]float64, n)
		var nl float64
		for range 25 {
			for i := range w {
				next[i] = w[i] + step*d[i]
			}
			if nl = gradient(all, sparse, lambda, next, ng); nl <= loss+1e-4*step*slope {
				break
			}
			step /= 2
		}
		s, y := make([]float64, n), make([]float64, n)
		for i := range w {
			s[i], y[i] = next[i]-w[i], ng[i]-g[i]
		}
		if sy := dot(s, y); sy > 1e-12 {
			ss, ys, rho = append(ss, s), append(ys, y), append(rho, 1/sy)
			if len(ss) > memory {
				ss, ys, rho = ss[1:], ys[1:], rho[1:]
			}
		}
		done := loss-nl < 2e-5*math.Abs(loss)
		w, g, loss = next, ng, nl
		if done {
			break
		}
	}
	return w
}

func direction(g []float64, ss, ys [][]float64, rho []float64) []float64 {
	d := make([]float64, len(g))
	for i := range g {
		d[i] = -g[i]
	}
	a := make([]float64, len(ss))
	for k := len(ss) - 1; k >= 0; k-- {
		a[k] = rho[k] * dot(ss[k], d)
		axpy(d, -a[k], ys[k])
	}
	if k := len(ss) - 1; k >= 0 {
		scale := 1 / (rho[k] * dot(ys[k], ys[k]))
		for i := range d {
			d[i] *= scale
		}
	}
	for k := range ss {
		axpy(d, a[k]-rho[k]*dot(ys[k], d), ss[k])
	}
	return d
}

// gradient fills g and returns the loss.
func gradient(all []example, sparse int, lambda float64, w, g []float64) float64 {
	bias := len(w) - 1
	loss := 0.0
	for i := range w {
		g[i] = lambda * w[i]
		loss += lambda / 2 * w[i] * w[i]
	}
	g[bias], loss = 0, loss-lambda/2*w[bias]*w[bias]
	for i := range all {
		x := &all[i]
		z := x.score(w, sparse)
		p, t := 1/(1+math.Exp(-z)), 0.0
		if x.attack {
			t = 1
			loss += x.weight * softplus(-z)
		} else {
			loss += x.weight * softplus(z)
		}
		e := x.weight * (p - t)
		g[bias] += e
		for k, id := range x.ids {
			if x.values == nil {
				g[id] += e
			} else {
				g[id] += e * float64(x.values[k])
			}
		}
		for k, v := range x.dense {
			g[sparse+k] += e * float64(v)
		}
	}
	return loss
}

func (x *example) score(w []float64, sparse int) float64 {
	z := w[len(w)-1]
	for k, id := range x.ids {
		if x.values == nil {
			z += w[id]
		} else {
			z += w[id] * float64(x.values[k])
		}
	}
	for k, v := range x.dense {
		z += w[sparse+k] * float64(v)
	}
	return z
}

func softplus(z float64) float64 {
	if z > 30 {
		return z
	}
	return math.Log1p(math.Exp(z))
}

func dot(a, b []float64) (sum float64) {
	for i := range a {
		sum += a[i] * b[i]
	}
	return sum
}

func axpy(y []float64, a float64, x []float64) {
	for i := range y {
		y[i] += a * x[i]
	}
}
