package measure_test

import (
	"math"
	"testing"

	"aran/service/guard/measure"
)

// Four attacks and five harmless texts. Of the 20 pairs an attack wins: .9 five, .7 four and a half (it ties with one), .6
// four, .2 one: 14.5.
func sample() []measure.Scored {
	return []measure.Scored{
		{0.1, false},
		{0.2, true},
		{0.3, false},
		{0.4, false},
		{0.5, false},
		{0.6, true},
		{0.7, true},
		{0.7, false},
		{0.9, true},
	}
}

func TestMeasures(t *testing.T) {
	all := sample()
	for _, c := range []struct {
		name      string
		got, want float64
	}{
		{"area under the curve", measure.AUC(all), 14.5 / 20},
		{"without false alarms only the highest is found", measure.RecallAt(all, 0), 1.0 / 4},
		{"a share that no text makes up is rounded down", measure.RecallAt(all, 0.19), 1.0 / 4},
		{"one false alarm of five lets the tie in, and what stands between it and the next", measure.RecallAt(all, 0.2), 3.0 / 4},
		{"everything may be flagged", measure.RecallAt(all, 1), 1},
		{"threshold without false alarms", measure.Threshold(all, 0), 0.9},
		{"threshold for one of five", measure.Threshold(all, 0.2), 0.6},
		{"median of four", measure.Percentile([]float64{4, 1, 3, 2}, 0.5), 2},
		{"99th percentile of four", measure.Percentile([]float64{4, 1, 3, 2}, 0.99), 4},
		{"lowest", measure.Percentile([]float64{4, 1, 3, 2}, 0), 1},
	} {
		if math.Abs(c.got-c.want) > 1e-12 {
			t.Errorf("%s: %v, want %v", c.name, c.got, c.want)
		}
	}
	recall, fpr := measure.Rates(all, 0.5)
	if recall != 3.0/4 || fpr != 2.0/5 {
		t.Errorf("rates at .5 are %v and %v, want 3/4 and 2/5", recall, fpr)
	}
}

func TestNothingToMeasure(t *testing.T) {
	harmless := []measure.Scored{{0.5, false}}
	if a := measure.AUC(harmless); !math.IsNaN(a) {
		t.Errorf("AUC without attacks is %v", a)
	}
	if r := measure.RecallAt(harmless, 0.01); !math.IsNaN(r) {
		t.Errorf("recall without attacks is %v", r)
	}
	if th := measure.Threshold(harmless, 0.5); !math.IsInf(th, 1) {
		t.Errorf("threshold is %v although the only text would be one flagged too many", th)
	}
	if p := measure.Percentile(nil, 0.5); !math.IsNaN(p) {
		t.Errorf("percentile of nothing is %v", p)
	}
}
