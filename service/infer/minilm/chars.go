package minilm

import (
	"encoding/binary"
	"errors"
	"unicode/utf8"
)

// charKind says what becomes of a character.
type charKind byte

const (
	drop  charKind = iota // control characters, accents: gone, what stands around them joins
	space                 // ends a word
	alone                 // punctuation, ideographs: a word of its own
	part                  // of a word
)

// rule is what becomes of the characters lo to hi.
type rule struct {
	lo, hi rune
	kind   charKind
	to     string // empty: itself
}

// charTable knows every code point: cleaned, decomposed, without accents, in lower case, as the
// reference tokenizer does it. Its rules come with the model, so that a newer Unicode in Go
// changes no vector.
type charTable struct {
	ascii [utf8.RuneSelf]rule
	rules []rule // ascending
}

func parseChars(b string) (*charTable, error) {
	t := &charTable{}
	after := rune(0)
	for len(b) > 0 {
		if len(b) < 10 || len(b) < 10+int(b[9]) || b[8] > byte(part) {
			return nil, errors.New("a character rule is cut off")
		}
		n := 10 + int(b[9])
		r := rule{
			lo:   rune(binary.LittleEndian.Uint32([]byte(b[:4]))),  //nolint:gosec // is looked at below
			hi:   rune(binary.LittleEndian.Uint32([]byte(b[4:8]))), //nolint:gosec // is looked at below
			kind: charKind(b[8]), to: b[10:n],
		}
		if r.lo < after || r.hi < r.lo || r.hi > utf8.MaxRune || !utf8.ValidString(r.to) {
			return nil, errors.New("a character rule is out of order or no character's")
		}
		t.rules, after = append(t.rules, r), r.hi+1
		b = b[n:]
	}
	for r := range t.ascii {
		t.ascii[r] = t.find(rune(r))
	}
	return t, nil
}

// of returns the character's kind and what it becomes (empty: itself).
func (t *charTable) of(r rune) rule {
	switch {
	case r < utf8.RuneSelf:
		return t.ascii[r]
	case r >= hangulBase && r < hangulBase+hangulCount:
		return rule{kind: part, to: decompose(r)}
	}
	return t.find(r)
}

func (t *charTable) find(r rune) rule {
	lo, hi := 0, len(t.rules)
	for lo < hi {
		m := int(uint(lo+hi) >> 1)
		if t.rules[m].hi < r {
			lo = m + 1
		} else {
			hi = m
		}
	}
	if lo < len(t.rules) && t.rules[lo].lo <= r {
		return t.rules[lo]
	}
	return rule{kind: part}
}

// The Unicode Standard, section 3.12: a Hangul syllable is two or three letters.
const (
	hangulBase  = 0xac00
	hangulCount = 11172
	hangulV     = 21 // vowels
	hangulT     = 28 // closing consonants, with none
)

func decompose(r rune) string {
	i := r - hangulBase
	out := []rune{0x1100 + i/(hangulV*hangulT), 0x1161 + i/hangulT%hangulV, 0x11a7 + i%hangulT}
	if i%hangulT == 0 {
		out = out[:2]
	}
	return string(out)
}
