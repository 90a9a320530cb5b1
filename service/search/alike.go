package search

import (
	"hash/fnv"
	"slices"

	"aran/service/search/words"
)

// Near duplicates are told by a sample of each passage's runs of three words: the smallest of their hashes (Broder 1997).
// The share of common ones estimates how much of both texts is the same, whatever encoder there is.

const (
	shingle    = 3
	sketchSize = 96
	alikeFrom  = 0.8 // share of runs of words that two passages have in common
)

// sketch is a sample of a passage's runs of words, ascending. Short passages give all of theirs.
type sketch []uint64

func sketchOf(text string) (out sketch) {
	var last []string
	add := func() {
		h := fnv.New64a()
		for _, w := range last {
			_, _ = h.Write([]byte(w + "\x00")) // never fails
		}
		out = append(out, h.Sum64())
	}
	words.Each("", text, func(term string) {
		if last = append(last, term); len(last) > shingle {
			last = last[1:]
		}
		if len(last) == shingle {
			add()
		}
	})
	if len(out) == 0 {
		add()
	}
	slices.Sort(out)
	out = slices.Compact(out)
	return out[:min(len(out), sketchSize)]
}

// alike reports whether two passages say the same: of the smallest hashes of both, most are in both.
func (a sketch) alike(b sketch) bool {
	i, j, both, common := 0, 0, 0, 0
	for both < sketchSize && i < len(a) && j < len(b) {
		switch {
		case a[i] == b[j]:
			common++
			i++
			j++
		case a[i] < b[j]:
			i++
		default:
			j++
		}
		both++
	}
	if rest := len(a) - i + len(b) - j; both < sketchSize {
		both = min(sketchSize, both+rest)
	}
	return float64(common) >= alikeFrom*float64(both)
}
