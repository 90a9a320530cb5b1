// Package words turns text into the terms of the words index, and scores by them (BM25).
//
// A term is a word in Unicode's sense, in compatibility form and lower case; English words are
// stemmed, and English stop words dropped. Scripts that write no spaces give overlapping pairs of
// characters. The same text gives the same terms on every platform and database.
package words

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/kljensen/snowball/english"
	"golang.org/x/text/unicode/norm"
)

const longestTerm = 64 // bytes; what is longer is no word that anyone types, and is cut

// Each calls yield with every term of the text, in order, repeated terms too.
func Each(text string, yield func(term string)) {
	s := splitter{yield: yield}
	for _, r := range norm.NFKC.String(text) {
		s.next(r)
	}
	s.end()
}

// List returns every term of the text, in order.
func List(text string) (out []string) {
	Each(text, func(term string) { out = append(out, term) })
	return out
}

type splitter struct {
	yield func(string)
	word  strings.Builder
	pair  rune // the character before, in a script without spaces
	lone  bool // pair stands in no pair yet
}

func (s *splitter) next(r rune) {
	switch {
	case unspaced(r):
		s.endWord()
		if s.pair != 0 {
			s.yield(string(s.pair) + string(r))
		}
		s.lone = s.pair == 0
		s.pair = r
	case unicode.IsLetter(r), unicode.IsDigit(r), unicode.IsMark(r), unicode.IsNumber(r):
		s.endPair()
		if s.word.Len() < longestTerm {
			s.word.WriteRune(unicode.ToLower(r))
		}
	case r == '\'' || r == '’' || r == '\u200C' || r == '\u200D':
		// inside a word: don't, and the joiners of Indic and Persian writing
		s.endPair()
		if s.word.Len() > 0 && r != '\u200C' && r != '\u200D' {
			s.word.WriteByte('\'')
		}
	default:
		s.end()
	}
}

func (s *splitter) end() {
	s.endPair()
	s.endWord()
}

func (s *splitter) endPair() {
	if s.lone {
		s.yield(string(s.pair))
	}
	s.pair, s.lone = 0, false
}

func (s *splitter) endWord() {
	if s.word.Len() == 0 {
		return
	}
	w := strings.Trim(s.word.String(), "'")
	s.word.Reset()
	if w == "" {
		return
	}
	if term := normal(w); term != "" {
		s.yield(term)
	}
}

// normal stems an English word; a stop word gives nothing. Words with other letters stay as they are.
func normal(w string) string {
	for i := range len(w) {
		if c := w[i]; c >= utf8.RuneSelf || c >= '0' && c <= '9' {
			return strings.ReplaceAll(w, "'", "")
		}
	}
	if english.IsStopWord(w) {
		return ""
	}
	if len(w) < 3 {
		return w
	}
	return strings.ReplaceAll(english.Stem(w, true), "'", "")
}

// unspaced reports whether a character belongs to a script that puts no spaces between words.
func unspaced(r rune) bool {
	return r > 0x0E00 && unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar) && !unicode.IsDigit(r)
}

// Latin reports whether most letters of a text are Latin ones; text without letters is.
func Latin(text string) bool {
	letters, latin := 0, 0
	for _, r := range text {
		if unicode.IsLetter(r) {
			letters++
			if unicode.Is(unicode.Latin, r) {
				latin++
			}
		}
	}
	return latin*2 >= letters
}

// ID names a term within a collection: 63 bits of SHA-256, so that the index holds no text. Two
// terms of a collection of a million share one with a chance of 1 in 18 million.
func ID(collection, term string) int64 {
	h := sha256.New()
	h.Write([]byte(collection))
	h.Write([]byte{0})
	h.Write([]byte(term))
	var sum [sha256.Size]byte
	return int64(binary.BigEndian.Uint64(h.Sum(sum[:0])[:8]) >> 1) // 63 bits
}

// Parameters of BM25 as most search engines set them.
const (
	K1 = 1.2
	B  = 0.75
)

// Weight is a term's inverse document frequency (Robertson & Zaragoza 2009, §3.3, kept above zero as in Lucene),
// for a term that is in `in` of `of` passages.
func Weight(in, of int64) float64 {
	in = min(in, of)
	return math.Log(1 + (float64(of-in)+0.5)/(float64(in)+0.5))
}

// Score is what a term that occurs n times in a passage of `length` terms adds, before its weight.
func Score(n, length int, average float64) float64 {
	if average <= 0 {
		average = 1
	}
	f := float64(n)
	return f * (K1 + 1) / (f + K1*(1-B+B*float64(length)/average))
}
