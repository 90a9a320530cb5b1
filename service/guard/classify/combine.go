package classify

import (
	"math"
	"slices"
)

// Layers that a combiner can weigh.
const (
	Rules      = "rules"
	Compact    = "compact"
	Embeddings = "embeddings"
)

// Evidence is what the layers say of one text.
type Evidence struct {
	Rules      float64 // RulesEvidence of the rules' combined score
	Compact    float64 // logit of the compact classifier
	Windows    float64 // log of the number of windows: among many, one is high by chance
	Embeddings float64 // logit of the classifier on embeddings
}

// RulesEvidence makes evidence of the rules' combined score, 0 to 1. No number of rules is certainty.
func RulesEvidence(score float64) float64 { return math.Min(5, -math.Log(1-math.Min(score, 0.9999))) }

// Combiner makes a probability of evidence. It was fitted to texts of sources that the classifiers had not seen.
type Combiner struct {
	Layers     []string `json:"layers"`
	Bias       float64  `json:"bias"`
	Rules      float64  `json:"rules"`
	Compact    float64  `json:"compact"`
	Windows    float64  `json:"windows"`
	Embeddings float64  `json:"embeddings"`
}

// certain is the highest probability: no evidence makes sure.
const certain = 0.9999

// Probability that a text with such evidence is an attack, at the base rate of the model's header. It is never 1.
func (c *Combiner) Probability(e Evidence) float64 {
	return certain / (1 + math.Exp(-(c.Bias + c.Rules*e.Rules + c.Compact*e.Compact + c.Windows*e.Windows + c.Embeddings*e.Embeddings)))
}

// Combiner returns the combiner for layers, nil when there is none for just these.
func (m *Model) Combiner(layers ...string) *Combiner { return m.about.combiner(layers...) }

func (a *About) combiner(layers ...string) *Combiner {
	for i := range a.Combine {
		if slices.Equal(a.Combine[i].Layers, layers) {
			return &a.Combine[i]
		}
	}
	return nil
}

func (a *About) combines() bool {
	for _, c := range a.Combine {
		for _, x := range []float64{c.Bias, c.Rules, c.Compact, c.Windows, c.Embeddings} {
			if x-x != 0 {
				return false
			}
		}
	}
	return a.combiner(Rules) != nil && a.combiner(Rules, Compact) != nil
}
