// Package measure says how well scores tell attacks from harmless texts.
//
// It is pure, and every function takes n log n time. Scores may tie: a tie counts half for the area under the curve, and
// texts of one score are flagged together or not at all.
package measure

import (
	"cmp"
	"math"
	"slices"
)

// Scored is one text's score and what the text is.
type Scored struct {
	Score  float64
	Attack bool
}

// AUC is the probability that an attack scores higher than a harmless text (Mann–Whitney). It is NaN when one of both is
// missing.
func AUC(all []Scored) float64 {
	s := sorted(all)
	attacks, harmless, wins := 0.0, 0.0, 0.0
	for i := 0; i < len(s); {
		j, a, h := tie(s, i)
		wins += h*attacks + a*h/2
		attacks, harmless, i = attacks+a, harmless+h, j
	}
	if attacks == 0 || harmless == 0 {
		return math.NaN()
	}
	return wins / (attacks * harmless)
}

// sorted are the scores, the highest first.
func sorted(all []Scored) []Scored {
	s := slices.Clone(all)
	slices.SortFunc(s, func(a, b Scored) int { return cmp.Compare(b.Score, a.Score) })
	return s
}

// tie counts the texts that have the score of s[i], and says where they end.
func tie(s []Scored, i int) (end int, attacks, harmless float64) {
	for end = i; end < len(s) && s[end].Score == s[i].Score; end++ {
		if s[end].Attack {
			attacks++
		} else {
			harmless++
		}
	}
	return end, attacks, harmless
}

// Threshold is the lowest score from which on at most the share fpr of the harmless texts is flagged; +Inf when even the
// highest score flags more than that.
func Threshold(all []Scored, fpr float64) float64 {
	s := sorted(all)
	harmless := 0.0
	for _, x := range s {
		if !x.Attack {
			harmless++
		}
	}
	best, flagged := math.Inf(1), 0.0
	for i := 0; i < len(s); {
		j, _, h := tie(s, i)
		if flagged += h; flagged > fpr*harmless {
			break
		}
		best, i = s[i].Score, j
	}
	return best
}

// RecallAt is the share of the attacks that is found when at most the share fpr of the harmless texts is flagged. It is
// NaN without attacks.
func RecallAt(all []Scored, fpr float64) float64 {
	recall, _ := Rates(all, Threshold(all, fpr))
	return recall
}

// Rates are the shares of the attacks and of the harmless texts that score threshold or more. Each is NaN when there are none.
func Rates(all []Scored, threshold float64) (recall, fpr float64) {
	var attacks, harmless, found, alarms float64
	for _, x := range all {
		hit := 0.0
		if x.Score >= threshold {
			hit = 1
		}
		if x.Attack {
			attacks, found = attacks+1, found+hit
		} else {
			harmless, alarms = harmless+1, alarms+hit
		}
	}
	return found / attacks, alarms / harmless
}

// Percentile is the nearest-rank percentile: the smallest value that at least the share p of the values does not exceed.
// It is NaN without values.
func Percentile(values []float64, p float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(values))
	return s[min(max(int(math.Ceil(p*float64(len(s))))-1, 0), len(s)-1)]
}
