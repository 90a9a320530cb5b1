package train

import (
	"math"

	"aran/service/guard/classify"
	"aran/service/guard/measure"
)

// Alarms is what may be flagged of harmless texts at Threshold.
type Alarms struct {
	Threshold float64 // probability from which a user's text is blocked
	All       float64 // share of all harmless texts, sources weighed as in training
	Hard      float64 // share of those that are full of the words of attacks
}

// Combine fits how to weigh layers to scores of texts whose group was left out, and shifts the result so that Threshold
// flags no more than Alarms: the base rate is what makes the shifted scores probabilities.
func Combine(left []Out, a Alarms, layers ...string) (c classify.Combiner, baseRate float64) {
	c = fitCombiner(left, layers)
	th := math.Max(limit(left, &c, a.All, func(Out) bool { return true }), limit(left, &c, a.Hard, func(o Out) bool { return o.Hard }))
	shift := logit(a.Threshold) - logit(th)
	c.Bias += shift
	return c, 1 / (1 + math.Exp(-shift))
}

func logit(p float64) float64 { return math.Log(p) - math.Log1p(-p) }

// limit is the probability from which on the share of harmless texts is flagged, each by its weight.
func limit(left []Out, c *classify.Combiner, share float64, use func(Out) bool) float64 {
	var all []measure.Scored
	least := math.Inf(1)
	for _, o := range left {
		if !o.Attack && use(o) {
			least = math.Min(least, o.Weight)
		}
	}
	for _, o := range left {
		if o.Attack || !use(o) {
			continue
		}
		for range int(math.Round(4 * o.Weight / least)) {
			all = append(all, measure.Scored{Score: c.Probability(o.Evidence)})
		}
	}
	if th := measure.Threshold(all, share); len(all) > 0 && !math.IsInf(th, 1) {
		return th
	}
	return 0.5
}

func fitCombiner(left []Out, layers []string) classify.Combiner {
	var all []example
	for _, o := range left {
		e := example{dense: make([]float32, 4), attack: o.Attack, weight: o.Weight}
		for _, l := range layers {
			switch l {
			case classify.Rules:
				e.dense[0] = float32(o.Rules)
			case classify.Compact:
				e.dense[1], e.dense[2] = float32(o.Compact), float32(o.Windows)
			case classify.Embeddings:
				e.dense[3] = float32(o.Embeddings)
			}
		}
		all = append(all, e)
	}
	w := logistic(all, 0, 4, 1, 100)
	return classify.Combiner{Layers: layers, Rules: w[0], Compact: w[1], Windows: w[2], Embeddings: w[3], Bias: w[4]}
}

// Cross gives each text the probability of a combiner that was fitted without its group.
func Cross(left []Out, folds int, layers ...string) []measure.Scored {
	fold := map[string]int{}
	for _, o := range left {
		if _, ok := fold[o.Group]; !ok {
			fold[o.Group] = len(fold) % folds
		}
	}
	out := make([]measure.Scored, len(left))
	for k := range folds {
		var rest []Out
		for _, o := range left {
			if fold[o.Group] != k {
				rest = append(rest, o)
			}
		}
		c := fitCombiner(rest, layers)
		for i, o := range left {
			if fold[o.Group] == k {
				out[i] = measure.Scored{Score: c.Probability(o.Evidence), Attack: o.Attack}
			}
		}
	}
	return out
}
