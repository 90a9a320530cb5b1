package words

import (
	"encoding/binary"
	"errors"
	"slices"
)

// Forward says which terms consecutive passages hold: what the index is built from, and what is stored.
type Forward struct {
	IDs      []int64 // of the terms, ascending, each once
	Passages []Occurrences
}

// Occurrences are the terms of one passage.
type Occurrences struct {
	Length int // terms, repeated ones too
	Terms  []Occurrence
}

// Occurrence says how often a term occurs in a passage. Term is an index into Forward.IDs.
type Occurrence struct {
	Term, Count int
}

// NewForward names the terms of passages: each map is a passage's terms with how often they occur.
func NewForward(id func(term string) int64, passages []map[string]int) Forward {
	ids := map[string]int64{}
	for _, p := range passages {
		for term := range p {
			if _, there := ids[term]; !there {
				ids[term] = id(term)
			}
		}
	}
	f := Forward{IDs: make([]int64, 0, len(ids))}
	for _, v := range ids {
		f.IDs = append(f.IDs, v)
	}
	slices.Sort(f.IDs)
	f.IDs = slices.Compact(f.IDs)
	for _, p := range passages {
		counts := map[int]int{} // two terms may share an id
		o := Occurrences{}
		for term, n := range p {
			at, _ := slices.BinarySearch(f.IDs, ids[term])
			counts[at] += n
			o.Length += n
		}
		for at, n := range counts {
			o.Terms = append(o.Terms, Occurrence{at, n})
		}
		slices.SortFunc(o.Terms, func(a, b Occurrence) int { return a.Term - b.Term })
		f.Passages = append(f.Passages, o)
	}
	return f
}

// Pack is the forward list as bytes: the number of ids, each in eight bytes, and for each passage length, number
// of terms, and for each term the step from the one before and its count. Numbers are unsigned varints.
func (f Forward) Pack() []byte {
	b := binary.AppendUvarint(nil, uint64(len(f.IDs)))
	for _, id := range f.IDs {
		b = binary.LittleEndian.AppendUint64(b, uint64(id)) //nolint:gosec // 63 bits
	}
	for _, p := range f.Passages {
		b = binary.AppendUvarint(b, uint64(p.Length)) //nolint:gosec // positive
		b = binary.AppendUvarint(b, uint64(len(p.Terms)))
		last := -1
		for _, o := range p.Terms {
			b = binary.AppendUvarint(b, uint64(o.Term-last)) //nolint:gosec // ascending
			b = binary.AppendUvarint(b, uint64(o.Count))     //nolint:gosec // positive
			last = o.Term
		}
	}
	return b
}

var errForward = errors.New("stored terms are damaged")

// Unpack reads what Pack made.
func Unpack(b []byte) (f Forward, err error) {
	next := func() int {
		u, n := binary.Uvarint(b)
		if n <= 0 || u > 1<<31 {
			err = errForward
			b = nil
			return 0
		}
		b = b[n:]
		return int(u)
	}
	n := next()
	if err != nil || len(b)/8 < n {
		return f, errForward
	}
	f.IDs = make([]int64, n)
	for i := range f.IDs {
		f.IDs[i] = int64(binary.LittleEndian.Uint64(b) &^ (1 << 63)) //nolint:gosec // 63 bits
		b = b[8:]
		if i > 0 && f.IDs[i] <= f.IDs[i-1] {
			return f, errForward
		}
	}
	for len(b) > 0 {
		o := Occurrences{Length: next()}
		terms := next()
		if err != nil || terms > len(f.IDs) {
			return f, errForward
		}
		o.Terms = make([]Occurrence, terms)
		last := -1
		for i := range o.Terms {
			step, count := next(), next()
			last += step
			if err != nil || step == 0 || count == 0 || last >= len(f.IDs) {
				return f, errForward
			}
			o.Terms[i] = Occurrence{last, count}
		}
		f.Passages = append(f.Passages, o)
	}
	return f, nil
}
