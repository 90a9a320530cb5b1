package words

import (
	"cmp"
	"container/heap"
	"errors"
	"math/bits"
	"slices"
	"sync"
)

// Index is the words index of one collection in memory: for each term the passages that it occurs in.
//
// It ranks exactly: every passage that holds a term of the query is scored. What a search may find is a
// View, and only what may be read counts in the statistics, so that scores tell nothing about the rest.
// An owner is what comes and goes as a whole (an edition of a document). Not safe for concurrent use with
// Add and Delete; searches may run side by side.
type Index struct {
	terms   map[int64][]uint32 // slot<<countBits | count, slots ascending
	ids     []int64            // slot → passage
	lengths []uint32           // slot → terms of the passage
	owners  []int64            // slot → owner
	slots   map[int64][]uint32 // owner → its slots
	dead    []uint64           // set of slots whose owner is gone
	nDead   int
	total   int64 // terms of all passages that live

	scratch sync.Pool // of *[]float64, all zero
}

const (
	countBits = 8
	maxCount  = 1<<countBits - 1 // more often in a passage changes a score by less than half a percent
	maxSlots  = 1 << (32 - countBits)
)

// ErrFull says that an index holds as many passages as it can: 2^24.
var ErrFull = errors.New("words index: 16,777,216 passages are its limit; split the collection")

// NewIndex is empty.
func NewIndex() *Index {
	return &Index{terms: map[int64][]uint32{}, slots: map[int64][]uint32{}}
}

// Passages is how many there are.
func (x *Index) Passages() int { return len(x.ids) - x.nDead }

// Has reports whether an owner's passages are here.
func (x *Index) Has(owner int64) bool { return len(x.slots[owner]) > 0 }

// Add puts passages of an owner in; ids name them in results, where equal scores stand in the order of ids. Adding
// passages of the same id twice is not noticed.
func (x *Index) Add(owner int64, id func(i int) int64, f Forward) error {
	if len(x.ids)+len(f.Passages) > maxSlots {
		return ErrFull
	}
	for i, p := range f.Passages {
		slot := uint32(len(x.ids)) //nolint:gosec // below maxSlots
		x.ids = append(x.ids, id(i))
		x.owners = append(x.owners, owner)
		x.lengths = append(x.lengths, uint32(p.Length)) //nolint:gosec // a passage is short
		x.slots[owner] = append(x.slots[owner], slot)
		x.total += int64(p.Length)
		for _, o := range p.Terms {
			x.terms[f.IDs[o.Term]] = append(x.terms[f.IDs[o.Term]], slot<<countBits|uint32(min(o.Count, maxCount))) //nolint:gosec // positive
		}
	}
	for len(x.dead)*64 < len(x.ids) {
		x.dead = append(x.dead, 0)
	}
	return nil
}

// Delete takes all passages of owners out. Their room is used again once they are a quarter of all.
func (x *Index) Delete(owners ...int64) {
	for _, o := range owners {
		for _, slot := range x.slots[o] {
			x.dead[slot/64] |= 1 << (slot % 64)
			x.nDead++
			x.total -= int64(x.lengths[slot])
		}
		delete(x.slots, o)
	}
	if x.nDead > 1000 && x.nDead*4 > len(x.ids) {
		x.compact()
	}
}

// compact gives the slots that live new numbers without gaps.
func (x *Index) compact() {
	fresh := make([]uint32, len(x.ids))
	n := uint32(0)
	for slot := range x.ids {
		if x.isDead(uint32(slot)) {
			continue
		}
		fresh[slot] = n
		x.ids[n], x.lengths[n], x.owners[n] = x.ids[slot], x.lengths[slot], x.owners[slot]
		n++
	}
	x.ids, x.lengths, x.owners = slices.Clip(x.ids[:n]), slices.Clip(x.lengths[:n]), slices.Clip(x.owners[:n])
	for term, list := range x.terms {
		kept := list[:0]
		for _, p := range list {
			if !x.isDead(p >> countBits) {
				kept = append(kept, fresh[p>>countBits]<<countBits|p&maxCount)
			}
		}
		if len(kept) == 0 {
			delete(x.terms, term)
		} else {
			x.terms[term] = slices.Clip(kept)
		}
	}
	for _, list := range x.slots {
		for i, slot := range list {
			list[i] = fresh[slot]
		}
	}
	x.dead, x.nDead = make([]uint64, (int(n)+63)/64), 0
}

func (x *Index) isDead(slot uint32) bool { return x.dead[slot/64]&(1<<(slot%64)) != 0 }

// View is what one search may look at. It holds for the state of the index that it was made in. The zero View is everything.
type View struct {
	readable []uint64 // nil: all that live. What counts in the statistics.
	wanted   []uint64 // nil: all that is readable. What may be found.
	passages int64    // that are readable
	total    int64    // their terms
}

// View makes a view: readable and wanted are owners; nil means all, wanted within readable.
func (x *Index) View(readable, wanted []int64) View {
	v := View{readable: x.set(readable), wanted: x.set(wanted), passages: int64(x.Passages()), total: x.total}
	if v.readable != nil {
		v.passages, v.total = 0, 0
		for i, w := range v.readable {
			v.passages += int64(bits.OnesCount64(w))
			for ; w != 0; w &= w - 1 {
				v.total += int64(x.lengths[i*64+bits.TrailingZeros64(w)])
			}
		}
	}
	if v.wanted != nil && v.readable != nil {
		for i := range v.wanted {
			v.wanted[i] &= v.readable[i]
		}
	}
	return v
}

func (x *Index) set(owners []int64) []uint64 {
	if owners == nil {
		return nil
	}
	out := make([]uint64, len(x.dead))
	for _, o := range owners {
		for _, slot := range x.slots[o] {
			out[slot/64] |= 1 << (slot % 64)
		}
	}
	return out
}

// Bytes is what the view takes.
func (v View) Bytes() int { return 8 * (len(v.readable) + len(v.wanted)) }

// Found is a passage with its score.
type Found struct {
	ID    int64
	Score float64
}

// Search finds the k best passages by BM25, the best first. Terms are each there once; sums are made in
// their order, so that scores are the same bits wherever the same passages are. It also returns each term's
// weight, 0 for one that occurs nowhere.
func (x *Index) Search(terms []int64, v View, k int) (out []Found, weights []float64) {
	weights = make([]float64, len(terms))
	if v.readable == nil {
		v.passages, v.total = int64(x.Passages()), x.total
	}
	if v.passages == 0 || k <= 0 {
		return nil, weights
	}
	scores := x.scores()
	defer x.release(scores)
	average := max(float64(v.total)/float64(v.passages), 1e-9)
	candidates := v.wanted
	if candidates == nil {
		candidates = v.readable
	}
	if candidates == nil && x.nDead > 0 {
		candidates = x.living()
	}
	for i, term := range terms {
		list := x.terms[term]
		in := x.occurs(list, v)
		if in == 0 {
			continue
		}
		weights[i] = Weight(in, v.passages)
		x.add(*scores, list, candidates, weights[i], average)
	}
	return x.best(*scores, k), weights
}

func (x *Index) living() []uint64 {
	out := make([]uint64, len(x.dead))
	for i, w := range x.dead {
		out[i] = ^w
	}
	return out
}

// occurs is how many passages of the view a term is in.
func (x *Index) occurs(list []uint32, v View) (n int64) {
	set := v.readable
	if set == nil {
		if x.nDead == 0 {
			return int64(len(list))
		}
		for _, p := range list {
			n += int64(^x.dead[p>>countBits/64] >> (p >> countBits % 64) & 1)
		}
		return n
	}
	for _, p := range list {
		n += int64(set[p>>countBits/64] >> (p >> countBits % 64) & 1)
	}
	return n
}

// add adds a term's share to the scores of the candidates (nil: all).
func (x *Index) add(scores []float64, list []uint32, candidates []uint64, weight, average float64) {
	base, slope := K1*(1-B), K1*B/average
	weight *= K1 + 1
	lengths := x.lengths
	for _, p := range list {
		slot := p >> countBits
		if candidates != nil && candidates[slot/64]>>(slot%64)&1 == 0 {
			continue
		}
		n := float64(p & maxCount)
		scores[slot] += weight * n / (n + base + slope*float64(lengths[slot]))
	}
}

func (x *Index) scores() *[]float64 {
	if s, ok := x.scratch.Get().(*[]float64); ok && len(*s) >= len(x.ids) {
		return s
	}
	s := make([]float64, len(x.ids)+len(x.ids)/8)
	return &s
}

func (x *Index) release(s *[]float64) {
	clear(*s)
	x.scratch.Put(s)
}

// best picks the k highest scores.
func (x *Index) best(scores []float64, k int) []Found {
	h := &worstFirst{}
	for slot, score := range scores[:len(x.ids)] {
		if score == 0 || len(*h) == k && score < (*h)[0].Score {
			continue
		}
		f := Found{x.ids[slot], score}
		switch {
		case len(*h) < k:
			heap.Push(h, f)
		case better(f, (*h)[0]) < 0:
			(*h)[0] = f
			heap.Fix(h, 0)
		}
	}
	slices.SortFunc(*h, better)
	return *h
}

// better is negative when a stands before b.
func better(a, b Found) int {
	return cmp.Or(cmp.Compare(b.Score, a.Score), cmp.Compare(a.ID, b.ID))
}

type worstFirst []Found //nolint:recvcheck // as container/heap wants it

func (h worstFirst) Len() int           { return len(h) }
func (h worstFirst) Less(i, j int) bool { return better(h[i], h[j]) > 0 }
func (h worstFirst) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *worstFirst) Push(v any)        { *h = append(*h, v.(Found)) } //nolint:forcetypeassert // only Found is pushed
func (h *worstFirst) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}
