package chunk

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	extast "github.com/yuin/goldmark/extension/ast"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"
)

const (
	byteOrderMark = "\uFEFF"
	deepest       = 24  // list markers on one line; each costs the parser a level
	widest        = 128 // bytes of indentation before a list marker, for the same reason
	longestTitle  = 200 // bytes of a heading that are kept as context
)

// paragraphs are divided by blank lines.
func paragraphs(s string) (out []block) {
	start := 0
	blank := true
	for at := 0; at < len(s); {
		end := lineEnd(s, at)
		if strings.TrimSpace(s[at:end]) == "" {
			if !blank {
				out = append(out, block{start: start, end: at})
			}
			start, blank = end, true
		} else {
			blank = false
		}
		at = end
	}
	return append(out, block{start: start, end: len(s)})
}

// markdown reads the block structure only: inline marks do not matter here.
func markdown(s string) []block {
	if tooDeep(s) {
		return paragraphs(s)
	}
	var out []block
	base := 0
	if strings.HasPrefix(s, byteOrderMark) {
		base = len(byteOrderMark)
	}
	if end := frontMatter(s[base:]); end > 0 {
		out = append(out, block{start: base, end: base + end, kind: lines})
		base += end
	}
	src := []byte(s[base:])
	// Without the quote parser, quotes are paragraphs: that is all we need of them, and they cannot nest.
	p := parser.NewParser(parser.WithBlockParsers(
		util.Prioritized(parser.NewSetextHeadingParser(), 100),
		util.Prioritized(parser.NewThematicBreakParser(), 200),
		util.Prioritized(parser.NewListParser(), 300),
		util.Prioritized(parser.NewListItemParser(), 400),
		util.Prioritized(parser.NewCodeBlockParser(), 500),
		util.Prioritized(parser.NewATXHeadingParser(), 600),
		util.Prioritized(parser.NewFencedCodeBlockParser(), 700),
		util.Prioritized(parser.NewHTMLBlockParser(), 900),
		util.Prioritized(parser.NewParagraphParser(), 1000),
	), parser.WithParagraphTransformers(util.Prioritized(extension.NewTableParagraphTransformer(), 200)))
	last := base
	for n := p.Parse(text.NewReader(src)).FirstChild(); n != nil; n = n.NextSibling() {
		b := describe(n, src, base)
		b.start = lineStart(s, b.start, last)
		if b.start < last {
			continue // no new place: it stays with the block before
		}
		if len(out) > 0 {
			out[len(out)-1].end = b.start
		}
		last = b.start
		out = append(out, b)
	}
	if len(out) == 0 {
		return []block{{end: len(s)}}
	}
	out[0].start = 0
	out[len(out)-1].end = len(s)
	return out
}

func describe(n ast.Node, src []byte, base int) block {
	b := block{start: base + n.Pos()}
	switch n := n.(type) {
	case *ast.Heading:
		b.kind, b.level, b.title = heading, n.Level, title(n, src)
	case *ast.List:
		b.kind = list
		for item := n.FirstChild(); item != nil; item = item.NextSibling() {
			if at := base + item.Pos(); at > b.start {
				b.items = append(b.items, at)
			}
		}
	case *ast.CodeBlock, *ast.FencedCodeBlock, *ast.HTMLBlock, *extast.Table:
		b.kind = lines
	}
	return b
}

func title(n *ast.Heading, src []byte) string {
	var sb strings.Builder
	for i := range n.Lines().Len() {
		seg := n.Lines().At(i)
		sb.Write(seg.Value(src))
		sb.WriteByte(' ')
	}
	s := strings.Join(strings.Fields(strings.NewReplacer("`", "", "*", "").Replace(sb.String())), " ")
	if len(s) > longestTitle {
		s = strings.TrimSpace(s[:boundary(s, 0, longestTitle)])
	}
	return s
}

// tooDeep finds lines with more nested markers than a person would write.
func tooDeep(s string) bool {
	for at := 0; at < len(s); {
		end := lineEnd(s, at)
		prefix := strings.TrimLeft(s[at:end], " \t0123456789-*+.)")
		prefix = s[at : end-len(prefix)]
		if indent := len(prefix) - len(strings.TrimLeft(prefix, " \t")); indent > widest && indent < len(prefix) {
			return true
		}
		if len(prefix) > deepest && strings.ContainsAny(prefix, " \t") && !rule(s[at:end]) && markers(prefix) > deepest {
			return true
		}
		at = end
	}
	return false
}

func markers(prefix string) (n int) {
	for _, m := range "-*+.)" {
		n += strings.Count(prefix, string(m))
	}
	return n
}

// rule reports whether a line is a thematic break, which nests nothing.
func rule(line string) bool {
	line = strings.Join(strings.Fields(line), "")
	return line != "" && (strings.Trim(line, "-") == "" || strings.Trim(line, "*") == "")
}

// frontMatter returns where a leading block of `---` lines ends, or 0.
func frontMatter(s string) int {
	const most = 200 // lines
	end := lineEnd(s, 0)
	if strings.TrimRight(s[:end], " \r\n") != "---" {
		return 0
	}
	for range most {
		if end >= len(s) {
			return 0
		}
		next := lineEnd(s, end)
		if l := strings.TrimRight(s[end:next], " \r\n"); l == "---" || l == "..." {
			return next
		}
		end = next
	}
	return 0
}

// trim moves both ends over space.
func trim(s string, start, end int) (from, to int) {
	t := strings.TrimLeftFunc(s[start:end], space)
	start = end - len(t)
	return start, start + len(strings.TrimRightFunc(t, space))
}

// space is white space, and the byte order mark that some editors write.
func space(r rune) bool { return unicode.IsSpace(r) || r == '\uFEFF' }

// lineEnd is the byte after the line that at stands in, its line feed included.
func lineEnd(s string, at int) int {
	if i := strings.IndexByte(s[at:], '\n'); i >= 0 {
		return at + i + 1
	}
	return len(s)
}

// lineStart is where the line begins that at stands in, but not before floor.
func lineStart(s string, at, floor int) int {
	if at <= floor || at > len(s) {
		return floor
	}
	return floor + strings.LastIndexByte(s[floor:at], '\n') + 1
}

func lineStarts(s string, start, end int) (out []int) {
	for at := lineEnd(s, start); at < end; at = lineEnd(s, at) {
		out = append(out, at)
	}
	return out
}

const (
	terminators = ".!?…。！？।॥"
	dense       = "。！？।॥" // no space follows these
	closers     = `"')]}”’»）】」』`
)

// sentenceStarts is where sentences after the first begin. It knows no abbreviations: a cut too
// many does no harm.
func sentenceStarts(s string, start, end int) (out []int) {
	ended, spaced := false, false
	wide := false
	for i, r := range s[start:end] {
		switch {
		case strings.ContainsRune(terminators, r):
			ended, spaced = true, false
			wide = wide || strings.ContainsRune(dense, r)
		case ended && strings.ContainsRune(closers, r) && !spaced:
		case space(r):
			spaced = true
		default:
			if ended && (wide || spaced && !unicode.IsLower(r)) {
				out = append(out, start+i)
			}
			ended, spaced, wide = false, false, false
		}
	}
	return out
}

// word is the next run without space in s[from:end]; empty at the end.
func word(s string, from, end int) (start, stop int) {
	i := strings.IndexFunc(s[from:end], func(r rune) bool { return !space(r) })
	if i < 0 {
		return end, end
	}
	start = from + i
	if n := strings.IndexFunc(s[start:end], space); n >= 0 {
		return start, start + n
	}
	return start, end
}

// boundary moves at back to the beginning of a character, but never to from: at least one character is taken.
func boundary(s string, from, at int) int {
	if at >= len(s) {
		return len(s)
	}
	for at > from && !utf8.RuneStart(s[at]) {
		at--
	}
	if at == from {
		_, n := utf8.DecodeRuneInString(s[from:])
		return from + n
	}
	return at
}
