package extract

import (
	"bytes"
	"io"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
	"golang.org/x/net/html/charset"
)

// readHTML makes Markdown of what a reader sees of a page: its main text, without scripts, menus and hidden elements.
func readHTML(file []byte) (Result, error) {
	utf, err := charset.NewReader(bytes.NewReader(file), HTML)
	if err != nil {
		return Result{}, malformed("HTML", err)
	}
	b, err := io.ReadAll(io.LimitReader(utf, 4*MaxText))
	if err != nil {
		return Result{}, malformed("HTML", err)
	}
	root, err := html.Parse(bytes.NewReader(b))
	if err != nil {
		return Result{}, malformed("HTML", err)
	}
	p := &page{}
	p.walk(root, 0)
	p.flush()
	out := Result{Text: p.out.sb.String(), ContentType: Markdown, Title: p.title}
	if p.out.full {
		return out, tooLarge()
	}
	if p.hidden {
		out.Findings = []string{HiddenText}
	}
	return out, nil
}

// page is a walk through a document. Text gathers in line until a block ends.
type page struct {
	out    writer
	line   strings.Builder
	title  string
	hidden bool
	list   []int // open lists: the number of the next item, or 0 for one without numbers
	rows   int   // of the table so far
}

const maxDepth = 600 // the parser itself stops at 512 open elements

var dropped = []atom.Atom{ //nolint:gochecknoglobals // a set
	atom.Script, atom.Style, atom.Noscript, atom.Template, atom.Nav, atom.Svg, atom.Math, atom.Iframe, atom.Object, atom.Embed, atom.Canvas, atom.Audio, atom.Video,
	atom.Button, atom.Select, atom.Input, atom.Textarea, atom.Datalist, atom.Dialog, atom.Map,
}

var blocks = []atom.Atom{ //nolint:gochecknoglobals // a set
	atom.P, atom.Div, atom.Section, atom.Article, atom.Main, atom.Header, atom.Footer, atom.Aside, atom.Blockquote, atom.Figure, atom.Figcaption, atom.Address,
	atom.Dl, atom.Dt, atom.Dd, atom.Form, atom.Fieldset, atom.Details, atom.Summary, atom.Hr, atom.Body, atom.Caption,
}

func (p *page) walk(n *html.Node, depth int) {
	if depth > maxDepth || p.out.full {
		return
	}
	switch n.Type {
	case html.TextNode:
		p.line.WriteString(n.Data)
		return
	case html.ElementNode:
		if !p.element(n, depth) {
			return
		}
	case html.CommentNode, html.DoctypeNode:
		return
	default:
	}
	p.children(n, depth)
}

func (p *page) children(n *html.Node, depth int) {
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		p.walk(c, depth+1)
	}
}

// element handles one; false: its children are done, or not wanted.
func (p *page) element(n *html.Node, depth int) bool {
	switch {
	case n.DataAtom == atom.Title && p.title == "":
		p.title = clean(textOf(n))
		return false
	case slices.Contains(dropped, n.DataAtom), attribute(n, "role") == "navigation":
		return false
	case unseen(n):
		p.hidden = p.hidden || strings.TrimSpace(textOf(n)) != ""
		return false
	}
	switch n.DataAtom {
	case atom.H1, atom.H2, atom.H3, atom.H4, atom.H5, atom.H6:
		p.flush()
		p.children(n, depth)
		if s := clean(p.take()); s != "" {
			p.out.block(headingLine(int(n.Data[1]-'0'), s))
		}
	case atom.Br:
		p.line.WriteByte('\n')
	case atom.Pre:
		p.flush()
		p.out.block(fenced(textOf(n)))
	case atom.Ul, atom.Ol:
		p.flush()
		p.list = append(p.list, map[bool]int{true: 1}[n.DataAtom == atom.Ol])
		p.children(n, depth)
		p.flush()
		p.list = p.list[:len(p.list)-1]
	case atom.Li:
		p.flush()
		p.children(n, depth)
		p.item()
	case atom.Table:
		p.flush()
		rows := p.rows
		p.rows = 0
		p.children(n, depth)
		p.flush()
		p.rows = rows
	case atom.Tr:
		p.flush()
		p.row(n)
	case atom.Img:
		if alt := clean(attribute(n, "alt")); alt != "" {
			p.line.WriteString(" " + alt + " ")
		}
	default:
		if !slices.Contains(blocks, n.DataAtom) {
			return true
		}
		p.flush()
		p.children(n, depth)
		p.flush()
	}
	return false
}

func (p *page) take() string {
	s := p.line.String()
	p.line.Reset()
	return s
}

// flush ends a paragraph.
func (p *page) flush() {
	if len(p.list) > 0 {
		p.item()
		return
	}
	var lines []string
	for l := range strings.SplitSeq(p.take(), "\n\n") {
		if s := clean(l); s != "" {
			lines = append(lines, paragraph(s))
		}
	}
	p.out.block(strings.Join(lines, "\n\n"))
}

// item ends an item of a list, or a piece of one.
func (p *page) item() {
	s := clean(p.take())
	if s == "" {
		return
	}
	mark, depth := "- ", max(len(p.list)-1, 0)
	if len(p.list) > 0 && p.list[depth] > 0 {
		mark = itoa(p.list[depth]) + ". "
		p.list[depth]++
	}
	s = strings.Repeat("  ", min(depth, 8)) + mark + s
	if strings.HasSuffix(lastLine(p.out.sb.String()), "\n") || !isItem(lastLine(p.out.sb.String())) {
		p.out.block(s)
	} else {
		p.out.next(s)
	}
}

// row writes the cells of a row.
func (p *page) row(n *html.Node) {
	var cells []string
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		if c.DataAtom != atom.Td && c.DataAtom != atom.Th {
			continue
		}
		if unseen(c) {
			p.hidden = p.hidden || strings.TrimSpace(textOf(c)) != ""
			continue
		}
		cells = append(cells, strings.ReplaceAll(clean(p.visible(c)), "|", `\|`))
	}
	if strings.Join(cells, "") == "" {
		return
	}
	line := "| " + strings.Join(cells, " | ") + " |"
	if p.rows++; p.rows > 1 {
		p.out.next(line)
		return
	}
	p.out.block(line)
	p.out.next("|" + strings.Repeat("---|", len(cells)))
}

// visible is the text of an element without what is dropped or unseen in it.
func (p *page) visible(n *html.Node) string {
	var sb strings.Builder
	var walk func(*html.Node, int)
	walk = func(n *html.Node, depth int) {
		switch {
		case depth > maxDepth || slices.Contains(dropped, n.DataAtom):
			return
		case n.Type == html.TextNode:
			sb.WriteString(n.Data)
		case n.Type == html.ElementNode && unseen(n):
			p.hidden = p.hidden || strings.TrimSpace(textOf(n)) != ""
			return
		}
		for c := n.FirstChild; c != nil; c = c.NextSibling {
			walk(c, depth+1)
		}
		if slices.Contains(blocks, n.DataAtom) || n.DataAtom == atom.Br || n.DataAtom == atom.Li {
			sb.WriteByte(' ')
		}
	}
	walk(n, 0)
	return sb.String()
}

func textOf(n *html.Node) string {
	var sb strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode && sb.Len() < MaxText {
			sb.WriteString(d.Data)
		}
	}
	return sb.String()
}

func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

// concealing are declarations of an element's own style that take it out of a reader's sight.
var concealing = regexp.MustCompile(`(?i)(display:none|visibility:(hidden|collapse)|opacity:0*(\.0+)?(;|!|$)|font-size:0*(\.\d+)?(px|pt|em|rem|%)?(;|!|$)|font-size:1px|(left|top|right|text-indent|margin-left):-\d{3,}|clip:rect\((0|1px)|clip-path:inset\((50|100)%|color:transparent|(max-)?(height|width):0(px)?(;|!|$))`)

// unseen reports whether an element's own attributes hide it.
func unseen(n *html.Node) bool {
	for _, a := range n.Attr {
		switch a.Key {
		case "hidden":
			return true
		case "style":
			if concealing.MatchString(strings.Join(strings.Fields(a.Val), "")) {
				return true
			}
		}
	}
	return false
}

// fenced is code: with a fence longer than any in it.
func fenced(s string) string {
	s = strings.Trim(strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && r < ' ' || r == 0x7F {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD")), "\n")
	if strings.TrimSpace(s) == "" {
		return ""
	}
	fence := "```"
	for strings.Contains(s, fence) {
		fence += "`"
	}
	return fence + "\n" + s + "\n" + fence
}
