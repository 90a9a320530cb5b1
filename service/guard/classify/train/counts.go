package train

import (
	"cmp"
	"slices"

	"aran/service/guard/classify"
)

// Counts says how many rows of each source there are, by name.
func Counts(rows []Row) (out []classify.SourceCount) {
	at := map[string]int{}
	for _, r := range rows {
		i, ok := at[r.Source]
		if !ok {
			i = len(out)
			at[r.Source] = i
			out = append(out, classify.SourceCount{Name: r.Source})
		}
		if r.Attack {
			out[i].Attacks++
		} else {
			out[i].Benign++
		}
	}
	slices.SortFunc(out, func(a, b classify.SourceCount) int { return cmp.Compare(a.Name, b.Name) })
	return out
}
