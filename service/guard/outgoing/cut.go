package outgoing

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of a segment.
const (
	// Window is how many characters of ordinary text a segment has at most. Only what a check still needs makes one longer.
	Window = 64
	// LongestSegment is where a segment ends, in bytes, although something might still go on.
	LongestSegment = 8 << 10
	// maxAsked bounds how often the checks are asked about places beyond the window.
	maxAsked = 32
)

// Pending says whether something that a check looks for has begun at the end of a text and is not complete.
type Pending func(text string) bool

// Next is the length of the first segment of a text, in bytes, or 0 when that depends on what follows; final says that nothing
// does. It is a function of the text alone: a text that is cut into pieces in any way has the same segments as the whole. What
// is judged segment by segment is therefore judged the same, whoever cuts the pieces.
//
// A segment ends before white space (or between signs of scripts that are written without), not inside of a number in groups,
// a key block, or what pending knows, and rather behind a sentence than between the words of a name or a date.
func Next(text string, final bool, pending Pending) int { //nolint:revive // a fact about the text
	view, complete := text, final
	if len(view) >= LongestSegment {
		view, complete = whole(view[:LongestSegment]), true
	} else if !final {
		view = whole(view)
	}
	if pending == nil {
		pending = func(string) bool { return false }
	}
	c := cutter{view: view, complete: complete, pending: pending}
	n := c.next()
	switch {
	case n > 0:
		return n
	case complete:
		return len(view)
	}
	return 0
}

// whole leaves out a last character that is not all there.
func whole(s string) string {
	for i := 1; i <= min(utf8.UTFMax-1, len(s)); i++ {
		if b := s[len(s)-i]; utf8.RuneStart(b) {
			if !utf8.FullRuneInString(s[len(s)-i:]) {
				return s[:len(s)-i]
			}
			break
		}
	}
	return s
}

type cutter struct {
	view     string
	complete bool // no more follows the view
	pending  Pending
	asked    int
	best     [tiers][]int // places within the window, by how good they are
	block    bool         // inside of a key block
}

// How good a place is.
const (
	possible = iota // nothing that must stay whole goes on over it
	good            // and neither word beside it looks like a part of a name, date or number
	phrase          // and it is behind a comma or the like
	tiers
)

// next goes over the places in order. It must not look at anything behind a place but its next word.
func (c *cutter) next() int {
	runes, wordStart := 0, 0
	var before rune
	for i, r := range c.view {
		if runes > Window {
			if n := c.choose(); n > 0 {
				return n
			}
		}
		place := i > 0 && (isSpace(r) && !isSpace(before) || unspaced(before) && !unicode.Is(unicode.M, r) && !isSpace(r))
		if place {
			word := c.view[wordStart:i]
			c.keyBlock(word, i)
			tier, known := c.tier(word, i, r)
			switch {
			case !known:
				if runes <= Window || c.choose() == 0 {
					return 0
				}
			case tier < 0:
			case tier >= good && (r == '\n' || endsSentence(word)) || runes > Window:
				if c.free(i) {
					return i
				}
			default:
				c.best[tier] = append(c.best[tier], i)
			}
		}
		if isSpace(r) {
			wordStart = i + utf8.RuneLen(r)
		} else if place {
			wordStart = i
		}
		before = r
		runes++
	}
	if runes > Window {
		return c.choose()
	}
	return 0
}

// choose takes the last of the best places within the window, once.
func (c *cutter) choose() int {
	for tier := tiers - 1; tier >= 0; tier-- {
		for _, i := range slices.Backward(c.best[tier]) {
			if c.free(i) {
				return i
			}
		}
		c.best[tier] = nil
	}
	return 0
}

// free asks the checks about a place.
func (c *cutter) free(i int) bool {
	if c.asked >= maxAsked {
		return true
	}
	c.asked++
	return !c.pending(c.view[:i])
}

// keyBlock follows key blocks (RFC 7468 §2): they stay whole.
func (c *cutter) keyBlock(word string, end int) {
	if !strings.Contains(word, "-----") {
		return
	}
	from := max(0, end-len(word)-40) // BEGIN and its label are words of their own
	s := c.view[from:end]
	begin, over := strings.LastIndex(s, "-----BEGIN"), strings.LastIndex(s, "-----END")
	switch {
	case over > begin:
		c.block = !strings.Contains(s[over+len("-----END"):], "-----")
	case begin >= 0:
		c.block = true
	}
}

// tier says how good a place before r at i is, behind a word; known is false when that depends on what is not there yet.
// A tier below 0 is no place at all.
func (c *cutter) tier(word string, i int, r rune) (tier int, known bool) {
	if c.block || strings.HasPrefix(word, "-----") || openTag(word) {
		return -1, true
	}
	rest := c.view[i:]
	after := strings.TrimLeftFunc(rest, isSpace)
	if after == "" && !c.complete {
		return 0, false
	}
	next, done := after, c.complete
	if n := strings.IndexFunc(after, isSpace); n >= 0 {
		next, done = after[:n], true
	}
	code := codeLike(word)
	if code && !done {
		return 0, false
	}
	first, _ := utf8.DecodeRuneInString(next)
	switch {
	case code && codeLike(next):
		return -1, true
	case code || unicode.IsDigit(first) || first == '+' || first == '(' || titled(word) && unicode.IsUpper(first):
		return possible, true
	case strings.ContainsRune(",;:", lastRune(word)) || r == '\n':
		return phrase, true
	}
	return good, true
}

// openTag keeps the two tags that are written with a space in them whole.
func openTag(word string) bool {
	w := strings.ToLower(word[max(0, len(word)-3):])
	return w == "<br" || w == "<hr"
}

// endsSentence reports whether a word ends one: long enough to be no title or initial.
func endsSentence(word string) bool {
	body := strings.TrimRight(word, ".!?。！？…\")'*”’")
	return body != word && strings.ContainsAny(word[len(body):], ".!?。！？…") && utf8.RuneCountInString(body) > 3
}

func lastRune(s string) rune {
	r, _ := utf8.DecodeLastRuneInString(s)
	return r
}

// titled reports whether a word begins like a name.
func titled(word string) bool {
	r, _ := utf8.DecodeRuneInString(strings.TrimLeft(word, "\"'(*[_“‘"))
	return unicode.IsUpper(r) && !strings.ContainsRune(",;:!?", lastRune(word))
}

func isSpace(r rune) bool {
	return r == ' ' || r == '\n' || r == '\t' || r == '\r' || r == '\u3000'
}

// unspaced reports whether a sign belongs to a script that is written without spaces.
func unspaced(r rune) bool {
	return r >= 0x0e00 && (unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar) ||
		r >= 0x3001 && r <= 0x3011 || r >= 0xff01 && r <= 0xff0f)
}

// codeLike reports whether a word could be a part of a number or code that is written in groups.
func codeLike(w string) bool {
	if strings.ContainsAny(w, "0123456789+") || strings.HasPrefix(w, "-----") {
		return true
	}
	w = strings.Trim(w, ".,;:!?()")
	if len(w) == 0 || len(w) > 4 {
		return false
	}
	return w == strings.ToUpper(w) && w != strings.ToLower(w)
}
