package vector

import "slices"

// top keeps the k best hits of a stream: a heap with the worst on top.
type top struct {
	k    int
	hits []Hit
}

func newTop(k int) *top { return &top{k: k, hits: make([]Hit, 0, min(k, 1024))} }

// worse reports whether a stands after b: a lower score, or the same and a higher id.
func worse(a, b Hit) bool {
	if a.Score != b.Score {
		return a.Score < b.Score
	}
	return a.ID > b.ID
}

func (t *top) offer(ids []int64, scores []float32) {
	for i, s := range scores {
		switch h := (Hit{ids[i], s}); {
		case len(t.hits) < t.k:
			t.hits = append(t.hits, h)
			t.up(len(t.hits) - 1)
		case worse(t.hits[0], h):
			t.hits[0] = h
			t.down(0)
		}
	}
}

func (t *top) up(i int) {
	for i > 0 {
		p := (i - 1) / 2
		if !worse(t.hits[i], t.hits[p]) {
			return
		}
		t.hits[i], t.hits[p] = t.hits[p], t.hits[i]
		i = p
	}
}

func (t *top) down(i int) {
	for {
		c := 2*i + 1
		if c >= len(t.hits) {
			return
		}
		if c+1 < len(t.hits) && worse(t.hits[c+1], t.hits[c]) {
			c++
		}
		if !worse(t.hits[c], t.hits[i]) {
			return
		}
		t.hits[i], t.hits[c] = t.hits[c], t.hits[i]
		i = c
	}
}

// sorted returns the hits, best first.
func (t *top) sorted() []Hit {
	slices.SortFunc(t.hits, func(a, b Hit) int {
		if worse(a, b) {
			return 1
		}
		return -1
	})
	return t.hits
}
