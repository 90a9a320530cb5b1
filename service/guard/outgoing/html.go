package outgoing

import (
	"regexp"
	"strings"

	"aran/service/guard/detect"
)

// harmless tags change how words look and nothing else. They pass without attributes, behind other words of their line: alone
// on a line, a tag makes raw HTML of all that follows (CommonMark 0.31, §4.6).
var harmless = map[string]bool{ //nolint:gochecknoglobals // a constant table
	"b": true, "i": true, "u": true, "s": true, "em": true, "strong": true, "sub": true, "sup": true, "br": true, "wbr": true,
	"kbd": true, "mark": true, "small": true, "del": true, "ins": true, "var": true, "samp": true, "abbr": true, "q": true,
}

var (
	tag      = regexp.MustCompile(`<(?:[/!?]?)([a-zA-Z!?\[][^\s<>/]*|--)?`)
	autolink = regexp.MustCompile(`^<(?:[a-zA-Z][a-zA-Z0-9+.-]{1,31}:[^\s<>]*|[a-zA-Z0-9.!#$%&'*+/=?^_{|}~-]{1,64}@[a-zA-Z0-9.-]{1,255})>`)
	closing  = regexp.MustCompile(`^\s{0,2}/?>`)
)

// HTML finds tags in a text that a page would run or load something for, outside of code blocks: what stands before from was
// looked at earlier, and code knows up to there. The edit behind a finding writes the sign that begins the tag as &lt;, so that
// the text stays readable.
func HTML(s string, from int, code *Fences) []Link {
	if !strings.Contains(s[from:], "<") {
		return nil
	}
	f := *code
	f.line = append([]byte(nil), code.line...)
	var out []Link
	fed := from
	for _, m := range tag.FindAllStringSubmatchIndex(s[from:], -1) {
		at, end := from+m[0], from+m[1]
		f.Write(s[fed:at])
		fed = at
		if f.Code() || m[2] < 0 || autolink.MatchString(s[at:]) || f.Span(s[at:]) {
			continue
		}
		name := strings.ToLower(s[from+m[2] : from+m[3]])
		alone := strings.TrimLeft(string(f.line), " \t>*+-.)0123456789#|") == ""
		close := closing.FindStringIndex(s[end:])
		if harmless[name] && close != nil && !alone && !f.over {
			continue
		}
		if close != nil {
			end += close[1]
		}
		rule, why := "tag", "A page that shows it as HTML would take it for a tag."
		switch {
		case scripted[name]:
			rule, why = "script", "A page that shows it as HTML would run it."
		case loading[name]:
			rule, why = "embed", "A page that shows it as HTML would load something for it."
		}
		out = append(out, Link{detect.Finding{Kind: "html", Rule: rule, Score: 1, Start: at, End: end, Why: why}, []Edit{{at, at + 1, "&lt;"}}})
	}
	return out
}

var (
	scripted = set("script", "svg", "math", "object", "embed", "applet", "iframe", "frame", "frameset", "base", "meta", "template", "noscript", "portal", "xml", "foreignobject", "animate")                                                      //nolint:gochecknoglobals // a constant table
	loading  = set("img", "image", "link", "style", "video", "audio", "source", "track", "picture", "form", "input", "button", "textarea", "select", "body", "html", "head", "table", "td", "bgsound", "isindex", "keygen", "menuitem", "dialog") //nolint:gochecknoglobals // a constant table
)

func set(names ...string) map[string]bool {
	out := map[string]bool{}
	for _, n := range names {
		out[n] = true
	}
	return out
}
