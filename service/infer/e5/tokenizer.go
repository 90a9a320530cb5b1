package e5

import (
	"fmt"
	"math"
	"math/bits"
	"sort"
	"strings"
	"unicode/utf8"

	"aran/service/infer/minilm"
)

// space is how the pieces write the space in front of a word.
const space = '▁'

const (
	slotBits     = 19
	maxPiece     = 64          // bytes
	longestWord  = 16 * Window // characters; the rest of a word is cut off it, which is behind the window anyway
	unknownScore = 10          // below the lowest
)

// rule is what becomes of a character.
type rule struct {
	from rune
	to   string
}

// Tokenizer splits text into the pieces of a unigram model (Kudo 2018): those whose scores sum to the most. Safe
// for concurrent use.
//
// A text that spells a marker, "<s>", gets none. Bytes that are not UTF-8 are left out.
type Tokenizer struct {
	first, last, pad, unknown int32

	pieces  string
	starts  []uint32             // id → where it starts in pieces; one more than there are
	scores  []float32            // id → logarithm of its probability
	slots   [1 << slotBits]int32 // hash → id + 1
	longest int                  // bytes of the longest piece
	unseen  float32              // score of a character that is in no piece
	rules   []rule               // ascending
}

// readPieces fills the tables.
func (t *Tokenizer) readPieces(pieces, starts, scores string, n int) error {
	t.pieces, t.starts, t.scores = pieces, make([]uint32, n+1), make([]float32, n)
	for i := range t.starts {
		t.starts[i] = u32(starts[4*i:])
		if i > 0 && t.starts[i] < t.starts[i-1] || int(t.starts[i]) > len(pieces) {
			return fmt.Errorf("piece %d lies outside the others", i)
		}
	}
	lowest := float32(math.MaxFloat32)
	for id := range n {
		s := math.Float32frombits(u32(scores[4*id:]))
		if !(s <= 0 && s > -1e6) {
			return fmt.Errorf("piece %d has the score %v", id, s)
		}
		t.scores[id], lowest = s, min(lowest, s)
		p := t.piece(int32(id)) //nolint:gosec // below 2¹⁸
		if p == "" || len(p) > maxPiece || !utf8.ValidString(p) {
			return fmt.Errorf("piece %d has %d bytes, or is no text", id, len(p))
		}
		if strings.LastIndex(p, string(space)) > 0 {
			return fmt.Errorf("piece %d goes across a space", id)
		}
		t.longest = max(t.longest, len(p))
		at := slot(hash(p))
		for t.slots[at] != 0 {
			if t.piece(t.slots[at]-1) == p {
				return fmt.Errorf("piece %d stands there twice", id)
			}
			at = (at + 1) % len(t.slots)
		}
		t.slots[at] = int32(id) + 1 //nolint:gosec // below 2¹⁸
	}
	t.unseen = lowest - unknownScore
	return nil
}

func (t *Tokenizer) piece(id int32) string { return t.pieces[t.starts[id]:t.starts[id+1]] }

// FNV-1a, 64 bits.
const (
	hashStart uint64 = 14695981039346656037
	hashTimes uint64 = 1099511628211
)

func hash(s string) uint64 {
	h := hashStart
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * hashTimes
	}
	return h
}

func slot(h uint64) int {
	return int(bits.RotateLeft64(h*0x9e3779b97f4a7c15, slotBits) & (1<<slotBits - 1)) //nolint:gosec // 19 bits
}

// find returns the id of a piece with this hash, or -1. Markers are no pieces of text.
func (t *Tokenizer) find(s []byte, h uint64) int32 {
	for at := slot(h); t.slots[at] != 0; at = (at + 1) % len(t.slots) {
		if id := t.slots[at] - 1; t.piece(id) == string(s) {
			if id == t.first || id == t.last || id == t.pad || id == t.unknown || string(s) == "<mask>" {
				return -1
			}
			return id
		}
	}
	return -1
}

// become returns what becomes of a character, and whether it does not stay what it is.
func (t *Tokenizer) become(r rune) (string, bool) {
	i := sort.Search(len(t.rules), func(i int) bool { return t.rules[i].from >= r })
	if i < len(t.rules) && t.rules[i].from == r {
		return t.rules[i].to, true
	}
	return "", false
}

// Count is how many tokens a text has, without markers and the word in front, and without a limit.
func (t *Tokenizer) Count(text string) int {
	n := 0
	t.each("", text, func(minilm.Token) bool { n++; return true })
	return n
}

// Tokens returns the text's tokens in order, as Count counts them, with the places in the text that they come
// from. Starts and ends never go back.
func (t *Tokenizer) Tokens(text string) []minilm.Token {
	var out []minilm.Token
	t.each("", text, func(tok minilm.Token) bool { out = append(out, tok); return true })
	return out
}

// ids are what the model sees of a text behind a word; more says that the text goes on.
func (t *Tokenizer) ids(word, text string) (ids []int32, more bool) {
	ids = append(ids, t.first)
	t.each(word, text, func(tok minilm.Token) bool {
		more = len(ids) == Window-1
		if !more {
			ids = append(ids, tok.ID)
		}
		return !more
	})
	return append(ids, t.last), more
}

// each yields tokens until yield returns false. Places are those in text; of what stands in front it is 0.
func (t *Tokenizer) each(front, text string, yield func(minilm.Token) bool) {
	w := lattice{t: t, yield: yield}
	w.add(space, 0, 0)
	behind := true // the last character was a space
	whole := front + text
	for i := 0; i < len(whole); {
		r, n := utf8.DecodeRuneInString(whole[i:])
		start, end := max(0, i-len(front)), max(0, i+n-len(front))
		i += n
		if r == utf8.RuneError && n == 1 {
			continue
		}
		to, changes := t.become(r)
		if !changes {
			to = string(r)
		}
		for _, c := range to {
			if c == ' ' && behind {
				continue // several are one
			}
			behind = c == ' '
			if c == ' ' {
				c = space
			}
			if (c == space || w.chars() == longestWord) && !w.flush() {
				return
			}
			w.add(c, start, end)
		}
	}
	w.flush()
}
