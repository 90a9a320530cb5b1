package pii

import (
	"net/netip"
	"net/url"
	"strings"

	"aran/service/guard/pseudonym"
)

// emails finds addresses around every @, and UPI ids, which have a bank's handle where others have a host.
func (x *scanner) emails() {
	for from := 0; ; {
		at := strings.IndexByte(x.s[from:], '@')
		if at < 0 {
			return
		}
		at += from
		from = at + 1
		start := at
		for start > 0 && at-start < 64 && localByte(x.s[start-1]) {
			start--
		}
		for start < at && strings.IndexByte(".'-", x.s[start]) >= 0 {
			start++
		}
		end := at + 1
		for end < len(x.s) && end-at < 254 && hostByte(x.s[end]) {
			end++
		}
		end = at + 1 + len(strings.TrimRight(x.s[at+1:end], ".-"))
		if start == at || end == at+1 || x.s[at-1] == '.' {
			continue
		}
		host := x.s[at+1 : end]
		dot := strings.LastIndexByte(host, '.')
		switch {
		case dot > 0 && !strings.Contains(host, "..") && host[0] != '.' && isTLD(host[dot+1:]):
			if !strings.EqualFold(host, pseudonym.Host) {
				x.add("pii.email", "email", 0.99, start, end)
			}
		case dot < 0 && end-at > 2:
			x.upi(start, at, end)
		}
	}
}

func localByte(c byte) bool { return wordByte(c) || strings.IndexByte(".%&'+-~", c) >= 0 }

func hostByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c >= 0x80 || c == '.' || c == '-'
}

func isTLD(s string) bool {
	if len(s) < 2 || len(s) > 24 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c < 0x80 && (i < 2 || !strings.HasPrefix(strings.ToLower(s), "xn--")) {
			return false
		}
	}
	return true
}

// upiHandles are those of India's payment apps and banks (NPCI).
var upiHandles = set("okaxis oksbi okhdfcbank okicici ybl ibl axl paytm ptaxis ptsbi pthdfc ptyes upi apl yapl rapl abfspay axisb axisbank sbi icici hdfcbank hdfcbankjd kotak kmbl indus indusind yesbank yesbankltd yesg rbl federal fbl idfcbank idfcfirst idbi pnb boi barodampay cnrb unionbank uboi centralbank cbin iob indianbank allbank andb aubank dbs hsbc citi citigold sc equitas esaf jupiteraxis fam freecharge ikwik mahb jio pingpay timecosmos tapicici sliceaxis goaxb naviaxis superyes waaxis wahdfcbank waicici wasbi airtel postbank dlb kvb csbpay tmb lvb ubi uco nsdl pockets myicici payzapp axisgo eazypay amazonpay trans bhim") //nolint:gochecknoglobals // a constant table

// set makes one of words.
func set(words string) map[string]bool {
	out := map[string]bool{}
	for w := range strings.FieldsSeq(words) {
		out[w] = true
	}
	return out
}

func (x *scanner) upi(start, at, end int) {
	handle := strings.ToLower(x.s[at+1 : end])
	if strings.Trim(handle, "abcdefghijklmnopqrstuvwxyz0123456789") != "" || at-start < 2 {
		return
	}
	switch {
	case upiHandles[handle]:
		x.add("pii.upi", "in.upi", 0.95, start, end)
	case len(handle) >= 3 && x.contextAt(start, end)&cUPI != 0:
		x.add("pii.upi", "in.upi", 0.75, start, end)
	}
}

// contextAt is context for a place that is no token.
func (x *scanner) contextAt(start, end int) uint64 {
	i, j := x.tokenAt(start), x.tokenAt(end)
	if len(x.tokens) == 0 {
		return 0
	}
	i, j = min(i, len(x.tokens)-1), min(max(j-1, i), len(x.tokens)-1)
	return x.context(i, j)
}

// tokenAt is the first token that begins at or after a place.
func (x *scanner) tokenAt(pos int) int {
	lo, hi := 0, len(x.tokens)
	for lo < hi {
		if mid := (lo + hi) / 2; int(x.tokens[mid].start) < pos {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// urls finds links, and passwords in them.
func (x *scanner) urls() {
	for from := 0; ; {
		at := strings.Index(x.s[from:], "://")
		if at < 0 {
			break
		}
		at += from
		from = at + 3
		start := at
		for start > 0 && at-start < 20 && (isLetter(x.s[start-1]) || strings.IndexByte("+.-0123456789", x.s[start-1]) >= 0 && start > 1) {
			start--
		}
		for start < at && !isLetter(x.s[start]) {
			start++
		}
		for _, known := range []string{"https", "http"} { // behind a line's end that is written as in JSON
			if strings.HasSuffix(x.s[start:at], known) {
				start = at - len(known)
				break
			}
		}
		end := x.urlEnd(from)
		if start == at || end <= from {
			continue
		}
		x.url(start, from, end)
		from = end
	}
	for from := 0; ; {
		at := strings.Index(x.s[from:], "www.")
		if at < 0 {
			return
		}
		at += from
		from = at + 4
		end := x.urlEnd(from)
		if end > from+3 && (at == 0 || x.s[at-1] != '/' && !isLetter(x.s[at-1])) && strings.IndexByte(x.s[from:end], '.') > 0 {
			score := 0.4
			if strings.IndexByte(x.s[at:end], '?') >= 0 {
				score = 0.75
			}
			x.add("pii.url", "url", score, at, end)
		}
		from = max(from, end)
	}
}

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

var noURL = [256]bool{'"': true, '<': true, '>': true, '`': true, '{': true, '}': true, '|': true, '\\': true, '^': true} //nolint:gochecknoglobals // a constant table

// urlEnd is where a link ends: before white space, quotes and brackets, and before a sentence's last mark.
func (x *scanner) urlEnd(from int) int {
	end := from
	for end < len(x.s) && end-from < 2048 && x.s[end] > ' ' && !noURL[x.s[end]] {
		end++
	}
	for range 8 {
		if end == from {
			break
		}
		switch c := x.s[end-1]; {
		case strings.IndexByte(".,;:!?'*_", c) >= 0:
			end--
		case c == ')' && strings.IndexByte(x.s[from:end], '(') < 0, c == ']' && strings.IndexByte(x.s[from:end], '[') < 0:
			end--
		default:
			return end
		}
	}
	return end
}

func (x *scanner) url(start, host, end int) {
	raw := x.s[start:end]
	rest := x.s[host:end]
	authority := rest
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority = rest[:i]
	}
	if i := strings.LastIndexByte(authority, '@'); i > 0 {
		if c := strings.IndexByte(authority[:i], ':'); c >= 0 && c+1 < i {
			if pass := authority[c+1 : i]; !placeholder(pass) {
				x.add("secret", "secret.url", 0.95, host+c+1, host+i)
			}
		}
		x.add("pii.url", "url.user", 0.8, start, end)
		return
	}
	scheme := strings.ToLower(x.s[start : host-3])
	if scheme != "http" && scheme != "https" && scheme != "ftp" || strings.HasPrefix(strings.ToLower(rest), pseudonym.Host) {
		return
	}
	score := 0.4 // a link is nobody's data by itself
	if u, err := url.Parse(raw); err == nil && u.RawQuery != "" {
		score = 0.75
	}
	x.add("pii.url", "url", score, start, end)
}

// addresses finds IP and MAC addresses.
func (x *scanner) addresses() {
	for i := 0; i+3 < len(x.tokens); i++ {
		t := x.tokens[i]
		if t.letters == 0 && t.end-t.start <= 3 && x.between(i) == "." && x.between(i+1) == "." && x.between(i+2) == "." {
			start, end := int(t.start), int(x.tokens[i+3].end)
			if start > 0 && (x.s[start-1] == '.' || x.s[start-1] == '-') || end+1 < len(x.s) && x.s[end] == '.' && x.s[end+1] >= '0' && x.s[end+1] <= '9' {
				continue
			}
			if a, err := netip.ParseAddr(x.s[start:end]); err == nil && a.Is4() {
				score := 0.9
				switch {
				case a.IsLoopback() || a.IsUnspecified() || a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
					score = 0.45
				case t.end-t.start == 1 && i > 0 && isVersion(strings.ToLower(x.text(x.tokens[i-1]))):
					score = 0.2
				}
				x.add("pii.ip", "ip.v4", score, start, end)
				i += 3
			}
		}
	}
	for from := 0; ; {
		at := strings.IndexByte(x.s[from:], ':')
		if at < 0 {
			break
		}
		at += from
		start, end := at, at
		for start > from && hexOrColon(x.s[start-1]) {
			start--
		}
		for end < len(x.s) && end-start < 64 && hexOrColon(x.s[end]) {
			end++
		}
		from = max(end, at+1)
		end = start + len(strings.TrimSuffix(x.s[start:end], "."))
		s := x.s[start:end]
		if strings.HasSuffix(s, ":") && !strings.HasSuffix(s, "::") {
			s, end = s[:len(s)-1], end-1
		}
		if start > 0 && wordByte(x.s[start-1]) || end < len(x.s) && wordByte(x.s[end]) || len(s) < 3 {
			continue
		}
		if strings.Count(s, ":") == 5 && isMAC(s, ":") {
			x.add("pii.mac", "mac", 0.95, start, end)
		} else if strings.Count(s, ":") >= 2 {
			if a, err := netip.ParseAddr(s); err == nil && a.Is6() && !a.IsUnspecified() && !a.IsLoopback() && len(s) > 4 {
				x.add("pii.ip", "ip.v6", 0.95, start, end)
			}
		}
	}
	for i := 0; i+5 < len(x.tokens); i++ {
		if t := x.tokens[i]; t.end-t.start == 2 && x.between(i) == "-" {
			end := int(x.tokens[i+5].end)
			if s := x.s[t.start:end]; len(s) == 17 && isMAC(s, "-") {
				x.add("pii.mac", "mac", 0.9, int(t.start), end)
				i += 5
			}
		}
	}
}

func isVersion(w string) bool { return w == "version" || w == "v" || w == "release" || w == "ver" }

func hexOrColon(c byte) bool {
	return c == ':' || c == '.' || c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func wordByte(c byte) bool { return isLetter(c) || c >= '0' && c <= '9' || c == '_' }

func isMAC(s, mark string) bool {
	parts := strings.Split(s, mark)
	if len(parts) != 6 {
		return false
	}
	for _, p := range parts {
		if len(p) != 2 || !hexOrColon(p[0]) || !hexOrColon(p[1]) || strings.ContainsAny(p, ":.") {
			return false
		}
	}
	return s != "00:00:00:00:00:00"
}

// coordinates finds pairs of degrees with at least three digits behind the point.
func (x *scanner) coordinates() {
	for i := 0; i+3 < len(x.tokens); i++ {
		if x.tokens[i].letters > 0 || x.tokens[i].end-x.tokens[i].start > 3 || x.between(i) != "." {
			continue
		}
		a, b, c := x.tokens[i+1], x.tokens[i+2], x.tokens[i+3]
		if a.letters > 0 || b.letters > 0 || c.letters > 0 || a.end-a.start < 3 || c.end-c.start < 3 || b.end-b.start > 3 || x.between(i+2) != "." {
			continue
		}
		if m := strings.TrimRight(x.between(i+1), "-"); m != "," && m != ", " && m != " " && m != "; " && m != "/" {
			continue
		}
		lat, lon := number(x.text(x.tokens[i])), number(x.text(b))
		if lat > 90 || lon > 180 {
			continue
		}
		start := int(x.tokens[i].start)
		if start > 0 && (x.s[start-1] == '-' || x.s[start-1] == '+') {
			start--
		}
		score := near(0.95, 0.45, x.context(i, i+3), cPlace)
		if a.end-a.start >= 4 && c.end-c.start >= 4 {
			score = max(score, 0.75)
		}
		x.add("pii.coordinates", "coordinates", score, start, int(c.end))
		i += 3
	}
}
