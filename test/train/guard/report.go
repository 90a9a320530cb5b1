package main

import (
	"encoding/json"
	"fmt"
	"log"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"aran/service/guard/classify"
	"aran/service/guard/classify/train"
	"aran/service/guard/measure"
)

// compare prints how well layers tell attacks from harmless texts, by combiners that were fitted without the text's group:
// on all sources, and on those that are not of our own making.
func compare(left []train.Out, layers ...string) {
	s := train.Cross(left, 8, layers...)
	var given []measure.Scored
	for i, o := range left {
		if !strings.HasPrefix(o.Source, "own_") && !strings.HasPrefix(o.Source, "mined_") {
			given = append(given, s[i])
		}
	}
	for _, x := range []struct {
		name string
		s    []measure.Scored
	}{{"all", s}, {"given", given}} {
		log.Printf("%v, %s: AUC %.4f, recall at 0.1/1/5 %% %.3f %.3f %.3f", layers, x.name, measure.AUC(x.s), measure.RecallAt(x.s, 0.001), measure.RecallAt(x.s, 0.01), measure.RecallAt(x.s, 0.05))
	}
}

// report prints how each source was judged by the models that did not see it.
func report(left []train.Out, c *classify.Combiner, dump string) {
	compare(left, classify.Rules)
	compare(left, classify.Compact)
	compare(left, classify.Rules, classify.Compact)
	score := func(o train.Out) float64 { return c.Probability(o.Evidence) }
	th := injectionThreshold
	type row struct{ n, flagged [2]int }
	by := map[string]*row{}
	for _, o := range left {
		if by[o.Source] == nil {
			by[o.Source] = &row{}
		}
		k := 0
		if o.Attack {
			k = 1
		}
		by[o.Source].n[k]++
		if score(o) >= th {
			by[o.Source].flagged[k]++
		}
	}
	w := tabwriter.NewWriter(os.Stderr, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, s := range slices.Sorted(maps.Keys(by)) {
		r := by[s]
		line := s
		for k := range 2 {
			if r.n[k] > 0 {
				line += fmt.Sprintf("\t%d\t%.3f", r.n[k], float64(r.flagged[k])/float64(r.n[k]))
			} else {
				line += "\t\t"
			}
		}
		_, _ = fmt.Fprintln(w, line+"\t")
	}
	_ = w.Flush()
	if dump != "" {
		b, _ := json.Marshal(left)
		_ = os.WriteFile(dump, b, 0o644)
	}
}
