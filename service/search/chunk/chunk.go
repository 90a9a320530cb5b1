// Package chunk cuts a document into passages that a model can see whole.
//
// It follows the document's structure: a passage ends at a heading unless it is still very short,
// and paragraphs, lists, code and tables stay whole when they fit. It changes no text: every
// passage is text[Start:End], and together the passages cover all that is not space. Text must be
// valid UTF-8.
package chunk

import (
	"slices"
	"strings"
)

// Options say how long a passage may be.
type Options struct {
	Max     int              // tokens of a passage with its context; at least 32
	Overlap int              // tokens of prose that a passage repeats from the one before, at most
	Title   string           // the document's title, part of every passage's context
	Count   func(string) int // tokens of a text; Count(a+" "+b) must not exceed Count(a)+Count(b)
}

// Passage is a piece of a document.
type Passage struct {
	Start, End int      // bytes [Start, End) of the document's text
	Headings   []string // the headings that hold for the passage, outermost first
}

const (
	bytesPerToken = 16 // a passage has at most Max*bytesPerToken bytes, whatever the tokenizer thinks of them
	contextShare  = 4  // context takes at most a quarter of a passage
	smallShare    = 6  // a passage below a sixth of Max goes on over the next heading
	maxWord       = 96 // bytes; longer runs without space are cut, for tokenizers give up on them
	separator     = " › "
)

// Context is the line that goes before a passage's text into an encoder: title and headings, cut
// at a word so that it has at most a quarter of max tokens. It may be empty.
func Context(title string, headings []string, maxTokens int, count func(string) int) string {
	parts := slices.DeleteFunc(append([]string{title}, headings...), func(s string) bool { return strings.TrimSpace(s) == "" })
	if len(parts) > 1 && parts[0] == parts[1] {
		parts = parts[1:] // the document begins with its title
	}
	line := strings.Join(strings.Fields(strings.Join(parts, separator)), " ")
	budget := maxTokens / contextShare
	for line != "" && (len(line) > budget*bytesPerToken || count(line) > budget) {
		cut := strings.LastIndexByte(line[:min(len(line)-1, budget*bytesPerToken)], ' ')
		if cut < 0 {
			return ""
		}
		line = strings.TrimRight(line[:cut], " ›")
	}
	return line
}

// Text cuts plain text: paragraphs end at a blank line.
func Text(text string, o Options) []Passage { return cut(text, paragraphs(text), o) }

// Markdown cuts CommonMark with tables. Text that nests deeper than a person would write is cut as plain text.
func Markdown(text string, o Options) []Passage { return cut(text, markdown(text), o) }

func cut(text string, blocks []block, o Options) []Passage {
	o.Max = max(o.Max, 32)
	c := &cutter{text: text, Options: o}
	c.open(block{})
	for _, b := range blocks {
		b.start, b.end = trim(text, b.start, b.end)
		if b.start == b.end {
			continue
		}
		if b.kind == heading {
			c.open(b)
		}
		c.block(b)
	}
	return c.pack()
}

// kind is what a block is; it decides how the block is cut when it is too long.
type kind int

const (
	prose kind = iota
	heading
	list
	lines // code, tables, HTML, front matter: cut between lines, never repeated
)

// block is a piece of the document's structure. Blocks stand in order and do not overlap.
type block struct {
	start, end int
	kind       kind
	level      int    // of a heading
	title      string // of a heading
	items      []int  // of a list: where its items begin
}

// section is what follows a heading.
type section struct {
	headings []string
	budget   int // tokens that the text of a passage may have
}

// unit is what a passage is made of: it fits into one.
type unit struct {
	start, end, tokens int
	kind               kind
	section            int
	cut                bool // ends or begins inside a word
}

// cutter turns blocks into units (block, split) and units into passages (pack).
type cutter struct {
	text string
	Options

	path     []block // open headings
	sections []section
	units    []unit
}

func (c *cutter) open(h block) {
	if h.kind == heading {
		for len(c.path) > 0 && c.path[len(c.path)-1].level >= h.level {
			c.path = c.path[:len(c.path)-1]
		}
		c.path = append(c.path, h)
	}
	s := section{budget: c.Max}
	for _, h := range c.path {
		s.headings = append(s.headings, h.title)
	}
	if line := Context(c.Title, s.headings, c.Max, c.Count); line != "" {
		s.budget -= c.Count(line)
	}
	c.sections = append(c.sections, s)
}

func (c *cutter) budget() int { return c.sections[len(c.sections)-1].budget }

// fits counts the unit's tokens and reports whether it could be a passage of its own.
func (c *cutter) fits(u *unit) bool {
	if u.end-u.start > c.Max*bytesPerToken {
		return false
	}
	u.tokens = c.Count(c.text[u.start:u.end])
	return u.tokens <= c.budget()
}

// block makes one unit of a block, or many when it is too long to stand whole with the headings before it.
func (c *cutter) block(b block) {
	u := unit{start: b.start, end: b.end, kind: b.kind}
	if !c.fits(&u) || b.kind != heading && u.tokens+c.headingsBefore() > c.budget() {
		c.split(b, b.kind)
		return
	}
	c.add(u)
}

func (c *cutter) add(u unit) {
	u.section = len(c.sections) - 1
	c.units = append(c.units, u)
}

func (c *cutter) headingsBefore() (tokens int) {
	for _, u := range slices.Backward(c.units) {
		if u.kind != heading {
			break
		}
		tokens += u.tokens
	}
	return tokens
}

// split cuts a block at the best places that it has: items, lines, sentences, words, characters.
func (c *cutter) split(b block, at kind) {
	var starts []int
	next := prose
	switch at {
	case list:
		starts, next = b.items, lines
	case lines:
		starts = lineStarts(c.text, b.start, b.end)
	case prose, heading:
		starts = sentenceStarts(c.text, b.start, b.end)
	}
	for i := range len(starts) + 1 {
		piece := b
		if i > 0 {
			piece.start = starts[i-1]
		}
		if i < len(starts) {
			piece.end = starts[i]
		}
		piece.start, piece.end = trim(c.text, piece.start, piece.end)
		u := unit{start: piece.start, end: piece.end, kind: b.kind}
		switch {
		case u.start == u.end:
		case c.fits(&u):
			c.add(u)
		case at == prose || at == heading:
			c.words(u)
		default:
			c.split(piece, next)
		}
	}
}

func (c *cutter) words(u unit) {
	for from := u.start; ; {
		w := unit{kind: u.kind}
		w.start, w.end = word(c.text, from, u.end)
		if w.start == w.end {
			return
		}
		from = w.end
		if w.end-w.start > maxWord || !c.fits(&w) {
			c.characters(w)
		} else {
			c.add(w)
		}
	}
}

// characters cuts a run without space.
func (c *cutter) characters(u unit) {
	for from := u.start; from < u.end; {
		piece := unit{start: from, kind: u.kind, cut: true}
		for size := maxWord; ; size /= 2 {
			piece.end = boundary(c.text, from, min(from+size, u.end))
			if c.fits(&piece) || size == 1 {
				break
			}
		}
		c.add(piece)
		from = piece.end
	}
}

// pack fills passages with units, one after the other.
func (c *cutter) pack() (out []Passage) {
	for i := 0; i < len(c.units); {
		s := c.sections[c.units[c.body(i)].section]
		from, tokens := c.repeat(i, s.budget)
		end := c.fill(i, from, tokens, s.budget)
		out = append(out, Passage{Start: from, End: c.units[end-1].end, Headings: s.headings})
		i = end
	}
	return out
}

// body is the first unit from i that is no heading, or i.
func (c *cutter) body(i int) int {
	for j := i; j < len(c.units); j++ {
		if c.units[j].kind != heading {
			return j
		}
	}
	return i
}

// fill returns where a passage ends that begins at byte from and goes on with unit i; it takes at least that one.
func (c *cutter) fill(i, from, tokens, budget int) int {
	end, own, inWord, onlyHeadings := i, 0, false, true
	for ; end < len(c.units); end++ {
		u := c.units[end]
		if end > i && (tokens+u.tokens > budget || u.end-from > c.Max*bytesPerToken) {
			break
		}
		if u.kind == heading && !onlyHeadings && own >= c.Max/smallShare {
			break
		}
		tokens += u.tokens
		own += u.tokens
		inWord = inWord || u.cut
		onlyHeadings = onlyHeadings && u.kind == heading
	}
	// Pieces of one word may count for more together than apart.
	for inWord && end > i+1 && c.Count(c.text[from:c.units[end-1].end]) > budget {
		end--
	}
	return end
}

// repeat returns the byte at which the passage that goes on with unit i begins: in prose, with the last
// sentences of what stands before, as far as they leave room.
func (c *cutter) repeat(i, budget int) (from, tokens int) {
	u := c.units[i]
	from = u.start
	for j := i - 1; j >= 0; j-- {
		prev := c.units[j]
		if u.kind != prose || prev.kind != prose || prev.section != u.section || prev.cut {
			return from, tokens
		}
		starts := append([]int{prev.start}, sentenceStarts(c.text, prev.start, prev.end)...)
		for k, start := range slices.Backward(starts) {
			end := prev.end
			if k+1 < len(starts) {
				end = starts[k+1]
			}
			n := tokens
			if end-start <= c.Overlap*bytesPerToken {
				n += c.Count(c.text[start:end])
			}
			if n == tokens || n > c.Overlap || n+u.tokens > budget || u.end-start > c.Max*bytesPerToken {
				return from, tokens
			}
			from, tokens = start, n
		}
	}
	return from, tokens
}
