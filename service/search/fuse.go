package search

import "slices"

// weights are what a query says, else what the collection does.
func (c Collection) weights(q Query) Weights {
	if q.Weights != nil {
		return *q.Weights
	}
	return c.Weights
}

// fuse adds up each passage's shares in both lists. One list alone keeps its own scores. Where documents are fused, the
// passage of a document stands for it that adds most.
func (s *Service) fuse(scopes []scope, documents bool, byWords, byMeaning []ranked) []ranked { //nolint:revive // what is fused, not how
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
		share := s.shares(list)
		for rank, r := range list {
			share := weight(scopes[r.collection].weights) * share(rank)
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

// shares are what the places of a list add before their weight. By ranks it is 1/(k + rank) (reciprocal rank fusion:
// Cormack, Clarke & Büttcher 2009). By scores it is where the score stands between the list's last and its first, 0 to 1
// (convex combination of min-max scores: Bruch, Gai & Ingber 2023): that a passage is far ahead of the next counts then.
func (s *Service) shares(list []ranked) func(rank int) float64 {
	if s.cfg.Fusion == FusionRanks {
		return func(rank int) float64 { return 1 / float64(s.cfg.FusionK+rank+1) }
	}
	high, low := list[0].score, list[len(list)-1].score
	return func(rank int) float64 {
		if high == low {
			return 1
		}
		return leastShare + (1-leastShare)*(list[rank].score-low)/(high-low)
	}
}

// leastShare is what the last of a list has: it was found, after all.
const leastShare = 1e-3

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
