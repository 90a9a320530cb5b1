package outgoing

import (
	"html"
	"net/netip"
	"regexp"
	"strings"
	"unicode"

	"golang.org/x/net/idna"

	"aran/service/guard/canon"
	"aran/service/guard/detect"
)

// From what length on a part of an address could carry something away, in bytes.
const (
	longQuery   = 48  // of query or fragment
	longPath    = 160 // of a path
	longPart    = 40  // of one part of a path that is no word
	longLabel   = 30  // of one label of a host
	longHost    = 90
	manyLabels  = 6
	manyDigits  = 8 // in the address of something that is loaded without a click
	linkContext = 512
	longestURL  = 4 << 10
)

// Edit replaces [Start, End) of a text.
type Edit struct {
	Start, End int
	Text       string
}

// Link is a finding and the edits that make it harmless and keep it readable: hxxps://evil[.]example.
type Link struct {
	detect.Finding

	Edits []Edit
}

// Hosts are those that images and links may point to: exact, or *.example.org for all below.
type Hosts []string

// Has reports whether a host is among them.
func (h Hosts) Has(host string) bool {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	for _, a := range h {
		a = strings.ToLower(a)
		if below, wild := strings.CutPrefix(a, "*"); a == host || wild && strings.HasPrefix(below, ".") && strings.HasSuffix(host, below) {
			return true
		}
	}
	return false
}

// How an address is used.
const (
	plainUse  = iota // in the text
	linkUse          // behind a click
	namedUse         // a definition, which an image elsewhere may use
	loadedUse        // without a click: images, frames, style sheets
)

var (
	bare = regexp.MustCompile(`(?i)(?:https?|ftps?|wss?):[/\\]|\bwww\.[a-z0-9-]|\bmailto:[^\s?]+\?`)
	// Markdown decodes entities and escapes in an address, so what stands behind an opener need not look like one.
	opener  = regexp.MustCompile(`(?i)\]\(\s*<?|\]:\s*<?|[\s"'/;](?:src|srcset|href|xlink:href|action|formaction|poster|background|data|cite|ping|longdesc|manifest|lowsrc|dynsrc|code|archive|profile|url)\s*=\s*["']?|\burl\(\s*["']?|@import\s+["']?|<`)
	clicked = regexp.MustCompile(`(?i)<a\s[^<>]*href\s*=\s*["']?$`)
	scheme  = regexp.MustCompile(`^([a-zA-Z][a-zA-Z0-9+.-]{0,30}):`)
)

// Links finds addresses in a whole text that could carry data away. See Addresses.
func Links(s string, allow []string) (out []detect.Finding) {
	for _, l := range Addresses(s, 0, allow) {
		out = append(out, l.Finding)
	}
	return out
}

// Addresses finds addresses that could carry data away, in Markdown, HTML, style sheets or plain text: what is loaded from other
// hosts without a click; links with long queries, paths or hosts; hosts that look like others; and what is no web address at
// all (javascript:, data:). Hosts of the allow list pass. Only what ends behind from is reported: what stands before it was
// looked at earlier and only says what the rest means.
func Addresses(s string, from int, allow Hosts) []Link {
	if !strings.ContainsAny(s[from:], `:/\&`) && !strings.Contains(strings.ToLower(s[from:]), "www.") {
		return nil
	}
	var out []Link
	seen := -1 // up to where addresses have been judged
	judge := func(at, use int) {
		if at < from || at < seen || at >= len(s) {
			return
		}
		end := at + addressEnd(s[at:], use, at > 0 && s[at-1] == '<')
		if l, ok := address(s, at, end, use, allow); ok {
			out = append(out, l)
			seen = end
		}
	}
	start := max(0, from-linkContext)
	places := opener.FindAllStringIndex(s[start:], -1)
	words := bare.FindAllStringIndex(s[max(start, from-8):], -1)
	w := 0
	upTo := func(limit int) {
		for ; w < len(words); w++ {
			at := words[w][0] + max(start, from-8)
			if at >= limit {
				return
			}
			judge(at, plainUse)
		}
	}
	for _, p := range places {
		at, end := start+p[0], start+p[1]
		upTo(at)
		judge(end, use(s, at, end))
	}
	upTo(len(s) + 1)
	return out
}

// use says how the address behind an opener is used.
func use(s string, at, end int) int {
	o := s[at:end]
	before := s[max(0, at-linkContext):at]
	switch {
	case o == "<":
		return linkUse
	case strings.HasPrefix(o, "](") && isImage(before):
		return loadedUse
	case strings.HasPrefix(o, "]("):
		return linkUse
	case strings.HasPrefix(o, "]:"):
		return namedUse
	case clicked.MatchString(s[max(0, at-linkContext):end]):
		return linkUse
	}
	return loadedUse
}

// isImage reports whether the text before ]( belongs to an image: ![ is open, or its beginning is too far away to be seen.
func isImage(before string) bool {
	depth := 0
	for i := len(before) - 1; i >= 0; i-- {
		switch before[i] {
		case ']':
			depth++
		case '[':
			if depth == 0 {
				return i > 0 && before[i-1] == '!'
			}
			depth--
		}
	}
	return len(before) >= linkContext-4
}

// addressEnd is where an address ends.
func addressEnd(s string, use int, bracketed bool) int {
	stops := " \t\n\r<>\"'`"
	switch {
	case use == plainUse:
		stops += "\u3000"
	case !bracketed:
		stops += ")"
	}
	s = s[:min(len(s), longestURL)]
	if i := strings.IndexAny(s, stops); i >= 0 {
		s = s[:i]
	}
	if use == plainUse {
		s = strings.TrimRight(s, ".,;:!?)]}*_")
	}
	return len(s)
}

// read gives an address as a browser reads it: entities and escapes decoded, control signs dropped, backslashes turned.
func read(raw string, use int) string {
	if use != plainUse {
		raw = html.UnescapeString(raw)
		raw = escaped.ReplaceAllString(raw, "$1")
	}
	raw = strings.Map(func(r rune) rune {
		if r <= ' ' || r == 0x7f || unicode.Is(unicode.Cf, r) {
			return -1
		}
		return r
	}, raw)
	head, rest := raw, ""
	if i := strings.IndexAny(raw, "?#"); i >= 0 {
		head, rest = raw[:i], raw[i:]
	}
	return strings.ReplaceAll(head, `\`, "/") + rest
}

var escaped = regexp.MustCompile(`\\([!-/:-@[-` + "`" + `{-~])`)

// address judges s[at:end].
func address(s string, at, end, use int, allow Hosts) (Link, bool) {
	raw := s[at:end]
	text := read(raw, use)
	if use == plainUse && strings.HasPrefix(strings.ToLower(text), "www.") {
		text = "http://" + text
	}
	named := scheme.FindStringSubmatch(text)
	found := func(rule, why string) (Link, bool) {
		return Link{detect.Finding{Kind: "link", Rule: rule, Score: 1, Start: at, End: end, Why: why}, defang(raw, at)}, true
	}
	switch {
	case named == nil && !strings.HasPrefix(text, "//"):
		return Link{}, false // within this site
	case use == linkUse && at > 0 && s[at-1] == '<' && !strings.HasPrefix(s[end:], ">"):
		return Link{}, false // no autolink
	}
	kind := ""
	if named != nil {
		kind = strings.ToLower(named[1])
	}
	switch kind {
	case "http", "https", "ftp", "ftps", "ws", "wss", "":
	case "mailto":
		if _, query, _ := strings.Cut(text, "?"); len(query) > longQuery {
			return found("query", "It is a link to a mail whose text is filled in.")
		}
		return Link{}, false
	case "tel", "sms", "hxxp", "hxxps", "fxp", "fxps", "cid", "mid", "urn", "doi":
		return Link{}, false
	case "data":
		if use == loadedUse && dataImage.MatchString(text) {
			return Link{}, false // it shows what it holds and loads nothing
		}
		return found("scheme", "Its address holds content of its own, which a browser would open.")
	default:
		return found("scheme", "Its address is no web address; a browser might run it.")
	}
	if named != nil {
		text = text[len(named[0]):]
	}
	host, rest, user := parts(text)
	if strings.Contains(host, "[.]") {
		return Link{}, false // it was made harmless before
	}
	if allow.Has(host) && (kind == "http" || kind == "https" || kind == "") && !user {
		return Link{}, false
	}
	if rule, why := suspicious(host, rest, user, use); rule != "" {
		return found(rule, why)
	}
	return Link{}, false
}

var dataImage = regexp.MustCompile(`(?i)^data:image/(?:png|gif|jpe?g|webp|avif|bmp);base64,[A-Za-z0-9+/=]*$`)

// parts takes an address behind its scheme apart, as browsers do: any number of slashes may stand before the host.
func parts(text string) (host, rest string, user bool) {
	text = strings.TrimLeft(text, "/")
	end := strings.IndexAny(text, "/?#")
	if end < 0 {
		end = len(text)
	}
	host, rest = text[:end], text[end:]
	if i := strings.LastIndexByte(host, '@'); i >= 0 {
		host, user = host[i+1:], true
	}
	if strings.HasPrefix(host, "[") {
		if i := strings.IndexByte(host, ']'); i >= 0 {
			return host[:i+1], rest, user
		}
	}
	host, _, _ = strings.Cut(host, ":")
	return host, rest, user
}

// suspicious says why an address of another host could carry something away; an empty rule means that it is an ordinary one.
func suspicious(host, rest string, user bool, use int) (rule, why string) {
	path, query := rest, ""
	if i := strings.IndexAny(rest, "?#"); i >= 0 {
		path, query = rest[:i], rest[i+1:]
	}
	switch {
	case use == loadedUse:
		return "image", "It is loaded from a host that is not on the allow list, without a click."
	case user:
		return "userinfo", "Its address has a name or password before the host."
	case strings.ContainsRune(host, '%'):
		return "encoded", "The host of its address is disguised."
	case lookAlike(host):
		return "idn", "The host of its address imitates another one with letters of other scripts."
	case numeric(host):
		return "numeric", "The host of its address is a number."
	case dataHost(host):
		return "host", "The host of its address is long enough to carry data."
	case len(query) > longQuery:
		return "query", "The query of its address is long enough to carry data."
	case len(path) > longPath || dataPath(path):
		return "path", "The path of its address is long enough to carry data."
	case use == namedUse && (query != "" || digitsIn(path) >= manyDigits || imagePath.MatchString(path)):
		return "reference", "It defines an address that an image could load without a click."
	}
	return "", ""
}

var imagePath = regexp.MustCompile(`(?i)\.(?:png|gif|jpe?g|webp|svg|avif|bmp|ico)$`)

// lookAlike reports whether a host has letters of other scripts that look like Latin ones.
func lookAlike(host string) bool {
	if strings.Contains(strings.ToLower(host), "xn--") {
		u, err := idna.ToUnicode(host)
		if err != nil {
			return true
		}
		host = u
	}
	for label := range strings.SplitSeq(host, ".") {
		foreign := strings.ContainsFunc(label, func(r rune) bool { return r > unicode.MaxASCII && unicode.IsLetter(r) && !unicode.Is(unicode.Latin, r) })
		if !foreign {
			continue
		}
		if plain := canon.Plain(label).Plain; !strings.ContainsFunc(plain, func(r rune) bool { return r > unicode.MaxASCII }) {
			return true
		}
		if strings.ContainsFunc(label, func(r rune) bool { return unicode.Is(unicode.Latin, r) }) {
			return true
		}
	}
	return false
}

// numeric reports whether a host is an address of the network beyond this machine and its own network, or one that is written
// so that nobody sees which: 198.51.100.7, 2130706433, 0x7f.1, [2001:db8::7].
func numeric(host string) bool {
	if a, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return !a.IsLoopback() && !a.IsPrivate()
	}
	if strings.HasPrefix(host, "[") {
		return true
	}
	labels := strings.Split(strings.TrimSuffix(strings.ToLower(host), "."), ".")
	last := labels[len(labels)-1]
	return last != "" && (strings.Trim(last, "0123456789") == "" || strings.HasPrefix(last, "0x"))
}

func dataHost(host string) bool {
	labels := strings.Split(host, ".")
	for i, l := range labels {
		if len(l) > longLabel || i < len(labels)-2 && len(l) >= 16 && digitsIn(l) >= 4 {
			return true
		}
	}
	return len(host) > longHost || len(labels) > manyLabels
}

// dataPath reports whether a part of a path is long and no words: code of some kind.
func dataPath(path string) bool {
	for part := range strings.SplitSeq(path, "/") {
		if len(part) < longPart {
			continue
		}
		words := strings.FieldsFunc(part, func(r rune) bool { return strings.ContainsRune("-_.+ ~", r) })
		longest := 0
		for _, w := range words {
			longest = max(longest, len(w))
		}
		if longest >= longPart || digitsIn(part) >= 20 || strings.Count(part, "%") >= 8 {
			return true
		}
	}
	return false
}

func digitsIn(s string) (n int) {
	for i := range len(s) {
		if s[i] >= '0' && s[i] <= '9' {
			n++
		}
	}
	return n
}

// defang makes the address at the place at harmless: its scheme is spelled wrong and the dots of its host are in brackets.
func defang(raw string, at int) []Edit {
	var out []Edit
	lower := strings.ToLower(raw)
	host := 0
	switch colon := strings.IndexByte(raw, ':'); {
	case strings.HasPrefix(lower, "http"):
		out = append(out, Edit{at + 1, at + 3, "xx"})
		host = colon + 1
	case strings.HasPrefix(lower, "www."), strings.HasPrefix(lower, "//"):
	case strings.HasPrefix(lower, "ftp"):
		out = append(out, Edit{at, at + 2, "fx"})
		host = colon + 1
	case scheme.MatchString(raw):
		out = append(out, Edit{at + colon, at + colon + 1, "[:]"})
		host = colon + 1
		if !strings.HasPrefix(raw[host:], "//") {
			return out
		}
	default: // spelled with entities or escapes: nothing of it may stay
		return []Edit{{at, at + len(raw), "[removed: link]"}}
	}
	for host < len(raw) && (raw[host] == '/' || raw[host] == '\\') {
		host++
	}
	end := len(raw)
	if i := strings.IndexAny(raw[host:], "/\\?#"); i >= 0 {
		end = host + i
	}
	dots := 0
	for i, r := range raw[host:end] {
		n := 0
		switch {
		case r == '.':
			n = 1
		case r == '。' || r == '．' || r == '｡':
			n = len(string(r))
		case r == '%' && strings.HasPrefix(strings.ToLower(raw[host+i:end]), "%2e"):
			n = 3
		}
		if n > 0 {
			out = append(out, Edit{at + host + i, at + host + i + n, "[.]"})
			dots++
		}
	}
	if len(out) == 0 || dots == 0 && strings.HasPrefix(raw, "//") {
		return []Edit{{at, at + len(raw), "[removed: link]"}}
	}
	return out
}
