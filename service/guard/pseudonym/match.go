package pseudonym

import (
	"strings"
	"unicode/utf8"
)

// automaton finds any of many strings in one pass (Aho & Corasick 1975).
type automaton struct {
	nodes []node
	root  [256]int32
}

type node struct {
	edges   []edge
	fail    int32
	pattern int32 // that ends here, or -1
	more    int32 // nearest node on the way of failures where another pattern ends, or 0
	depth   int32
}

type edge struct {
	b  byte
	to int32
}

func build(patterns []string) *automaton {
	a := &automaton{nodes: []node{{pattern: -1}}}
	for i, p := range patterns {
		at := int32(0)
		for j := range len(p) {
			next := a.child(at, p[j])
			if next == 0 {
				next = int32(len(a.nodes)) //nolint:gosec // bounded by the pairs of a conversation
				a.nodes = append(a.nodes, node{pattern: -1, depth: a.nodes[at].depth + 1})
				a.nodes[at].edges = append(a.nodes[at].edges, edge{p[j], next})
				if at == 0 {
					a.root[p[j]] = next
				}
			}
			at = next
		}
		if a.nodes[at].pattern < 0 {
			a.nodes[at].pattern = int32(i)
		}
	}
	queue := []int32{0}
	for len(queue) > 0 {
		at := queue[0]
		queue = queue[1:]
		for _, e := range a.nodes[at].edges {
			if at != 0 {
				a.nodes[e.to].fail = a.step(a.nodes[at].fail, e.b)
			}
			f := a.nodes[e.to].fail
			if a.nodes[f].pattern >= 0 {
				a.nodes[e.to].more = f
			} else {
				a.nodes[e.to].more = a.nodes[f].more
			}
			queue = append(queue, e.to)
		}
	}
	return a
}

func (a *automaton) empty() bool { return len(a.nodes) == 1 }

func (a *automaton) child(at int32, b byte) int32 {
	if at == 0 {
		return a.root[b]
	}
	for _, e := range a.nodes[at].edges {
		if e.b == b {
			return e.to
		}
	}
	return 0
}

func (a *automaton) step(at int32, b byte) int32 {
	for {
		if next := a.child(at, b); next != 0 {
			return next
		}
		if at == 0 {
			return 0
		}
		at = a.nodes[at].fail
	}
}

// ends returns the pattern that ends in a state, or -1.
func (a *automaton) ends(at int32) int32 {
	if p := a.nodes[at].pattern; p >= 0 {
		return p
	}
	if m := a.nodes[at].more; m != 0 {
		return a.nodes[m].pattern
	}
	return -1
}

// hit is a pseudonym in a text, and the value that it stands for as it is spelled there.
type hit struct {
	start, end int
	value      string
}

const (
	ring        = 64 // more than a stem has bytes
	betweenMost = 2  // marks between two digits of a number
	leadMost    = 2  // marks before a number's first digit: "(+"
)

// track is where an automaton stands, and where in the text the last bytes that it took were.
type track struct {
	a    *automaton
	at   int32
	n    int
	from [ring]int
}

func (t *track) take(b byte, pos int) {
	t.at = t.a.step(t.at, b)
	t.from[t.n%ring] = pos
	t.n++
}

// begun is where the match that may be going on began; it must not be in the root.
func (t *track) begun(depth int) int { return t.from[(t.n-depth)%ring] }

// find returns the pseudonyms in a text from the left, and up to where it is settled: all of it when final. The first one to
// end wins, which depends on nothing that comes later.
func (m *Map) find(text string, final bool) (found []hit, cut int) { //nolint:revive // a fact about the text
	limit := len(text)
	if !final {
		limit = wholeRunes(text)
	}
	if m.size == 0 {
		return nil, limit
	}
	words, numbers := track{a: m.words}, track{a: m.numbers}
	last, between := 0, 0 // end of the last hit; marks since the last digit
	for i := 0; i < limit; {
		b, size, sort := classify(text[i:limit])
		switch {
		case sort != escape:
			words.take(b, i)
		case words.at != 0 && i+1 < limit && !escapable(text[i+1]):
			words.at = 0
		}
		switch {
		case sort == digit:
			numbers.take(b, i)
			between = 0
		case sort == other || between == betweenMost:
			numbers.at = 0
		default:
			between++
		}
		i += size
		if p := m.words.ends(words.at); p >= 0 {
			st := m.wordOf[p]
			h := hit{start: words.begun(len(st.text)), end: i}
			h.value = st.spelled(text[h.start:h.end])
			found, last = append(found, h), i
			words.at, numbers.at = 0, 0
			continue
		}
		if p := m.numbers.ends(numbers.at); p >= 0 {
			st := m.numOf[p]
			h := m.number(st, text, last, numbers.begun(len(st.text)), i)
			found, last = append(found, h), i
			words.at, numbers.at = 0, 0
		}
	}
	if final {
		return found, len(text)
	}
	cut = limit
	if words.at != 0 {
		cut = min(cut, words.begun(int(m.words.nodes[words.at].depth)))
	}
	if numbers.at != 0 {
		cut = min(cut, lead(text, last, numbers.begun(int(m.numbers.nodes[numbers.at].depth))))
	}
	if !m.numbers.empty() {
		cut = min(cut, lead(text, last, limit))
	}
	return found, cut
}

// lead is where the marks before a number begin.
func lead(text string, last, at int) int {
	for n := 0; n < leadMost && at > last && (text[at-1] == '+' || text[at-1] == '('); n++ {
		at--
	}
	return at
}

// Sorts of characters, as far as they matter to a pseudonym.
const (
	other  = iota
	digit  // 0 to 9
	mark   // may stand between the digits of a number
	escape // a backslash
)

// classify reads a character: what it counts as in a word, its length in bytes, and its sort. Hyphens of all kinds, spaces and
// underscores count as one: models like to change them.
func classify(s string) (b byte, size, sort int) {
	switch c := s[0]; {
	case c >= 'A' && c <= 'Z':
		return c + 'a' - 'A', 1, other
	case c >= '0' && c <= '9':
		return c, 1, digit
	case c == ' ' || c == '-':
		return '-', 1, mark
	case c == '_':
		return '-', 1, other
	case c == '.' || c == '(' || c == ')':
		return c, 1, mark
	case c == '\\':
		return c, 1, escape
	case strings.HasPrefix(s, "\u00a0"):
		return '-', 2, mark
	case c == 0xE2 && len(s) > 2 && isHyphen(s[:3]):
		return '-', 3, mark
	default:
		return c, 1, other
	}
}

func isHyphen(s string) bool {
	switch s {
	case "\u2010", "\u2011", "\u2012", "\u2013", "\u2014", "\u2015", "\u2212":
		return true
	}
	return false
}

// escapable characters of pseudonyms are those before which Markdown takes a backslash away.
func escapable(c byte) bool { return c == '-' || c == '.' || c == '_' || c == '@' }

// wholeRunes is the length of a text without a character at its end that is not complete yet.
func wholeRunes(s string) int {
	for i := 1; i < utf8.UTFMax && i <= len(s); i++ {
		if c := s[len(s)-i]; utf8.RuneStart(c) {
			if c >= utf8.RuneSelf && !utf8.FullRuneInString(s[len(s)-i:]) {
				return len(s) - i
			}
			break
		}
	}
	return len(s)
}

// spelled returns the value for a spelling: that very one if a pair has it, else the first one, in capitals if the pseudonym of
// a name is.
func (st *stem) spelled(raw string) string {
	plain := plainSpelling(raw)
	for _, p := range st.pairs {
		if p.Pseudonym == raw || p.Pseudonym == plain {
			return p.Value
		}
	}
	first := st.pairs[0]
	if isName(first.Kind) && plain == strings.ToUpper(plain) {
		return strings.ToUpper(first.Value)
	}
	return first.Value
}

func plainSpelling(raw string) string {
	var b strings.Builder
	for i := 0; i < len(raw); {
		c, size, sort := classify(raw[i:])
		switch {
		case sort == escape:
		case c == '-':
			b.WriteByte('-')
		default:
			b.WriteString(raw[i : i+size])
		}
		i += size
	}
	return b.String()
}

func isName(kind string) bool {
	return kind == "pii.person" || kind == "pii.place" || kind == "pii.organisation"
}

// number is the hit of digits that lie in text[start:end]: of the spelling that stands there, else of the first one.
func (m *Map) number(st *stem, text string, last, start, end int) hit {
	for n := leadMost; n >= 0; n-- { // the most marks before it that some spelling has
		from := start - n
		if from < last {
			continue
		}
		if p, ok := m.written[text[from:end]]; ok && strings.IndexAny(p.Pseudonym, "0123456789") == n {
			if digits, is := stemOf(p.Pseudonym); !is || digits != st.text {
				continue
			}
			return hit{start: from, end: end, value: p.Value}
		}
	}
	first := hit{start: start, end: end, value: st.pairs[0].Value}
	if start > last && text[start-1] == '+' && strings.HasPrefix(first.value, "+") {
		first.start--
	}
	return first
}
