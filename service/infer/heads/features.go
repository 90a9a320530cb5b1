package heads

import (
	"fmt"
	"math"

	"aran/service/infer/minilm"
)

// Encoder is what a rerank head needs: the vectors of a text's tokens.
type Encoder interface {
	Best(query, document *minilm.Sequence) []float32
}

// Features lists what a rerank head knows of a passage, in order: where it was found (20 ÷ (20 + how many were
// before it)); the cosine of both vectors; the mean over the query's tokens of the cosine of the passage's nearest
// one; the same, tokens weighted by how few of the passages have them; the weighted share of the query's tokens
// that the passage has.
func Features() []string { return []string{"order", "cosine", "nearest", "rare", "pieces"} }

// Score returns one score for each passage; they come in the order in which they were found, the best first. It is
// an error when the head is none for that.
func (h *Head) Score(e Encoder, query *minilm.Sequence, passages []minilm.Sequence) ([]float64, error) {
	if h.Kind != Rerank {
		return nil, fmt.Errorf("a %s head can't rerank", h.Kind)
	}
	out := make([]float64, len(passages))
	for i, f := range features(e, query, passages) {
		out[i] = h.apply(f)[0]
	}
	return out, nil
}

func features(e Encoder, query *minilm.Sequence, passages []minilm.Sequence) [][]float32 {
	has := make([]map[int32]bool, len(passages))
	found := map[int32]int{} // piece of the query → passages that have it
	for _, id := range query.IDs {
		found[id] = 0
	}
	for i := range passages {
		has[i] = map[int32]bool{}
		for _, id := range passages[i].IDs {
			if n, asked := found[id]; asked && !has[i][id] {
				has[i][id], found[id] = true, n+1
			}
		}
	}
	weight, whole := map[int32]float64{}, 0.0
	for id, n := range found {
		weight[id] = math.Log(1 + (float64(len(passages)-n)+0.5)/(float64(n)+0.5))
	}
	var order []int32 // each piece once: sums take their terms in one order
	for _, id := range query.IDs {
		if w := weight[id]; found[id] >= 0 {
			order, found[id] = append(order, id), -1
			whole += w
		}
	}
	out := make([][]float32, len(passages))
	for i := range passages {
		p := &passages[i]
		var cosine, nearest, rare, total, pieces float64
		for j, x := range query.Vector {
			cosine += float64(x) * float64(p.Vector[j])
		}
		for j, b := range e.Best(query, p) {
			w := weight[query.IDs[j]]
			nearest, rare, total = nearest+float64(b), rare+w*float64(b), total+w
		}
		for _, id := range order {
			if has[i][id] {
				pieces += weight[id]
			}
		}
		if n := len(query.IDs); n > 0 { // weights are above 0
			nearest, rare, pieces = nearest/float64(n), rare/total, pieces/whole
		}
		out[i] = []float32{20 / (20 + float32(i)), float32(cosine), float32(nearest), float32(rare), float32(pieces)}
	}
	return out
}
