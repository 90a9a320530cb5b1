package outgoing

import (
	"fmt"
	"regexp"
	"unicode"

	"golang.org/x/text/unicode/norm"

	"aran/service/guard/canon"
	"aran/service/guard/detect"
)

// boundaryContext is how far back what crosses a boundary may begin, in bytes.
const boundaryContext = 256

// Boundary is a tenant's own rule about what a text may speak of. A text that has one of the phrases, as whole words in plain
// form, or matches one of the patterns (RE2, on the plain form too), crosses it.
type Boundary struct {
	Name     string
	Phrases  []string
	Patterns []string
}

// Boundaries are compiled. Safe for concurrent use.
type Boundaries struct {
	list     []Boundary
	words    *automaton
	of       []int // the boundary of each phrase
	patterns []boundaryPattern
}

type boundaryPattern struct {
	boundary int
	re       *regexp.Regexp
}

// Compile reads boundaries. The error names the first pattern that is none.
func Compile(list []Boundary) (*Boundaries, error) {
	b := &Boundaries{list: list}
	var phrases []string
	for i, x := range list {
		for _, p := range x.Phrases {
			if w := words(p); w.Plain != " " {
				phrases, b.of = append(phrases, w.Plain), append(b.of, i)
			}
		}
		for _, p := range x.Patterns {
			re, err := regexp.Compile("(?i:" + norm.NFKD.String(p) + ")") // as a text's plain form is
			if err != nil {
				return nil, fmt.Errorf("boundary %s: %w", x.Name, err)
			}
			b.patterns = append(b.patterns, boundaryPattern{i, re})
		}
	}
	b.words = build(phrases)
	return b, nil
}

// words writes a text's plain form with one space before, between and behind its words.
func words(s string) canon.Text {
	t := canon.Plain(s)
	out := append(make([]byte, 0, len(t.Plain)+2), ' ')
	at := append(make([]int32, 0, len(t.At)+2), 0)
	for i, r := range t.Plain {
		if unspaced(r) && out[len(out)-1] != ' ' { // a sign is a word
			out, at = append(out, ' '), append(at, t.At[i])
		}
		switch {
		case unicode.IsLetter(r) || unicode.IsNumber(r) || unicode.Is(unicode.M, r):
			for n := range len(string(r)) {
				out, at = append(out, t.Plain[i+n]), append(at, t.At[i])
			}
			if unspaced(r) {
				out, at = append(out, ' '), append(at, t.At[i+len(string(r))])
			}
		case r == '\'':
		case out[len(out)-1] != ' ':
			out, at = append(out, ' '), append(at, t.At[i])
		}
	}
	if out[len(out)-1] != ' ' {
		out, at = append(out, ' '), append(at, t.At[len(t.At)-1])
	}
	return canon.Text{Plain: string(out), At: append(at, t.At[len(t.At)-1])}
}

// Find finds what crosses a boundary and ends behind from. The rule of a finding is the boundary's name.
func (b *Boundaries) Find(s string, from int) (out []detect.Finding) {
	if b == nil || len(b.list) == 0 {
		return nil
	}
	start := max(0, from-boundaryContext)
	text := tail(s, len(s)-start)
	start = len(s) - len(text)
	add := func(n, at, end int) {
		at, end = start+at, start+end
		if end > from {
			out = append(out, detect.Finding{Kind: "topic", Rule: b.list[n].Name, Score: 1, Start: max(at, from), End: end, Why: "It crosses the boundary “" + b.list[n].Name + "” of this policy."})
		}
	}
	w := words(text)
	b.words.find(w.Plain, func(p, at, end int) {
		add(b.of[p], int(w.At[at+1]), int(w.At[end-1]))
	})
	if len(b.patterns) > 0 {
		t := canon.Plain(text)
		for _, p := range b.patterns {
			for _, m := range p.re.FindAllStringIndex(t.Plain, -1) {
				at, end := t.Span(m[0], m[1])
				add(p.boundary, at, end)
			}
		}
	}
	return out
}

// Pending reports whether a phrase has begun at the end of a text: its rest is waited for.
func (b *Boundaries) Pending(text string) bool {
	if b == nil || len(b.of) == 0 {
		return false
	}
	w := words(tail(text, boundaryContext))
	return b.words.depth(w.Plain) > 1
}

// automaton finds any of many phrases in one pass (Aho & Corasick 1975).
type automaton struct {
	nodes []node
	size  []int // of each phrase
}

type node struct {
	next   map[byte]int32
	fail   int32
	phrase int32 // that ends here, plus one
	more   int32 // the next node on the way of failures where a phrase ends
	depth  int32
}

func build(phrases []string) *automaton {
	a := &automaton{nodes: []node{{}}}
	for i, p := range phrases {
		a.size = append(a.size, len(p))
		at := int32(0)
		for j := range len(p) {
			to, ok := a.nodes[at].next[p[j]]
			if !ok {
				to = int32(len(a.nodes)) //nolint:gosec // policies are bounded
				a.nodes = append(a.nodes, node{depth: a.nodes[at].depth + 1})
				if a.nodes[at].next == nil {
					a.nodes[at].next = map[byte]int32{}
				}
				a.nodes[at].next[p[j]] = to
			}
			at = to
		}
		if a.nodes[at].phrase == 0 {
			a.nodes[at].phrase = int32(i) + 1
		}
	}
	queue := []int32{0}
	for len(queue) > 0 {
		at := queue[0]
		queue = queue[1:]
		for b, to := range a.nodes[at].next {
			if at != 0 {
				a.nodes[to].fail = a.step(a.nodes[at].fail, b)
			}
			f := a.nodes[to].fail
			if a.nodes[to].more = a.nodes[f].more; a.nodes[f].phrase > 0 {
				a.nodes[to].more = f
			}
			queue = append(queue, to)
		}
	}
	return a
}

func (a *automaton) step(at int32, b byte) int32 {
	for {
		if to, ok := a.nodes[at].next[b]; ok {
			return to
		}
		if at == 0 {
			return 0
		}
		at = a.nodes[at].fail
	}
}

// find calls fn for each phrase in a text, by its number and place.
func (a *automaton) find(s string, fn func(phrase, start, end int)) {
	at := int32(0)
	for i := range len(s) {
		at = a.step(at, s[i])
		for n := at; n != 0; n = a.nodes[n].more {
			if p := a.nodes[n].phrase; p > 0 {
				fn(int(p-1), i+1-a.size[p-1], i+1)
			}
		}
	}
}

// depth is how much of a phrase, at most, a text ends with, in bytes.
func (a *automaton) depth(s string) int {
	at := int32(0)
	for i := range len(s) {
		at = a.step(at, s[i])
	}
	if len(a.nodes[at].next) == 0 { // complete
		at = a.nodes[at].fail
	}
	return int(a.nodes[at].depth)
}
