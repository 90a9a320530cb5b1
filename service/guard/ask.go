package guard

import (
	"context"
	"maps"
	"math"

	"aran/platform/fault"
	"aran/service/guard/detect"
	"aran/service/guard/policy"
)

// asked puts the judgement of a language model beside that of the other layers, where policy names it, the operator has
// configured it, and the others are not sure. When the model can't be asked, what the others say stands, and a finding says so.
func (s *Service) asked(ctx context.Context, text string, o observation, p policy.Policy) observation {
	if s.judge == nil || !p.Uses(policy.Judge) || !s.judge.Wanted(o.score) {
		return o
	}
	probability, why, err := s.judge.Ask(ctx, text, o.origin)
	if err != nil {
		code := "judge_unavailable"
		if f := fault.From(err); f != nil && f.Code != "" {
			code = f.Code
		}
		o.findings = append(o.findings, detect.Finding{Kind: "judge", Rule: "judge.away", End: len(text), Why: "The judge was not asked or gave no judgement (" + code + "); the other layers decide."})
		return o
	}
	o.layers = maps.Clone(o.layers)
	o.layers[policy.Judge] = probability
	o.score = middle(o.score, probability)
	o.findings = append(o.findings, detect.Finding{Kind: "injection", Rule: "judge", Score: probability, End: len(text), Why: why})
	return o
}

// middle is the mean of two probabilities on the scale of log odds: two opinions of equal weight (logarithmic pooling, Genest &
// Zidek 1986).
func middle(a, b float64) float64 {
	odds := func(p float64) float64 {
		p = min(max(p, 1e-4), 1-1e-4)
		return math.Log(p / (1 - p))
	}
	return 1 / (1 + math.Exp(-(odds(a)+odds(b))/2))
}
