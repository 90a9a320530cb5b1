package words

import (
	"encoding/binary"
	"errors"
)

// Posting says how often a term occurs in a passage.
type Posting struct {
	Passage int // number within the part, ascending
	Count   int
	Length  int // terms of the passage
}

var errPosting = errors.New("posting list is damaged")

// Append packs a posting that stands after the passage `last` (-1 for the first).
func Append(b []byte, last int, p Posting) []byte {
	b = binary.AppendUvarint(b, uint64(p.Passage-last)) //nolint:gosec // ascending
	b = binary.AppendUvarint(b, uint64(p.Count))        //nolint:gosec // positive
	return binary.AppendUvarint(b, uint64(p.Length))    //nolint:gosec // positive
}

// Postings unpacks what Append made.
func Postings(b []byte, yield func(Posting)) error {
	last := -1
	for len(b) > 0 {
		var v [3]int
		for i := range v {
			u, n := binary.Uvarint(b)
			if n <= 0 || u > 1<<31 {
				return errPosting
			}
			v[i], b = int(u), b[n:] // below 2^31
		}
		if v[0] == 0 {
			return errPosting
		}
		last += v[0]
		yield(Posting{Passage: last, Count: v[1], Length: v[2]})
	}
	return nil
}
