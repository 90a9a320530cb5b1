package main

import (
	"hash/fnv"
	"slices"

	"aran/service/guard/classify/train"
	"aran/service/guard/mutate"
)

const (
	formShare = 3    // of so many texts one is learnt in another form too
	formBytes = 2000 // of a text, at most
	formSeed  = 31   // not the one that the robustness test takes
)

// formed are the families of forms that are learnt: what canonical form and decoders undo needs no learning.
var formed = []string{mutate.Wrapping, mutate.Paraphrase, mutate.Language, mutate.Conversation, mutate.Splitting, mutate.Typo} //nolint:gochecknoglobals // a constant

// forms says some of the rows in one other form each: attacks and harmless texts alike, so that a form says nothing.
func forms(rows []train.Row) ([]train.Row, error) {
	all, err := mutate.Named(formed...)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(m mutate.Mutation) bool { return m.Hostile })
	out := slices.Clone(rows)
	for i, r := range out {
		h := fnv.New32a()
		_, _ = h.Write([]byte(r.Text)) // never fails
		k := int(h.Sum32())
		if k%formShare != 0 || len(r.Text) > formBytes {
			continue
		}
		out[i].Forms = []string{all[k/formShare%len(all)].Apply(r.Text, formSeed)}
	}
	return out, nil
}
