package search

import "slices"

// weights are what a query says, else what the collection does.
func (c Collection) weights(q Query) Weights {
	if q.Weights != nil {
		return *q.Weights
	}
	return c.Weights
}

// fuse adds up weight/(k + rank) over the lists (reciprocal rank fusion: Cormack, Clarke & Büttcher 2009). One list alone
// keeps its own scores. Where documents are fused, the passage of a document stands for it that adds most.
func (s *Service) fuse(scopes []scope, documents bool, byWords, byMeaning []ranked) []ranked {
	switch {
	case len(byWords) == 0:
		return byMeaning
	case len(byMeaning) == 0:
		return byWords
	}
	type place struct {
		collection int
		id         passageID
	}
	type sum struct {
		score, most float64
		id          passageID
	}
	sums := map[place]sum{}
	add := func(list []ranked, weight func(Weights) float64) {
		for rank, r := range list {
			share := weight(scopes[r.collection].weights) / float64(s.cfg.FusionK+rank+1)
			if share == 0 {
				continue
			}
			p := place{r.collection, r.id}
			if documents {
				p.id = passageOf(r.id.edition(), 0)
			}
			x := sums[p]
			if share > x.most {
				x.most, x.id = share, r.id
			}
			x.score += share
			sums[p] = x
		}
	}
	add(byWords, func(w Weights) float64 { return w.Words })
	add(byMeaning, func(w Weights) float64 { return w.Meaning })
	out := make([]ranked, 0, len(sums))
	for p, x := range sums {
		out = append(out, ranked{p.collection, x.id, x.score})
	}
	return top(out, len(out))
}

// perDocument keeps the first n passages of each document.
func perDocument(list []ranked, n int) []ranked {
	type place struct {
		collection int
		edition    int64
	}
	seen := map[place]int{}
	return slices.DeleteFunc(list, func(r ranked) bool {
		p := place{r.collection, r.id.edition()}
		seen[p]++
		return seen[p] > n
	})
}
