package classify

import (
	_ "embed"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// word is a word, a number, or a run of one punctuation mark, in a text of plain form.
type word struct {
	start, end int // bytes
	hash       uint64
	about      []uint8 // concepts
	first      bool    // it begins a sentence or a line
	mark       bool    // it is punctuation
	foreign    bool    // it is not ASCII
	question   bool    // it is a question mark
}

// Each number is the same word, and so is each link and each mail address: none is learnt.
var (
	number = hash("0")      //nolint:gochecknoglobals // a constant
	link   = hash("<link>") //nolint:gochecknoglobals // a constant
	mail   = hash("<mail>") //nolint:gochecknoglobals // a constant
)

// split cuts a text in plain form into words.
func split(s string, c *concepts) []word {
	out := make([]word, 0, len(s)/5+4)
	first := true
	run := 0 // where the run of characters without a space ends
	for i := 0; i < len(s); {
		start, b := i, s[i]
		if i >= run {
			var place uint64
			if run, place = runAt(s, i); place != 0 {
				out = append(out, word{start: i, end: run, hash: place, mark: true})
				i = run
				continue
			}
		}
		switch {
		case b == ' ' || b == '\n' || b == '\t' || b == '\r':
			i++
			continue
		case wordByte(b):
			h, digits, foreign := hashStart, true, false
			for i < len(s) && wordByte(s[i]) {
				digits = digits && s[i] >= '0' && s[i] <= '9'
				foreign = foreign || s[i] >= utf8.RuneSelf
				h = hashByte(h, s[i])
				i++
			}
			if digits {
				h = number
			}
			out = append(out, word{start: start, end: i, hash: h, about: c.of(h), first: first, foreign: foreign})
			first = false
		default:
			i++
			for i < len(s) && s[i] == b {
				i++
			}
			out = append(out, word{start: start, end: i, hash: hashByte(hashStart, b), mark: true, question: b == '?'})
			first = first || b == '.' || b == '!' || b == '?' || b == ':' || b == ';' || b == '"' || b == '>' || b == ']' || b == '}' || b == '-'
		}
	}
	return out
}

// runAt says where the run of characters without a space that begins at i ends, and whether it is an address: those all
// count as one word, so that none is learnt.
func runAt(s string, i int) (end int, place uint64) {
	end = i + 1
	at := 0
	for end < len(s) && s[end] != ' ' && s[end] != '\n' && s[end] != '\t' && s[end] != '\r' {
		if s[end] == '@' {
			at = end
		}
		end++
	}
	run := s[i:end]
	switch {
	case len(run) > longestAddress || len(run) < shortestAddress:
	case strings.Contains(run, "://") || strings.HasPrefix(run, "www."):
		return end, link
	case at > i && strings.Contains(s[at:end], "."):
		return end, mail
	}
	return end, 0
}

// Bounds of what is taken for an address; what is longer hides something.
const (
	shortestAddress = 6
	longestAddress  = 120
)

// wordByte tells what words are made of; all that is not ASCII counts, whatever it is.
func wordByte(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= '0' && b <= '9' || b == '_' || b == '\'' || b >= utf8.RuneSelf || b >= 'A' && b <= 'Z'
}

// FNV-1a, 64 bits. Pieces inside a word start from another value than words.
const (
	hashStart  uint64 = 14695981039346656037
	hashInside uint64 = 1099511628211 ^ hashStart
	hashPrime  uint64 = 1099511628211
)

func hashByte(h uint64, b byte) uint64 { return (h ^ uint64(b)) * hashPrime }

func hash(s string) uint64 {
	h := hashStart
	for i := range len(s) {
		h = hashByte(h, s[i])
	}
	return h
}

// pair is the hash of two words in a row.
func pair(a, b uint64) uint64 { return (a*0x9e3779b97f4a7c15 ^ b) * hashPrime }

// longestPiece is the longest of a piece that is looked for, in bytes.
const longestPiece = 18

// eachPiece yields the hashes of a word's pieces that the table knows, the longest first from its front; what is in no piece
// is passed over.
func eachPiece(s string, known *table, yield func(h uint64)) {
	for at, place := 0, hashStart; at < len(s); place = hashInside {
		var hashes [longestPiece + 1]uint64
		n := min(len(s)-at, longestPiece)
		hashes[0] = place
		for i := range n {
			hashes[i+1] = hashByte(hashes[i], s[at+i])
		}
		for n > 0 && !known.has(hashes[n]) {
			n--
		}
		if n == 0 {
			_, size := utf8.DecodeRuneInString(s[at:])
			at += size
			continue
		}
		yield(hashes[n])
		at += n
	}
}

// PieceHash is the hash of a word piece as BERT's vocabularies spell it, with ## in front of what stands inside a word;
// 0 for one that is never looked for.
func PieceHash(piece string) uint64 {
	h := hashStart
	if inside, ok := strings.CutPrefix(piece, "##"); ok && inside != "" {
		piece, h = inside, hashInside
	}
	if len(piece) > longestPiece || piece == "" || !wordByte(piece[0]) && len(piece) > 1 {
		return 0
	}
	for i := range len(piece) {
		h = hashByte(h, piece[i])
	}
	return h
}

//go:embed concepts.txt
var conceptsFile string

// concepts says what a word has to do with.
type concepts struct {
	names []string
	words map[uint64][]uint8
}

func (c *concepts) of(h uint64) []uint8 { return c.words[h] }

const maxConcepts = 64

func parseConcepts(file string) (*concepts, error) {
	c := &concepts{words: map[uint64][]uint8{}}
	for line := range strings.Lines(file) {
		if strings.HasPrefix(line, "#") || strings.TrimSpace(line) == "" {
			continue
		}
		name, words, ok := strings.Cut(line, ":")
		if !ok || len(c.names) == maxConcepts {
			return nil, fmt.Errorf("concepts: the line %.40q is no `name: words`, or there are more than %d", line, maxConcepts)
		}
		for w := range strings.FieldsSeq(words) {
			if strings.ContainsFunc(w, func(r rune) bool { return unicode.IsUpper(r) || r < utf8.RuneSelf && !wordByte(string(r)[0]) }) {
				return nil, fmt.Errorf("concepts: %s: %q is not one word in plain form", name, w)
			}
			h := hash(w)
			c.words[h] = append(c.words[h], uint8(len(c.names))) //nolint:gosec // maxConcepts
		}
		c.names = append(c.names, name)
	}
	if len(c.names) == 0 {
		return nil, errors.New("concepts: there are none")
	}
	return c, nil
}
