package canon

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of what is decoded.
const (
	deepest     = 4       // codes within codes
	mostHidden  = 48      // texts that are looked for codes, all together
	mostDecoded = 4       // bytes that come out, for each byte of the text
	decodeBytes = 4 << 10 // bytes that may come out of any text
)

// Hidden is a text that was found inside another one, in a code. Start and End are where it stood in the text that was given.
type Hidden struct {
	Text       string
	How        string // outermost code first: "base64+rot13"
	Start, End int

	at []int32 // where each byte of Text comes from; one more than those for the end
}

// Decode finds what a text hides in codes, and what that hides in turn, within a budget that grows with the text. Ciphers of the
// alphabet (rot13 and other shifts, Atbash, text backwards) are undone only where words come out that attacks are made of.
// It takes linear time.
func Decode(s string) []Hidden {
	d := decoder{budget: mostDecoded*len(s) + decodeBytes}
	d.find(s, nil, "", 0)
	slices.SortStableFunc(d.out, func(a, b Hidden) int { return a.Start - b.Start })
	return d.out
}

type decoder struct {
	out    []Hidden
	tried  int
	budget int
}

// code is what one decoder found: the text, and where each byte of it stood in what was decoded.
type code struct {
	text string
	how  string
	at   []int32 // len(text)+1
}

// find decodes a text that was hidden itself if at is set: at leads to the text that was given.
func (d *decoder) find(s string, at []int32, how string, depth int) {
	if depth >= deepest || d.tried >= mostHidden || len(s) < 4 {
		return
	}
	d.tried++
	for _, c := range codes(s, d.budget) {
		if len(c.text) > d.budget || len(d.out) >= mostHidden {
			return
		}
		if c.text == "" || c.text == s || depth > 0 && undoes(how, c.how) {
			continue
		}
		d.budget -= len(c.text)
		if at != nil {
			for i, p := range c.at {
				c.at[i] = at[p]
			}
		}
		name := c.how
		if how != "" {
			name = how + "+" + c.how
		}
		h := Hidden{Text: c.text, How: name, at: c.at}
		low, high := c.at[0], c.at[0]
		for _, p := range c.at {
			low, high = min(low, p), max(high, p)
		}
		h.Start, h.End = int(low), int(high)
		d.out = append(d.out, h)
		d.find(c.text, c.at, name, depth+1)
	}
}

// undoes says whether a cipher would only be turned back.
func undoes(how, next string) bool {
	last := how[strings.LastIndexByte(how, '+')+1:]
	if last == next && (next == "rot13" || next == "rot47" || next == "atbash" || next == "reversed" || next == "words reversed") {
		return true
	}
	return strings.HasPrefix(last, "caesar") && strings.HasPrefix(next, "caesar") || last == "caesar" && next == "rot13"
}

// census counts what a text has, so that only those decoders run that could find something.
type census struct {
	longest                               int // bytes without a space
	percent, amp, slash, equals, plus, u  int
	digits, morse, letters, signs, beyond int
}

func take(s string) (c census) {
	run := 0
	for i := range len(s) {
		b := s[i]
		if b <= ' ' {
			run = 0
			continue
		}
		if run++; run > c.longest {
			c.longest = run
		}
		switch {
		case kind[b]&isAlpha != 0:
			c.letters++
			if b == 'U' {
				c.u++
			}
		case kind[b]&isDigit != 0:
			c.digits++
		case b >= utf8.RuneSelf:
			c.beyond++
		default:
			c.signs++
			switch b {
			case '%':
				c.percent++
			case '&':
				c.amp++
			case '\\':
				c.slash++
			case '=':
				c.equals++
			case '+':
				c.plus++
			case '.', '-', '_':
				if i > 0 && (s[i-1] == ' ' || s[i-1] == '.' || s[i-1] == '-' || s[i-1] == '_' || s[i-1] == '/') {
					c.morse++
				}
			}
		}
	}
	return c
}

// codes is every reading of a text by one decoder.
func codes(s string, budget int) (out []code) {
	c := take(s)
	if c.percent+c.amp+c.slash+c.u > 0 || c.equals > 2 || c.plus > 0 {
		out = append(out, escapes(s)...)
	}
	if c.longest >= shortestCode || c.digits > 0 && c.letters >= shortestCode {
		out = append(out, packed(s, c.longest)...)
	}
	if c.digits >= fewestCodes {
		out = append(out, numbers(s)...)
	}
	if c.morse >= fewestCodes-2 || c.beyond >= fewestCodes {
		out = append(out, morse(s)...)
	}
	if c.beyond > 0 {
		out = append(out, unseen(s)...)
	}
	if c.letters >= shortestTypo {
		out = append(out, ciphers(s, budget)...)
	}
	if c.signs+c.digits > c.letters/2 && c.signs+c.digits+c.letters >= 16 {
		out = append(out, rot47(s)...)
	}
	return out
}

// readable says whether bytes are a text: UTF-8, hardly a sign that texts do not have, mostly letters and spaces.
func readable(b []byte) bool {
	if len(b) < 4 || !utf8.Valid(b) {
		return false
	}
	good, all := 0, 0
	for _, r := range string(b) {
		all++
		switch {
		case unicode.IsLetter(r), r == ' ', unicode.IsDigit(r), unicode.Is(unicode.M, r):
			good++
		case unicode.IsSpace(r), unicode.IsPunct(r), unicode.IsSymbol(r):
		default:
			return false
		}
	}
	return good*10 >= all*7
}

// meaning counts the known words of a text, and how many words it has.
func meaning(s string) (known, all int) {
	l := lexicon()
	h, n := uint64(0), 0
	for i := 0; i <= len(s); i++ {
		if i < len(s) && kind[s[i]]&isAlpha != 0 {
			h, n = spell(h, lower[s[i]]), n+1
			continue
		}
		if n > 0 {
			all++
			if n > 1 && l.words.has(h) {
				known++
			}
			h, n = 0, 0
		}
	}
	return known, all
}

// english says whether a good part of a text's words is known, or it is one known word.
func english(s string) bool {
	known, all := meaning(s)
	return known >= 2 && known*4 >= all || known == 1 && all == 1 && len(s) >= shortestCipher
}
