package canon

import (
	"strconv"
	"unicode/utf8"
)

const (
	clusterGap  = 8   // words between two that betray the same cipher
	clusterPad  = 160 // bytes around them that are read with them
	clusterMost = 16  // stretches of one text that are read as ciphers
	turns       = 26
	atbash      = turns     // after the shifts
	backwards   = turns + 1 // all letters in reverse
	kinds       = turns + 2
)

// ciphers finds stretches that become words which attacks are made of when the alphabet is shifted (Caesar, rot13), turned
// round (Atbash) or the text is read backwards. The differences between the letters of a word are the same for every shift, so
// one look at each word tells for all of them.
func ciphers(s string, budget int) (out []code) {
	l := lexicon()
	type cluster struct{ hits, word, start, end int }
	var open [kinds]cluster
	words := 0
	budget = min(budget, len(s)+decodeBytes)
	flush := func(k int) {
		c := open[k]
		open[k] = cluster{}
		if c.hits < 2 && (c.hits == 0 || c.end-c.start < shortestTypo || len(s) > 40) || len(out) >= clusterMost {
			return
		}
		from, to := max(0, c.start-clusterPad), min(len(s), c.end+clusterPad)
		for from > 0 && !utf8.RuneStart(s[from]) {
			from--
		}
		for to < len(s) && !utf8.RuneStart(s[to]) {
			to++
		}
		if budget -= to - from; budget < 0 {
			return
		}
		if k == backwards {
			out = append(out, mirrored(s, from, to))
			if wordsOnly := flipped(s, from, to); wordsOnly.text != out[len(out)-1].text {
				out = append(out, wordsOnly)
			}
			return
		}
		out = append(out, turned(s, from, to, k))
	}
	hit := func(k, start, end int) {
		c := &open[k]
		if c.hits > 0 && words-c.word > clusterGap {
			flush(k)
		}
		if c.hits == 0 {
			c.start = start
		}
		c.hits, c.word, c.end = c.hits+1, words, end
	}
	for i := 0; i < len(s); {
		if kind[s[i]]&isAlpha == 0 {
			i++
			continue
		}
		start := i
		first := lower[s[i]]
		last := first
		forward, backward, power := spell(0, first), spell(0, first), uint64(prime)
		var step, negated uint64
		for i++; i < len(s) && kind[s[i]]&isAlpha != 0; i++ {
			c := lower[s[i]]
			d := c - last + turns
			if d >= turns {
				d -= turns
			}
			last = c
			step = spell(step, d)
			if d > 0 {
				d = turns - d
			}
			negated = spell(negated, d)
			forward = spell(forward, c)
			backward += (uint64(c) + 1) * power
			power *= prime
		}
		words++
		if i-start < shortestCipher || i-start > longestWord {
			continue
		}
		if id, ok := l.steps.get(step); ok {
			if k := (turns + int(first) - int(l.list[id][0])) % turns; k > 0 && !l.words.has(forward) {
				hit(k, start, i)
			}
		}
		if id, ok := l.steps.get(negated); ok && int(first)+int(l.list[id][0]) == 'a'+'z' {
			hit(atbash, start, i)
		}
		if l.words.has(backward) && !l.words.has(forward) {
			hit(backwards, start, i)
		}
	}
	for k := range open {
		flush(k)
	}
	return out
}

// turned undoes a shift by k, or Atbash.
func turned(s string, from, to, k int) code {
	text := []byte(s[from:to])
	for i, c := range text {
		if kind[c]&isAlpha == 0 {
			continue
		}
		base := byte('A') + c&0x20
		if k == atbash {
			text[i] = base + 25 - (c - base)
		} else {
			text[i] = base + (c-base+byte(turns-k))%turns //nolint:gosec // below 26
		}
	}
	how := "caesar"
	switch k {
	case 13:
		how = "rot13"
	case atbash:
		how = "atbash"
	default:
		how += strconv.Itoa(k)
	}
	return code{string(text), how, straight(from, to)}
}

// straight are the positions of a stretch that keeps its bytes in place.
func straight(from, to int) []int32 {
	at := make([]int32, to-from+1)
	for i := range at {
		at[i] = int32(from + i) //nolint:gosec // texts are at most some megabytes
	}
	return at
}

// mirrored reads a stretch backwards, character by character. Its positions fall; Layers makes a stretch of them.
func mirrored(s string, from, to int) code {
	text := make([]byte, 0, to-from)
	at := make([]int32, 0, to-from+1)
	for i := to; i > from; {
		_, n := utf8.DecodeLastRuneInString(s[from:i])
		i -= n
		text = append(text, s[i:i+n]...)
		for range n {
			at = append(at, int32(i)) //nolint:gosec // texts are at most some megabytes
		}
	}
	at = append(at, int32(from)) //nolint:gosec // texts are at most some megabytes
	return code{string(text), "reversed", at}
}

// flipped reads each word of a stretch backwards and leaves the words in their order.
func flipped(s string, from, to int) code {
	text := []byte(s[from:to])
	for i := 0; i < len(text); {
		start := i
		for i < len(text) && kind[text[i]]&isAlpha != 0 {
			i++
		}
		for a, b := start, i-1; a < b; a, b = a+1, b-1 {
			text[a], text[b] = text[b], text[a]
		}
		if i == start {
			i++
		}
	}
	return code{string(text), "words reversed", straight(from, to)}
}

// rot47 turns all ASCII signs by 47, if words come out that were not there.
func rot47(s string) []code {
	text := []byte(s)
	for i, c := range text {
		if c > ' ' && c < 0x7F {
			text[i] = '!' + (c-'!'+47)%94
		}
	}
	if !english(string(text)) || english(s) {
		return nil
	}
	return []code{{string(text), "rot47", straight(0, len(s))}}
}

// unseen reads what is hidden in characters that are not seen: bytes in variation selectors, bits in zero-width characters,
// text behind a right-to-left override, and Braille, which is seen, but not read by rules.
func unseen(s string) (out []code) {
	var bytesIn, bits, braille hiding
	var zero rune
	over := -1
	for i, r := range s {
		switch {
		case 0xFE00 <= r && r <= 0xFE0F:
			bytesIn.put(byte(r-0xFE00), i)
		case 0xE0100 <= r && r <= 0xE01EF:
			bytesIn.put(byte(r-0xE0100+16), i)
		case r == 0x200B || r == 0x200C || r == 0x200D || r == 0x2060 || r == 0x2062 || r == 0x2063 || r == 0x2064 || r == 0xFEFF:
			if len(bits.text) == 0 {
				zero = r
			}
			b := byte(0)
			if r != zero {
				b = 1
			}
			bits.put(b, i)
		case 0x2800 <= r && r <= 0x28FF:
			if c, ok := brailleLetters[r-0x2800]; ok {
				braille.put(c, i)
			}
		case r == ' ' && len(braille.text) > 0:
			braille.put(' ', i)
		case r == 0x202E || r == 0x2067:
			over = i + utf8.RuneLen(r)
		case over >= 0 && (r == 0x202C || r == 0x2069 || r == '\n'):
			out = append(out, backward(s, over, i)...)
			over = -1
		}
	}
	if over >= 0 {
		out = append(out, backward(s, over, len(s))...)
	}
	if readable(bytesIn.text) {
		out = append(out, bytesIn.code("variation selectors", len(s)))
	}
	if len(braille.text) >= 4 && english(string(braille.text)) {
		out = append(out, braille.code("braille", len(s)))
	}
	for flip := byte(0); flip < 2 && len(bits.text) >= 32; flip++ {
		var text hiding
		for i := 0; i+8 <= len(bits.text); i += 8 {
			b := byte(0)
			for _, bit := range bits.text[i : i+8] {
				b = b<<1 | bit ^ flip
			}
			text.put(b, int(bits.at[i]))
		}
		if readable(text.text) {
			out = append(out, text.code("zero width", len(s)))
		}
	}
	return out
}

func backward(s string, from, to int) []code {
	c := mirrored(s, from, to)
	if !english(c.text) {
		return nil
	}
	c.how = "bidi"
	return []code{c}
}

// hiding collects bytes with their places.
type hiding struct {
	text []byte
	at   []int32
}

func (h *hiding) put(b byte, at int) {
	h.text = append(h.text, b)
	h.at = append(h.at, int32(at)) //nolint:gosec // texts are at most some megabytes
}

func (h *hiding) code(how string, end int) code {
	return code{string(h.text), how, append(h.at, int32(end))} //nolint:gosec // texts are at most some megabytes
}

// brailleLetters are the letters of Braille by their dots.
//
//nolint:gochecknoglobals // a constant table
var brailleLetters = func() map[rune]byte {
	m := map[rune]byte{0: ' '}
	for i, r := range []rune("⠁⠃⠉⠙⠑⠋⠛⠓⠊⠚⠅⠇⠍⠝⠕⠏⠟⠗⠎⠞⠥⠧⠺⠭⠽⠵") {
		m[r-0x2800] = byte('a' + i)
	}
	return m
}()
