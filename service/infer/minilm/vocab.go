package minilm

import (
	"errors"
	"fmt"
	"math/bits"
	"strings"
	"unicode/utf8"
)

// The model's markers. Text that spells one is text: "[SEP]" is three word pieces.
const (
	unknown = 100 // [UNK]
	first   = 101 // [CLS]
	last    = 102 // [SEP]
)

const (
	vocabSize = 30522
	slotBits  = 16

	longestBytes = 18 // of a piece
)

// vocab finds the longest word piece at the front of a word. Open addressing over the packed
// words: a quarter of a megabyte instead of a map's two.
type vocab struct {
	words  string
	starts [vocabSize + 1]uint32 // id → where its line starts
	slots  [1 << slotBits]uint16 // hash → id + 1
}

func parseVocab(words string) (*vocab, error) {
	if !strings.HasSuffix(words, "\n") || len(words) > vocabSize*(longestBytes+3) {
		return nil, errors.New("want one word a line")
	}
	v := &vocab{words: words}
	id, at := 0, 0
	for line := range strings.Lines(words) {
		if id == vocabSize {
			return nil, fmt.Errorf("more than %d words", vocabSize)
		}
		at += len(line)
		v.starts[id+1] = uint32(at) //nolint:gosec // 226 KB
		id++
	}
	if id != vocabSize {
		return nil, fmt.Errorf("%d words, want %d", id, vocabSize)
	}
	for id := range vocabSize {
		piece, h := v.word(id), hashStart
		if strings.HasPrefix(piece, "##") && len(piece) > 2 {
			piece, h = piece[2:], hashInside
		}
		if len(piece) > longestBytes {
			return nil, fmt.Errorf("word %d has more than %d bytes", id, longestBytes)
		}
		if !utf8.ValidString(piece) { // each piece takes a character at least
			return nil, fmt.Errorf("word %d is not UTF-8", id)
		}
		for i := range len(piece) {
			h = hashByte(h, piece[i])
		}
		s := slot(h)
		for v.slots[s] != 0 {
			s = (s + 1) % len(v.slots)
		}
		v.slots[s] = uint16(id + 1)
	}
	return v, nil
}

// word is the piece with this id, as the vocabulary spells it.
func (v *vocab) word(id int) string { return v.words[v.starts[id] : v.starts[id+1]-1] }

// FNV-1a, 64 bits, from one start for pieces that begin a word and another for those inside one.
const (
	hashStart  uint64 = 14695981039346656037
	hashInside uint64 = 1099511628211 ^ hashStart
)

func hashByte(h uint64, b byte) uint64 { return (h ^ uint64(b)) * 1099511628211 }

func slot(h uint64) int {
	return int(bits.RotateLeft64(h*0x9e3779b97f4a7c15, slotBits) & (1<<slotBits - 1))
}

// longestPiece returns the id and length of the longest piece at the front of s; length 0 when
// none fits. place is hashStart at the front of a word, hashInside behind it.
func (v *vocab) longestPiece(s []byte, place uint64) (id, n int) {
	var hashes [longestBytes + 1]uint64 // of the first n bytes
	hashes[0] = place
	n = min(len(s), longestBytes)
	for i := range n {
		hashes[i+1] = hashByte(hashes[i], s[i])
	}
	for ; n > 0; n-- {
		for at := slot(hashes[n]); v.slots[at] != 0; at = (at + 1) % len(v.slots) {
			id := int(v.slots[at]) - 1
			piece := v.word(id)
			if place == hashInside {
				if len(piece) != n+2 || piece[:2] != "##" {
					continue
				}
				piece = piece[2:]
			}
			if piece == string(s[:n]) {
				return id, n
			}
		}
	}
	return 0, 0
}
