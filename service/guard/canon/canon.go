// Package canon brings text to one canonical form, whatever it was disguised as, finds what it hides in codes, and keeps the
// way back to the positions of the original.
//
// It is pure: no clock, no network, no state. Every function takes linear time, and what it returns is no longer than a
// constant times the text. Text written honestly in its own script stays as it is; only letters that stand in for Latin ones
// are folded, word by word.
package canon

import (
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Text is a text in its plain form, with the way back: Plain[i] came from the original's byte At[i].
type Text struct {
	Plain string
	At    []int32 // len(Plain)+1 entries, never falling
}

// Span maps a stretch of the plain form back to the original: [start, end) in bytes.
func (t Text) Span(start, end int) (int, int) {
	from, to := int(t.At[start]), int(t.At[end])
	if end > start && to == from { // several letters of one (ligatures)
		for to == from && end < len(t.At)-1 {
			end++
			to = int(t.At[end])
		}
	}
	return from, to
}

const (
	tagFirst, tagLast = 0xE0020, 0xE007E // invisible copies of ASCII
	mostMarks         = 4                // combining marks that one letter may carry in scripts that need them
	fewestHumps       = 4                // words that stand together with a capital each
	meanHump          = 4                // letters of each of them, on average
)

// Plain brings a text to its plain form: compatibility forms resolved (NFKC), lower case, letters of other scripts that stand
// in for Latin ones folded (Unicode TR 39, only in words that mix scripts or spell a Latin word), accents, invisible characters
// and floods of combining marks dropped, tag characters read as what they hide, white space single, and words put together
// again that were spaced out, written in digits, stretched or misspelt, if they are words that attacks are made of.
// It takes linear time.
func Plain(s string) Text { return repair(whole(characters(s))) }

// Fold does to single characters what Plain does, and leaves words as they are spelt: for words that are held against a plain
// form.
func Fold(s string) string { return characters(s).Plain }

// characters does what can be done to one character, and one word, at a time.
func characters(s string) Text {
	if t, ok := ascii(s); ok {
		return t
	}
	b := &builder{at: make([]int32, 0, len(s)+1), out: make([]byte, 0, len(s))}
	b.latin = mostlyLatin(s)
	for i := 0; i < len(s); {
		if c := s[i]; c < utf8.RuneSelf {
			b.ascii(c, i)
			i++
			continue
		}
		end := i
		for end < len(s) && s[end] >= utf8.RuneSelf {
			end++
		}
		b.wide(s[i:end], i)
		i = end
	}
	b.flush()
	b.at = append(b.at, int32(len(s))) //nolint:gosec // texts are at most some megabytes
	return Text{string(b.out), b.at}
}

// ascii is characters for a text that is nothing but ASCII, without words that stand together with a capital each.
func ascii(s string) (Text, bool) {
	out := make([]byte, len(s))
	at := make([]int32, len(s)+1)
	n, humps := 0, 0
	space, small := false, false
	for i := range len(s) {
		c := s[i]
		switch {
		case c > ' ' && c < 0x7F:
			space = false
			if small && 'A' <= c && c <= 'Z' {
				if humps++; humps >= fewestHumps-1 {
					return Text{}, false
				}
			}
			small = 'a' <= c && c <= 'z'
			out[n] = lower[c]
		case c == ' ' || '\t' <= c && c <= '\r':
			if space {
				continue
			}
			space, small, humps = true, false, 0
			out[n] = ' '
		case c >= utf8.RuneSelf:
			return Text{}, false
		default:
			continue
		}
		at[n] = int32(i)
		n++
	}
	at[n] = int32(len(s)) //nolint:gosec // texts are at most some megabytes
	return Text{string(out[:n]), at[:n+1]}, true
}

// mostlyLatin says whether the text has two ASCII letters for each character beyond ASCII.
func mostlyLatin(s string) bool {
	letters, others := 0, 0
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 0xC0:
			others++
		case 'a' <= c|0x20 && c|0x20 <= 'z':
			letters++
		}
	}
	return letters >= 2*others
}

// builder writes the plain form. What it has written of the last word may be folded when the word ends.
type builder struct {
	out   []byte
	at    []int32
	latin bool // the text is mostly Latin

	word     int    // where the last word begins in out
	folds    []byte // for each rune of the last word beyond ASCII: the Latin letter that it looks like, or 0
	letters  int    // ASCII letters in the last word
	foldable int    // characters of the last word that look like a Latin one
	far      int    // those of them that do so only from afar
	others   int    // letters that look like none
	honest   bool   // the word before is honestly of another script
	humps    []int  // where in out a capital follows a small letter, in the last word
	small    bool   // the last letter is a small one
	marks    int    // combining marks in a row
}

func (b *builder) ascii(c byte, from int) {
	switch k := kind[c]; {
	case k&isAlpha != 0:
		b.letters++
		if small := c >= 'a'; small || !b.small {
			b.small = small
		} else {
			b.humps, b.small = append(b.humps, len(b.out)), false
		}
		b.out = append(b.out, lower[c])
	case k&isDigit != 0:
		b.out = append(b.out, c)
	case c == ' ' || '\t' <= c && c <= '\r':
		b.flush()
		if n := len(b.out); n > 0 && b.out[n-1] == ' ' {
			return
		}
		b.out = append(b.out, ' ')
		b.at = append(b.at, int32(from)) //nolint:gosec // texts are at most some megabytes
		b.word = len(b.out)
		return
	case c < ' ' || c == 0x7F:
		return
	default:
		b.flush()
		b.out = append(b.out, c)
		b.at = append(b.at, int32(from)) //nolint:gosec // texts are at most some megabytes
		b.word = len(b.out)
		return
	}
	b.at = append(b.at, int32(from)) //nolint:gosec // texts are at most some megabytes
	b.marks = 0
}

// wide takes a stretch without ASCII.
func (b *builder) wide(s string, from int) {
	var it norm.Iter
	it.InitString(norm.NFKC, s)
	for !it.Done() {
		pos := from + it.Pos()
		seg := it.Next()
		for len(seg) > 0 {
			r, n := utf8.DecodeRune(seg)
			seg = seg[n:]
			if r == utf8.RuneError && n <= 1 {
				continue
			}
			b.rune(r, pos)
		}
	}
}

func (b *builder) rune(r rune, from int) {
	switch {
	case r >= tagFirst && r <= tagLast:
		r -= 0xE0000
	case invisible(r):
		return
	case unicode.IsSpace(r):
		r = ' '
	}
	if r < utf8.RuneSelf {
		b.ascii(byte(r), from)
		return
	}
	if c, ok := signs[r]; ok {
		b.ascii(c, from)
		return
	}
	if r < 0x0900 || 0x1E00 <= r && r < 0x2000 {
		if d := norm.NFD.PropertiesString(string(r)).Decomposition(); len(d) > 0 {
			for _, part := range string(d) {
				if !unicode.Is(unicode.Mn, part) {
					b.letter(part, from)
				}
			}
			return
		}
		if unicode.Is(unicode.Mn, r) {
			return
		}
	}
	b.letter(r, from)
}

// letter writes one character beyond ASCII, or what is left of it without accents.
func (b *builder) letter(r rune, from int) {
	if r < utf8.RuneSelf {
		b.ascii(byte(r), from) //nolint:gosec // below 128
		return
	}
	like := lookAlikes[r]
	mark := unicode.Is(unicode.M, r)
	if mark {
		if b.marks++; b.marks > mostMarks {
			return
		}
	} else {
		b.marks = 0
	}
	inWord := like != 0 || mark || unicode.IsLetter(r) || unicode.IsDigit(r)
	if !inWord {
		b.flush()
	}
	r = unicode.ToLower(r)
	n := len(b.out)
	b.out = utf8.AppendRune(b.out, r)
	for range len(b.out) - n {
		b.at = append(b.at, int32(from)) //nolint:gosec // texts are at most some megabytes
	}
	switch {
	case !inWord:
		b.word = len(b.out)
		return
	case like != 0:
		b.foldable++
		if like&loose != 0 {
			b.far++
		}
	case !mark:
		b.others++
	}
	b.folds = append(b.folds, like)
}

// flush ends a word: letters that stand in for Latin ones become those.
func (b *builder) flush() {
	if b.foldable > 0 && b.disguised() {
		out, at := b.out[:b.word], b.at[:b.word]
		k := 0
		for i := b.word; i < len(b.out); {
			if b.out[i] < utf8.RuneSelf {
				out, at = append(out, b.out[i]), append(at, b.at[i])
				i++
				continue
			}
			_, n := utf8.DecodeRune(b.out[i:])
			if like := b.folds[k]; like != 0 {
				out, at = append(out, like&^loose), append(at, b.at[i])
			} else {
				out, at = append(out, b.out[i:i+n]...), append(at, b.at[i:i+n]...)
			}
			k++
			i += n
		}
		b.out, b.at = out, at
	}
	if len(b.humps) >= fewestHumps-1 && b.foldable+b.others == 0 {
		b.cut()
	}
	b.humps, b.small = b.humps[:0], false
	if b.word < len(b.out) && b.letters+b.foldable+b.others > 0 {
		b.honest = b.letters == 0 && b.others+b.far > 0
	}
	b.folds = b.folds[:0]
	b.letters, b.foldable, b.far, b.others, b.marks = 0, 0, 0, 0, 0
	b.word = len(b.out)
}

// cut puts spaces between words that stand together with a capital each: "IgnoreAllPreviousInstructions". Words of which every
// other letter is a capital stay.
func (b *builder) cut() {
	if (len(b.out) - b.word) < meanHump*(len(b.humps)+1) {
		return
	}
	n := len(b.humps)
	b.out, b.at = append(b.out, make([]byte, n)...), append(b.at, make([]int32, n)...)
	to, from := len(b.out), len(b.out)-n
	for i := n - 1; i >= 0; i-- {
		size := from - b.humps[i]
		copy(b.out[to-size:to], b.out[from-size:from])
		copy(b.at[to-size:to], b.at[from-size:from])
		to, from = to-size-1, from-size
		b.out[to], b.at[to] = ' ', b.at[to+1]
	}
}

// disguised says whether the last word is a Latin one in other letters: it mixes scripts and nearly all of it can be read as
// Latin, or it can be read as a Latin word throughout and the text is Latin or the word is one that attacks are made of.
func (b *builder) disguised() bool {
	if b.letters > 0 {
		return b.others*4 <= b.letters+b.foldable
	}
	if b.others > 0 {
		return false
	}
	if b.latin && b.far == 0 && !b.honest {
		return true
	}
	if len(b.folds) < 5 {
		return false
	}
	h, k := uint64(0), 0
	for _, r := range string(b.out[b.word:]) {
		c := byte(r) //nolint:gosec // replaced below if it is no ASCII
		if r >= utf8.RuneSelf {
			c, k = b.folds[k]&^loose, k+1
		}
		h = spell(h, c)
	}
	return lexicon().words.has(h)
}

// Kinds of ASCII characters.
const (
	isAlpha uint8 = 1 << iota
	isDigit
	isLeet  // stands in for a letter
	isJoint // may stand between the letters of a word that was pulled apart
	isOther
)

//nolint:gochecknoglobals // constant tables
var (
	lower = func() (t [128]byte) {
		for i := range t {
			t[i] = byte(unicode.ToLower(rune(i)))
		}
		return t
	}()
	kind = func() (t [256]uint8) {
		for c := range t {
			switch {
			case c < 128 && unicode.IsLetter(rune(c)):
				t[c] = isAlpha
			case '0' <= c && c <= '9':
				t[c] = isDigit
			default:
				t[c] = isOther
			}
		}
		for _, c := range "@$!|+(" {
			t[c] = isLeet
		}
		for _, c := range "-._/*~`\\^=:,'\"#" {
			t[c] = isJoint
		}
		return t
	}()
)

func invisible(r rune) bool {
	switch {
	case r < 0xA0:
		return r < ' ' && !unicode.IsSpace(r) || r >= 0x7F && r != 0x85
	case r < 0x0300:
		return r == 0xAD
	case r <= 0x036F, 0x0483 <= r && r <= 0x0489, 0x1AB0 <= r && r <= 0x1AFF, 0x1DC0 <= r && r <= 0x1DFF, 0x20D0 <= r && r <= 0x20FF, 0xFE20 <= r && r <= 0xFE2F:
		return true // combining marks for any letter
	case r == 0x115F, r == 0x1160, r == 0x3164, r == 0xFFA0, r == 0x2800, r == 0x17B4, r == 0x17B5:
		return true // fillers
	case r < 0x0600:
		return false
	}
	return unicode.In(r, unicode.Cf, unicode.Co, unicode.Variation_Selector) || r == utf8.RuneError
}
