package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"aran/service/guard/classify"
	"aran/service/guard/classify/train"
	"aran/service/guard/measure"
	"aran/service/infer/registry"
)

// given says that a source is not of our own making.
func given(source string) bool {
	return !strings.HasPrefix(source, "own_") && !strings.HasPrefix(source, "mined_")
}

// figures are what a combination of layers reaches on texts whose group neither the classifiers nor the combiner saw.
type figures struct{ auc, at01, at1, at5 float64 }

func measured(left []train.Out, use func(train.Out) bool, layers ...string) figures {
	var some []measure.Scored
	for i, s := range train.Cross(left, 8, layers...) {
		if use(left[i]) {
			some = append(some, s)
		}
	}
	return figures{measure.AUC(some), measure.RecallAt(some, 0.001), measure.RecallAt(some, 0.01), measure.RecallAt(some, 0.05)}
}

func (f figures) evaluation(dataset string) []registry.Evaluation {
	one := func(metric string, v float64) registry.Evaluation {
		return registry.Evaluation{Dataset: dataset, Metric: metric, Value: float64(int(v*10000+0.5)) / 10000, Command: command}
	}
	return []registry.Evaluation{one("auc", f.auc), one("recall@fpr1%", f.at1), one("recall@fpr5%", f.at5)}
}

const leftOut = "texts of sources that were left out of training"

// ladder compares combinations of layers.
func ladder(left []train.Out, all [][]string) string {
	var b strings.Builder
	b.WriteString("| layers | sources | AUC | recall at 0.1 % | 1 % | 5 % false alarms |\n|---|---|---|---|---|---|\n")
	for _, layers := range all {
		for _, x := range []struct {
			name string
			use  func(train.Out) bool
		}{{"all", func(train.Out) bool { return true }}, {"given", func(o train.Out) bool { return given(o.Source) }}} {
			f := measured(left, x.use, layers...)
			_, _ = fmt.Fprintf(&b, "| %s | %s | %.3f | %.3f | %.3f | %.3f |\n", strings.Join(layers, ", "), x.name, f.auc, f.at01, f.at1, f.at5)
		}
	}
	return b.String()
}

// bySource is what was flagged of each source at the threshold by rules and a compact classifier that did not see it. Small
// sources of our own that are of one kind stand together.
func bySource(left []train.Out, c *classify.Combiner) string {
	type row struct{ n, flagged [2]int }
	by := map[string]*row{}
	for _, o := range left {
		name := o.Source
		for _, kind := range []string{"own_lang", "own_verbs", "own_doc"} {
			if strings.HasPrefix(name, kind+"_") {
				name = kind + "_…"
			}
		}
		if by[name] == nil {
			by[name] = &row{}
		}
		k := 0
		if o.Attack {
			k = 1
		}
		by[name].n[k]++
		if c.Probability(o.Evidence) >= injectionThreshold {
			by[name].flagged[k]++
		}
	}
	var b strings.Builder
	b.WriteString("| source, left out | harmless | flagged | attacks | found |\n|---|---|---|---|---|\n")
	for _, s := range slices.Sorted(maps.Keys(by)) {
		_, _ = fmt.Fprintf(&b, "| %s |", s)
		for k := range 2 {
			if n := by[s].n[k]; n > 0 {
				_, _ = fmt.Fprintf(&b, " %d | %.1f %% |", n, 100*float64(by[s].flagged[k])/float64(n))
			} else {
				b.WriteString(" | |")
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}
