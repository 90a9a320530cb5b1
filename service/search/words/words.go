// Package words turns text into the terms of the words index, and scores by them (BM25).
//
// A term is a word in Unicode's sense, in compatibility form and lower case. Words of a language that has
// an analyzer are stemmed, and its stop words dropped; Tamil is told by its script, other languages are a
// property of the text. Scripts that write no spaces give overlapping pairs of characters. The same text
// gives the same terms on every platform and database.
package words

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

const longestTerm = 64 // bytes; what is longer is no word that anyone types, and is cut

// Each calls yield with every term of a text in a language, in order, repeated terms too.
func Each(language, text string, yield func(term string)) {
	a := analyzerOf(language)
	s := splitter{yield: func(word string, _, _ int) {
		if term := a.term(word); term != "" {
			yield(term)
		}
	}}
	s.text(text)
}

// List returns every term of the text, in order.
func List(language, text string) (out []string) {
	Each(language, text, func(term string) { out = append(out, term) })
	return out
}

// Query returns the terms that a query means in a collection of texts in some languages (none: English), each once, in
// order, and no more than limit. A word has a term in each language: which of them a text holds, its language says.
func Query(text string, limit int, languages ...string) (out []string) {
	if len(languages) == 0 {
		languages = []string{""}
	}
	for _, language := range languages {
		out = append(out, List(language, text)...)
	}
	slices.Sort(out)
	out = slices.Compact(out)
	return out[:min(len(out), limit)]
}

// Spans calls yield for every word of a text with the term that it gives in a language, and where it stands, in bytes.
func Spans(language, text string, yield func(term string, start, end int)) {
	a := analyzerOf(language)
	s := splitter{yield: func(word string, start, end int) {
		if term := a.term(word); term != "" {
			yield(term, start, end)
		}
	}}
	s.text(text)
}

type splitter struct {
	yield      func(word string, start, end int)
	word       strings.Builder
	start, end int  // of the word
	pair       rune // the character before, in a script without spaces
	lone       bool // pair stands in no pair yet
	pairAt     int
	pairEnd    int
}

// text splits a text. What normalization makes of a piece stands where the piece does.
func (s *splitter) text(text string) {
	if isASCII(text) {
		for i, r := range text {
			s.next(r, i, i+1)
		}
		s.finish()
		return
	}
	var it norm.Iter
	it.InitString(norm.NFKC, text)
	for !it.Done() {
		from := it.Pos()
		b := it.Next()
		to := it.Pos()
		for len(b) > 0 {
			r, n := utf8.DecodeRune(b)
			s.next(r, from, to)
			b = b[n:]
		}
	}
	s.finish()
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

func (s *splitter) next(r rune, from, to int) {
	switch {
	case unspaced(r):
		s.endWord()
		if s.pair != 0 {
			s.yield(string(s.pair)+string(r), s.pairAt, to)
		}
		s.lone = s.pair == 0
		s.pair, s.pairAt, s.pairEnd = r, from, to
	case unicode.IsLetter(r), unicode.IsDigit(r), unicode.IsMark(r), unicode.IsNumber(r):
		s.endPair()
		if s.word.Len() == 0 {
			s.start = from
		}
		s.end = to
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
		s.finish()
	}
}

func (s *splitter) finish() {
	s.endPair()
	s.endWord()
}

func (s *splitter) endPair() {
	if s.lone {
		s.yield(string(s.pair), s.pairAt, s.pairEnd)
	}
	s.pair, s.lone = 0, false
}

func (s *splitter) endWord() {
	if s.word.Len() == 0 {
		return
	}
	w := strings.Trim(s.word.String(), "'")
	s.word.Reset()
	if w != "" {
		s.yield(w, s.start, s.end)
	}
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
