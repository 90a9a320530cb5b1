package train

import "maps"

// HeadRow is a text with its vector from an encoder.
type HeadRow struct {
	Row
	Vector []float32
}

// Head is a logistic regression on vectors: the parameters, the bias last.
type Head []float64

// Scales of the head's training: vectors have unit length.
const (
	headLambda     = 0.0005
	headScale      = 8
	headIterations = 100
)

// FitHead trains on all rows, sources weighed by the root of their size.
func FitHead(rows []HeadRow) Head {
	weight := weigh(len(rows), func(i int) Row { return rows[i].Row })
	all := make([]example, len(rows))
	for i, r := range rows {
		v := make([]float32, len(r.Vector))
		for k, x := range r.Vector {
			v[k] = headScale * x
		}
		all[i] = example{dense: v, attack: r.Attack, weight: weight[i]}
	}
	w := logistic(all, 0, len(rows[0].Vector), headLambda*float64(len(rows)), headIterations)
	for i := range len(w) - 1 {
		w[i] *= headScale
	}
	return w
}

// Logit of a vector.
func (h Head) Logit(vector []float32) float64 {
	z := h[len(h)-1]
	for i, x := range vector {
		z += h[i] * float64(x)
	}
	return z
}

// HeadLeaveOut adds to texts that were left out what a head says that did not see their group. It returns those of which
// there is a vector.
func (t *Trainer) HeadLeaveOut(left []Out, rows []HeadRow) (out []Out) {
	folds := t.folds()
	logits := map[string]float64{}
	for k := range t.set.Folds {
		var rest, held []HeadRow
		for _, r := range rows {
			if folds[r.Group] == k {
				held = append(held, r)
			} else {
				rest = append(rest, r)
			}
		}
		h := FitHead(rest)
		said := map[string]float64{}
		for _, r := range held {
			said[r.Source+"\x00"+r.Text] = h.Logit(r.Vector)
		}
		maps.Copy(logits, said)
	}
	for _, o := range left {
		if z, ok := logits[o.Source+"\x00"+o.Text]; ok {
			o.Embeddings = z
			out = append(out, o)
		}
	}
	return out
}
