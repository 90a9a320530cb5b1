package canon

import (
	"html"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	around     = 256 // bytes before and after an escape that are read with it
	longestRef = 32  // bytes of a character reference of HTML
)

// written is one character written in another way.
type written struct {
	start, end int
	text       string
	how        string
}

// escapes reads characters that are written as escapes where they stand: %69, &#105;, \u0069, \x69, \151, U+0069, =69 of
// quoted-printable, and strings that are put together with a plus. Escapes near each other are one text with what is around.
func escapes(s string) (out []code) {
	var near []written
	flush := func() {
		if len(near) > 0 {
			if c, ok := resolve(s, near); ok {
				out = append(out, c)
			}
		}
		near = near[:0]
	}
	quoted := quotedPrintable(s)
	for i := 0; i < len(s); {
		w, ok := escape(s, i, quoted)
		if !ok {
			i++
			continue
		}
		if n := len(near); n > 0 && i-near[n-1].end > around {
			flush()
		}
		near = append(near, w)
		i = w.end
	}
	flush()
	return out
}

// quotedPrintable says whether a text has enough escapes of quoted-printable (RFC 2045 §6.7) to be written in it.
func quotedPrintable(s string) bool {
	n := 0
	for i := strings.IndexByte(s, '='); i >= 0 && i+2 < len(s); {
		if _, ok := hexByte(s[i+1 : i+3]); ok || s[i+1] == '\n' || s[i+1] == '\r' {
			if n++; n >= 3 {
				return true
			}
		}
		next := strings.IndexByte(s[i+1:], '=')
		if next < 0 {
			break
		}
		i += 1 + next
	}
	return false
}

func hexByte(s string) (byte, bool) {
	if len(s) < 2 {
		return 0, false
	}
	h, ok := hexDigit(s[0])
	l, fine := hexDigit(s[1])
	return h<<4 | l, ok && fine
}

// escape reads one escape that begins at i.
func escape(s string, i int, quoted bool) (written, bool) { //nolint:revive // a fact about the text
	rest := s[i:]
	switch s[i] {
	case '%':
		if strings.HasPrefix(rest, "%u") {
			return hexRune(rest, i, 2, 4, 4)
		}
		return bytesOf(rest, i, '%', "url")
	case '=':
		if quoted && len(rest) > 1 && (rest[1] == '\n' || strings.HasPrefix(rest[1:], "\r\n")) {
			return written{i, i + 2 + int(rest[1]&1), "", "quoted-printable"}, true
		}
		if quoted {
			return bytesOf(rest, i, '=', "quoted-printable")
		}
	case '&':
		if end := strings.IndexByte(rest[:min(len(rest), longestRef)], ';'); end > 1 {
			if text := html.UnescapeString(rest[:end+1]); text != rest[:end+1] && text != "&" {
				return written{i, i + end + 1, text, "html"}, true
			}
		}
	case '\\':
		if len(rest) < 3 {
			break
		}
		switch rest[1] {
		case 'u':
			if rest[2] == '{' {
				if w, ok := hexRune(rest, i, 3, 1, 6); ok && w.end < len(s) && s[w.end] == '}' {
					w.end++
					return w, true
				}
				break
			}
			return hexRune(rest, i, 2, 4, 4)
		case 'U':
			return hexRune(rest, i, 2, 8, 8)
		case 'x':
			return hexRune(rest, i, 2, 2, 2)
		case '0', '1':
			if len(rest) >= 4 && rest[2] >= '0' && rest[2] <= '7' && rest[3] >= '0' && rest[3] <= '7' {
				return printable(i, i+4, rune(rest[1]-'0')<<6|rune(rest[2]-'0')<<3|rune(rest[3]-'0'), "octal")
			}
		}
	case 'U':
		if strings.HasPrefix(rest, "U+") {
			w, ok := hexRune(rest, i, 2, 4, 6)
			if ok && w.end+2 < len(s) && s[w.end] == ' ' && s[w.end+1] == 'U' && s[w.end+2] == '+' {
				w.end++ // the space that sets them apart
			}
			return w, ok
		}
	case '"', '\'':
		return joined(rest, i)
	}
	return written{}, false
}

// joined reads `" + "`: two strings that are put together.
func joined(rest string, i int) (written, bool) {
	k := 1
	plus := false
	for k < len(rest) && k < 8 && (rest[k] == ' ' || rest[k] == '+' || rest[k] == '\n') {
		plus = plus || rest[k] == '+'
		k++
	}
	if plus && k < len(rest) && rest[k] == rest[0] {
		return written{i, i + k + 1, "", "joined"}, true
	}
	return written{}, false
}

// bytesOf reads a row of bytes after a sign: %e2%82%ac is one character.
func bytesOf(rest string, i int, sign byte, how string) (written, bool) {
	var b []byte
	k := 0
	for k+2 < len(rest) && rest[k] == sign && len(b) < utf8.UTFMax {
		c, ok := hexByte(rest[k+1 : k+3])
		if !ok {
			break
		}
		b, k = append(b, c), k+3
		if utf8.FullRune(b) {
			break
		}
	}
	r, n := utf8.DecodeRune(b)
	if n == 0 || n != len(b) || r == utf8.RuneError {
		return written{}, false
	}
	return printable(i, i+k, r, how)
}

// hexRune reads from least to most hexadecimal digits that begin at from.
func hexRune(rest string, i, from, least, most int) (written, bool) {
	v, n := rune(0), 0
	for n < most && from+n < len(rest) {
		d, ok := hexDigit(rest[from+n])
		if !ok {
			break
		}
		v = v<<4 | rune(d)
		n++
	}
	if n < least {
		return written{}, false
	}
	return printable(i, i+from+n, v, "unicode")
}

func printable(start, end int, r rune, how string) (written, bool) {
	if r < ' ' && r != '\n' && r != '\t' && r != '\r' || !utf8.ValidRune(r) {
		return written{}, false
	}
	return written{start, end, string(r), how}, true
}

// resolve puts the characters in the place of their escapes, with what stands around them.
func resolve(s string, near []written) (code, bool) {
	from := max(0, near[0].start-around)
	to := min(len(s), near[len(near)-1].end+around)
	for from > 0 && !utf8.RuneStart(s[from]) {
		from--
	}
	for to < len(s) && !utf8.RuneStart(s[to]) {
		to++
	}
	var hows []string
	telling := false
	text := make([]byte, 0, to-from)
	at := make([]int32, 0, to-from+1)
	copyTo := func(from, to int) {
		for ; from < to; from++ {
			text, at = append(text, s[from]), append(at, int32(from)) //nolint:gosec // texts are at most some megabytes
		}
	}
	last := from
	for _, w := range near {
		copyTo(last, w.start)
		text = append(text, w.text...)
		for range len(w.text) {
			at = append(at, int32(w.start)) //nolint:gosec // texts are at most some megabytes
		}
		last = w.end
		if !slices.Contains(hows, w.how) {
			hows = append(hows, w.how)
		}
		// Spaces and quotes are escaped in honest texts all the time.
		telling = telling || w.how == "joined" || w.text != "" && w.text != " " && w.text != "\u00a0" && w.text != "\"" && w.text != "'" && w.text != "\n"
	}
	if len(near) >= 3 {
		telling = true
	}
	copyTo(last, to)
	at = append(at, int32(to)) //nolint:gosec // texts are at most some megabytes
	return code{string(text), strings.Join(hows, "+"), at}, telling
}
