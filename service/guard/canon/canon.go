// Package canon brings text to one canonical form, whatever it was disguised as, and keeps the way back to the
// positions of the original.
//
// It is pure: no clock, no network, no state. Every function takes linear time, whatever the text.
package canon

import (
	"maps"
	"strings"
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
func (t Text) Span(start, end int) (int, int) { return int(t.At[start]), int(t.At[end]) }

// lookAlikes maps letters of other scripts to the Latin letter that they look like (Unicode TR 39, the common ones).
var lookAlikes = func() map[rune]rune { //nolint:gochecknoglobals // a constant table
	m := map[rune]rune{}
	latin := []rune("aabbceehhiijkkmmnooppccttyxxsdlavuwgfqrz")
	other := []rune("аɑЬвсеёһніїјкκмΜпоορрсϲтτуχхѕԁӏαѵυԝɡғԛгᴢ")
	for i := range min(len(latin), len(other)) {
		m[other[i]] = latin[i]
	}
	maps.Copy(m, map[rune]rune{'А': 'a', 'В': 'b', 'С': 'c', 'Е': 'e', 'Н': 'h', 'І': 'i', 'Ј': 'j', 'К': 'k', 'М': 'm', 'О': 'o', 'Р': 'p', 'Т': 't', 'У': 'y', 'Х': 'x', 'Ѕ': 's', 'Α': 'a', 'Β': 'b', 'Ε': 'e', 'Ζ': 'z', 'Η': 'h', 'Ι': 'i', 'Κ': 'k', 'Ν': 'n', 'Ο': 'o', 'Ρ': 'p', 'Τ': 't', 'Υ': 'y', 'Χ': 'x', '’': '\'', '‘': '\'', '“': '"', '”': '"', '–': '-', '—': '-', 'ı': 'i'})
	return m
}()

const (
	tagFirst, tagLast = 0xE0020, 0xE007E // invisible copies of ASCII
	fewestSpaced      = 5                // letters that stand alone, to count as one spaced-out word
)

// Plain brings a text to its plain form: compatibility forms resolved (NFKC), lower case, look-alikes folded, invisible
// characters and combining marks dropped, tag characters read as what they hide, white space single, spaced-out words joined.
// It takes linear time.
func Plain(s string) Text {
	b := &builder{at: make([]int32, 0, len(s)+1)}
	b.out.Grow(len(s))
	for i, r := range s {
		b.rune(r, i)
	}
	b.at = append(b.at, int32(len(s))) //nolint:gosec // texts are at most some megabytes
	return join(Text{b.out.String(), b.at})
}

type builder struct {
	out   strings.Builder
	at    []int32
	space bool // the last thing written is a space
}

func (b *builder) put(r rune, from int) {
	for range utf8.RuneLen(r) {
		b.at = append(b.at, int32(from)) //nolint:gosec // texts are at most some megabytes
	}
	b.out.WriteRune(r)
	b.space = r == ' '
}

func (b *builder) rune(r rune, from int) {
	switch {
	case r == utf8.RuneError:
		return
	case r >= tagFirst && r <= tagLast:
		b.rune(r-0xE0000, from)
		return
	case unicode.IsSpace(r):
		if !b.space {
			b.put(' ', from)
		}
		return
	case r < utf8.RuneSelf:
		if r >= ' ' {
			b.put(unicode.ToLower(r), from)
		}
		return
	case unicode.In(r, unicode.Cf, unicode.Cc, unicode.Co, unicode.Variation_Selector), r == '\u00ad', r == '\u034f', r == '\u115f', r == '\u3164':
		return
	}
	if l, ok := lookAlikes[r]; ok {
		b.put(l, from)
		return
	}
	for _, d := range norm.NFKD.String(string(r)) {
		switch {
		case unicode.Is(unicode.Mn, d) && d < 0x0900: // marks of scripts that do without them; Indic vowel signs carry meaning
		case unicode.IsSpace(d):
			if !b.space {
				b.put(' ', from)
			}
		default:
			if l, ok := lookAlikes[d]; ok {
				d = l
			}
			b.put(unicode.ToLower(d), from)
		}
	}
}

// join closes up words that were spaced out: "i g n o r e" and "i.g.n.o.r.e".
func join(t Text) Text {
	s := t.Plain
	var out strings.Builder
	at := make([]int32, 0, len(t.At))
	copied := 0
	for i := 0; i < len(s); {
		n, end := spaced(s, i)
		if n < fewestSpaced {
			i = next(s, i)
			continue
		}
		out.WriteString(s[copied:i])
		at = append(at, t.At[copied:i]...)
		for j := i; j < end; j += 2 {
			out.WriteByte(s[j])
			at = append(at, t.At[j])
		}
		copied, i = end, end
	}
	if copied == 0 {
		return t
	}
	out.WriteString(s[copied:])
	at = append(at, t.At[copied:]...)
	return Text{out.String(), at}
}

// spaced counts letters that stand alone from i on, with one same separator, and says where they end.
func spaced(s string, i int) (n, end int) {
	if i > 0 && isLetter(s[i-1]) {
		return 0, i
	}
	for j := i; j < len(s) && isLetter(s[j]); j += 2 {
		if j+1 < len(s) && isLetter(s[j+1]) {
			break // the start of a longer word
		}
		n, end = n+1, j+1
		if j+1 >= len(s) || !strings.ContainsRune(" .-_*", rune(s[j+1])) {
			break
		}
	}
	return n, end
}

// next is where the next word may begin.
func next(s string, i int) int {
	for i < len(s) && isLetter(s[i]) {
		i++
	}
	for i < len(s) && !isLetter(s[i]) {
		i++
	}
	return i
}

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }
