package outgoing

import (
	"regexp"
	"strings"
)

// fenceSpan is how far back fences are remembered, in bytes of what was released; it is less than what a caller sends again.
const fenceSpan = 3900

// Fences follows which parts of a Markdown text are certainly in a fenced code block (CommonMark 0.31, §4.5), however the text is
// rendered: then nothing in it is loaded or run. It errs on the other side: a fence that is indented, quoted or in a list may
// end with what it stands in, and what follows it is not certain any more. The zero value is the beginning of a text.
type Fences struct {
	total int    // bytes so far
	line  []byte // the current line, up to longestLine
	start int    // where it began
	over  bool   // it is longer than that

	state state
	mark  byte
	n     int // of the fence that is open
	loose bool

	last     int  // where the last fence began, plus one; 0: there was none
	opening  bool // it can only open a block
	previous byte

	paragraph int  // where the current paragraph began
	ticks     bool // one of its earlier lines has backticks that another line may close
}

type state int

const (
	outside state = iota
	inside
	unknown
)

const longestLine = 1024

// Resume continues a text of which only the end is known: what was released last, 4,096 bytes of it or all that there is.
func Resume(before string) *Fences {
	f := &Fences{}
	if len(before) > fenceSpan+100 {
		f.state, f.ticks = unknown, true
		f.over = true // the first line may be the rest of one
	}
	f.Write(before)
	return f
}

// Write goes on.
func (f *Fences) Write(s string) {
	for i := range len(s) {
		b := s[i]
		f.total++
		switch {
		case b == '\n' && f.previous == '\r':
			f.start = f.total
		case b == '\n' || b == '\r':
			f.endLine()
		case len(f.line) < longestLine:
			f.line = append(f.line, b)
		default:
			f.over = true
		}
		f.previous = b
	}
}

// CodeAfter reports whether what comes behind s, if that comes next, is certainly in a code block.
func (f *Fences) CodeAfter(s string) bool {
	if !strings.ContainsAny(s, "\n\r") {
		return f.Code()
	}
	c := *f
	c.line = append([]byte(nil), f.line...)
	c.Write(s)
	return c.Code()
}

// Code reports whether what comes next is certainly in a code block.
func (f *Fences) Code() bool {
	if f.total < fenceSpan {
		return f.state == inside
	}
	return f.last > 0 && f.last-1 >= f.total-fenceSpan && f.opening
}

func (f *Fences) endLine() {
	line, over := string(f.line), f.over
	start := f.start
	f.line, f.over, f.start = f.line[:0], false, f.total
	mark, n, indent, info, odd := fence(line)
	switch {
	case n > 0 || strings.TrimSpace(line) == "" && !over:
		f.paragraph, f.ticks = f.total, false
	case over || !balanced(line):
		f.ticks = true
	}
	switch {
	case n == 0 || mark == '`' && strings.Contains(info, "`"): // words in backticks
		f.ticks = f.ticks || n > 0
	case info == "" && !odd || over:
		f.bare(mark, n, indent, start)
	case indent == 0 && !odd:
		f.last, f.opening = start+1, true
		if f.state != inside {
			f.loose = f.state == unknown
			f.state, f.mark, f.n = inside, mark, n
		}
	case f.state != inside:
		f.state = unknown
	}
}

// Span reports whether what comes next is certainly in a code span that ends in its line, of which rest is what follows
// (CommonMark 0.31, §6.1): then no page takes it for a tag. A line may be a row of a table, whose cells are read by themselves.
func (f *Fences) Span(rest string) bool {
	if i := strings.IndexAny(rest, "\n\r"); i >= 0 {
		rest = rest[:i]
	}
	line, at := string(f.line)+rest, len(f.line)
	if f.over || strings.Contains(line, `\|`) || autolink.MatchString(line[max(0, strings.IndexByte(line, '<')):]) {
		return false
	}
	if !block.MatchString(line) && (f.ticks || f.paragraph < f.total-fenceSpan) {
		return false
	}
	if !span(line, at) {
		return false
	}
	cell := strings.LastIndexByte(line[:at], '|') + 1
	end := len(line)
	if i := strings.IndexByte(line[at:], '|'); i >= 0 {
		end = at + i
	}
	return cell == 0 && end == len(line) || span(line[cell:end], at-cell)
}

// block begins a line that belongs to no paragraph before it: a bullet or a heading.
var block = regexp.MustCompile(`^ {0,3}(?:[-*+]|1[.)]|#{1,6}) +[^ ]`)

// span reports whether a place is in a code span of a text that is read by itself.
func span(line string, at int) bool {
	for i := 0; i < at; {
		start, after, end := next(line, i)
		switch {
		case start < 0 || start >= at:
			return false
		case end < 0:
			i = after
		case end > at:
			return after <= at
		default:
			i = end + after - start
		}
	}
	return false
}

// balanced reports whether every run of backticks has its counterpart in its line.
func balanced(line string) bool {
	for i := 0; i < len(line); {
		start, after, end := next(line, i)
		if start < 0 {
			return true
		}
		if end < 0 {
			return false
		}
		i = end + after - start
	}
	return true
}

// next is the first run of backticks from i on, that is no escape, and where the one begins that closes it; -1: nowhere.
func next(line string, i int) (start, after, end int) {
	for i < len(line) && line[i] != '`' {
		if line[i] == '\\' {
			i++
		}
		i++
	}
	if i >= len(line) {
		return -1, -1, -1
	}
	n := run(line[i:])
	if end = closer(line[i+n:], n); end >= 0 {
		end += i + n
	}
	return i, i + n, end
}

// OpenSpan reports whether a text ends inside of words in backticks that hold a tag.
func OpenSpan(text string) bool {
	line := tail(text[strings.LastIndexAny(text, "\n\r")+1:], longestLine)
	i := strings.LastIndexByte(line, '`')
	return i >= 0 && strings.Count(line, "`")%2 == 1 && strings.Contains(line[i:], "<")
}

func run(s string) (n int) {
	for n < len(s) && s[n] == '`' {
		n++
	}
	return n
}

// closer is where a run of n backticks begins in s, or -1.
func closer(s string, n int) int {
	for i := 0; i < len(s); {
		if s[i] != '`' {
			i++
			continue
		}
		m := run(s[i:])
		if m == n {
			return i
		}
		i += m
	}
	return -1
}

// bare is a fence without a word behind it: it opens or closes.
func (f *Fences) bare(mark byte, n, indent, start int) {
	f.last, f.opening = start+1, false
	switch {
	case f.state == outside && indent == 0:
		f.state, f.mark, f.n, f.loose = inside, mark, n, false
	case f.state == inside && f.loose:
		f.state = unknown
	case f.state == inside && mark == f.mark && n >= f.n:
		f.state = outside
	case f.state == inside:
	default:
		f.state = unknown
	}
}

// fence reads a line: the mark, how often it stands there, how far it is indented and what follows. odd says that something
// else than up to three spaces stands before it: it may belong to a list or a quotation.
func fence(line string) (mark byte, n, indent int, info string, odd bool) {
	rest := strings.TrimLeft(line, " ")
	indent = len(line) - len(rest)
	body := strings.TrimLeft(rest, " \t>*+-.)0123456789")
	if body == "" || body[0] != '`' && body[0] != '~' {
		return 0, 0, 0, "", false
	}
	mark = body[0]
	for n < len(body) && body[n] == mark {
		n++
	}
	if n < 3 {
		return 0, 0, 0, "", false
	}
	odd = len(body) != len(rest) || indent > 3
	return mark, n, indent, strings.TrimSpace(body[n:]), odd
}
