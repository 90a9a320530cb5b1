package beir

import (
	"math"
	"slices"
)

// Measures are means over queries.
type Measures struct {
	NDCG10    float64 `json:"ndcg@10"`
	Recall100 float64 `json:"recall@100"`
	MRR10     float64 `json:"mrr@10"`
	Queries   int     `json:"queries"`
}

// Add counts a query's ranking: documents, the best first, each once.
func (m *Measures) Add(j map[string]int, ranking []string) {
	m.Queries++
	n := float64(m.Queries)
	for mean, value := range map[*float64]float64{&m.NDCG10: ndcg(j, ranking, 10), &m.Recall100: recall(j, ranking, 100), &m.MRR10: reciprocal(j, ranking, 10)} {
		*mean += (value - *mean) / n
	}
}

// ndcg is the normalised discounted cumulative gain with linear gains, as trec_eval's ndcg_cut (Järvelin & Kekäläinen 2002).
func ndcg(j map[string]int, ranking []string, k int) float64 {
	var gain, ideal float64
	for i, id := range ranking[:min(k, len(ranking))] {
		gain += float64(max(j[id], 0)) / math.Log2(float64(i+2))
	}
	grades := make([]int, 0, len(j))
	for _, g := range j {
		grades = append(grades, max(g, 0))
	}
	slices.SortFunc(grades, func(a, b int) int { return b - a })
	for i, g := range grades[:min(k, len(grades))] {
		ideal += float64(g) / math.Log2(float64(i+2))
	}
	if ideal == 0 {
		return 0
	}
	return gain / ideal
}

func recall(j map[string]int, ranking []string, k int) float64 {
	found, all := 0, 0
	for _, g := range j {
		if g > 0 {
			all++
		}
	}
	for _, id := range ranking[:min(k, len(ranking))] {
		if j[id] > 0 {
			found++
		}
	}
	if all == 0 {
		return 0
	}
	return float64(found) / float64(all)
}

func reciprocal(j map[string]int, ranking []string, k int) float64 {
	for i, id := range ranking[:min(k, len(ranking))] {
		if j[id] > 0 {
			return 1 / float64(i+1)
		}
	}
	return 0
}

// Quantile is the value below which a share q of the values lies; values are put in order.
func Quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return values[int(math.Ceil(q*float64(len(values))))-1]
}
