package redteam

import (
	_ "embed"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// page is what stands around a report.
//
//go:embed report.html
var page string

const day = "2 January 2006, 15:04 UTC"

// shown are the outcomes that have a part in a bar, in its order.
var shown = []Outcome{Succeeded, Resisted, Refused, Blocked, Failed} //nolint:gochecknoglobals // a constant

// WriteHTML writes the report as one page without scripts, pictures or anything from elsewhere. All that was sent and answered
// stands in it as text.
//
// It is made of nodes, not by html/template: that looks methods up by name, so that the linker keeps every method of the whole
// program, which is 17 MB of it.
func (r *Report) WriteHTML(w io.Writer) error {
	before, after, _ := strings.Cut(page, "<!-- report -->\n")
	if _, err := io.WriteString(w, before); err != nil {
		return err
	}
	for _, n := range r.body() {
		if err := html.Render(w, n); err != nil {
			return err
		}
		if _, err := io.WriteString(w, "\n"); err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, after)
	return err
}

func (r *Report) body() []*html.Node {
	meta := fmt.Sprintf("%s · %s · %.1f s · seed %d", r.Target, r.Began.Format(day), r.Seconds, r.Seed)
	if r.Program != "" {
		meta += " · " + r.Program
	}
	out := []*html.Node{el("h1", "", "Red team report"), el("p", "meta", meta), r.tiles()}
	if c := r.Changes; c != nil {
		out = append(out, el("h2", "", "Since "+c.Since.Format(day)), c.table())
	}
	out = append(out, el("h2", "", "By pack"), table("pack", r.Packs))
	key := el("p", "key")
	for _, o := range shown {
		add(key, el("i", string(o)), string(o))
	}
	out = append(out, key, el("h2", "", "By risk (OWASP Top 10 for LLM applications, 2025)"), table("risk", r.OWASP),
		el("h2", "", "By form"), table("mutation", r.Mutations), el("h2", "", "Attempts"))
	for i := range r.Packs {
		out = append(out, r.pack(&r.Packs[i]))
	}
	return out
}

func (r *Report) tiles() *html.Node {
	t := &r.Total
	tile := func(class, number, what string) *html.Node {
		return el("div", strings.TrimSpace("tile "+class), el("b", "", number), el("span", "", what))
	}
	rate, worked := "ok", ""
	if t.Succeeded > 0 {
		rate, worked = "bad", "bad"
	}
	out := el("div", "tiles", tile(rate, percent(t.Rate()), "of attacks worked"), tile("", strconv.Itoa(t.Attempts), "attempts"),
		tile(worked, strconv.Itoa(t.Succeeded), "succeeded"), tile("", strconv.Itoa(t.Blocked), "blocked"),
		tile("", strconv.Itoa(t.Refused), "refused"), tile("", strconv.Itoa(t.Resisted), "resisted"))
	if t.Failed+t.Skipped > 0 {
		add(out, tile("warn", fmt.Sprintf("%d + %d", t.Failed, t.Skipped), "failed + skipped"))
	}
	return out
}

func (c *Changes) table() *html.Node {
	row := func(n int, inside ...any) *html.Node {
		return el("tr", "", el("td", "n", el("b", "", strconv.Itoa(n))), el("td", "", inside...))
	}
	list := func(names []string) *html.Node {
		if len(names) == 0 {
			return nil
		}
		ul := el("ul", "plain")
		for _, name := range names {
			add(ul, el("li", "", el("small", "", name)))
		}
		return ul
	}
	return el("table", "changes", el("tbody", "", row(len(c.Worse), "work now and did not then", list(c.Worse)),
		row(len(c.Better), "worked then and do not now", list(c.Better)), row(c.Added, fmt.Sprintf("are new, %d are gone", c.Removed))))
}

// table lists counts, each with a bar of its outcomes.
func table(what string, counts []Count) *html.Node {
	rows := el("tbody", "")
	for i := range counts {
		c := &counts[i]
		name := el("td", "", c.Name)
		if c.Title != "" {
			add(name, el("br", ""), el("small", "", c.Title))
		}
		bar := el("div", "bar")
		for _, o := range shown {
			part := el("i", string(o))
			part.Attr = append(part.Attr, html.Attribute{Key: "style", Val: "width:" + width(*c.of(o), c.Attempts)})
			add(bar, part)
		}
		add(rows, el("tr", "", name, el("td", "n", fmt.Sprintf("%d of %d", c.Succeeded, c.Answered())), el("td", "n", percent(c.Rate())), el("td", "", bar)))
	}
	head := el("tr", "", el("th", "", what), el("th", "n", "worked"), el("th", "n", "rate"), el("th", "", "outcomes"))
	return el("table", "", el("thead", "", head), rows)
}

// pack is all that was tried of one, what worked first.
func (r *Report) pack(p *Count) *html.Node {
	out := el("details", "", el("summary", "", el("strong", "", p.Title), el("span", "id", p.Name), el("span", "grow"),
		el("span", "id", fmt.Sprintf("%d of %d worked", p.Succeeded, p.Answered()))))
	if p.Succeeded > 0 {
		out.Attr = append(out.Attr, html.Attribute{Key: "open"})
	}
	var of []*Attempt
	for i := range r.Attempts {
		if r.Attempts[i].Pack == p.Name {
			of = append(of, &r.Attempts[i])
		}
	}
	slices.SortStableFunc(of, func(a, b *Attempt) int { return order(a.Outcome) - order(b.Outcome) })
	for _, a := range of {
		add(out, a.node())
	}
	return out
}

func (a *Attempt) node() *html.Node {
	id := a.Probe
	if a.Mutation != "" {
		id += " · " + a.Mutation
	}
	said := func(who, text string) []any { return []any{el("div", "who", who), el("pre", "", text)} }
	body := el("div", "body")
	if a.Why != "" {
		add(body, el("p", "why", a.Why))
	}
	if a.Document != "" {
		add(body, said("document", a.Document)...)
	}
	for _, t := range a.Sent {
		add(body, said(t.Role, t.Text)...)
	}
	for _, c := range a.Calls {
		add(body, said("call of "+c.Name, c.Arguments)...)
	}
	return el("details", "", el("summary", "", el("span", "tag "+string(a.Outcome), string(a.Outcome)), el("span", "", a.Title), el("span", "id", id), el("span", "grow"),
		el("span", "id", strings.Join(slices.Concat(a.OWASP, a.ATLAS), " "))), body)
}

// el makes an element. What is inside are texts and elements; no element is none.
func el(tag, class string, inside ...any) *html.Node {
	n := &html.Node{Type: html.ElementNode, Data: tag, DataAtom: atom.Lookup([]byte(tag))}
	if class != "" {
		n.Attr = []html.Attribute{{Key: "class", Val: class}}
	}
	add(n, inside...)
	return n
}

func add(to *html.Node, inside ...any) {
	for _, x := range inside {
		switch x := x.(type) {
		case string:
			to.AppendChild(&html.Node{Type: html.TextNode, Data: x})
		case *html.Node:
			if x != nil {
				to.AppendChild(x)
			}
		}
	}
}

// percent shows a share.
func percent(f float64) string { return fmt.Sprintf("%.1f %%", 100*f) }

// width is a share as a length, for bars.
func width(n, all int) string {
	if all == 0 {
		return "0%"
	}
	return fmt.Sprintf("%.2f%%", 100*float64(n)/float64(all))
}

// order puts what worked first.
func order(o Outcome) int {
	return slices.Index([]Outcome{Succeeded, Failed, Resisted, Refused, Blocked, Skipped}, o)
}
