package pseudonym

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
)

// Host is the reserved name (RFC 2606) under which e-mail addresses and links are replaced.
const Host = "redacted.example"

// letters make tags: no vowels, so no words, and none that is taken for another.
const (
	letters = "bcdfghjkmnpqrstvwxz"
	symbols = letters + "23456789"
	tagSize = 5
)

// source draws from a keyed hash: the same key and name give the same numbers.
type source struct {
	key  []byte
	name string
	n    uint32
	buf  []byte
}

func (s *source) below(n int) int {
	if len(s.buf) < 4 {
		h := hmac.New(sha256.New, s.key)
		h.Write(binary.BigEndian.AppendUint32(nil, s.n))
		h.Write([]byte(s.name))
		s.buf = h.Sum(nil)
		s.n++
	}
	x := binary.BigEndian.Uint32(s.buf)
	s.buf = s.buf[4:]
	return int(x % uint32(n)) //nolint:gosec // n is a small constant
}

func (s *source) digits(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = '0' + byte(s.below(10)) //nolint:gosec // below 10
	}
	return string(b)
}

func (s *source) tag() string {
	b := []byte{letters[s.below(len(letters))]}
	for len(b) < tagSize {
		b = append(b, symbols[s.below(len(symbols))])
	}
	return string(b)
}

// labels stand before the tag of what has no format worth keeping. All others are called after their kind.
func label(kind string) string {
	switch kind {
	case "pii.person":
		return "Person"
	case "pii.place":
		return "Place"
	case "pii.organisation":
		return "Org"
	case "secret":
		return "Secret"
	case "pii.birth_date":
		return "Date"
	case "pii.national_id", "pii.tax_id", "pii.health_id":
		return "Id"
	case Literal:
		return "Term"
	}
	name, _, _ := strings.Cut(strings.TrimPrefix(kind, "pii."), "_")
	name = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' {
			return r
		}
		return -1
	}, name)
	if name == "" || len(name) > 12 {
		return "Data"
	}
	return strings.ToUpper(name[:1]) + name[1:]
}

// coin makes a pseudonym for a value. Each attempt gives another one.
func coin(key []byte, kind, value string, attempt int) string {
	s := &source{key: key, name: kind + "\x00" + fold(kind, value) + "\x00" + strconv.Itoa(attempt)}
	switch kind {
	case "pii.email":
		if value == strings.ToLower(value) {
			return "mail-" + s.tag() + "@" + Host
		}
		return "Mail-" + strings.ToUpper(s.tag()) + "@" + Host
	case "pii.url":
		return "https://" + Host + "/" + s.tag()
	case "pii.phone":
		if shaped(value) {
			return likeValue(phone(s, value), value)
		}
	case "pii.card":
		if shaped(value) {
			return likeValue(card(s, countDigits(value)), value)
		}
	case "pii.ip":
		if attempt < 8 {
			return address(s, value)
		}
	}
	return label(kind) + "-" + strings.ToUpper(s.tag())
}

// address is one for documentation (RFC 5737, RFC 3849); always with three digits at its end, so that none begins another.
func address(s *source, value string) string {
	if strings.Contains(value, ":") {
		const hex = "123456789abcdef"
		b := []byte("2001:db8:")
		for range 2 {
			b = append(b, ':')
			for range 4 {
				b = append(b, hex[s.below(len(hex))])
			}
		}
		return string(b)
	}
	return []string{"192.0.2.", "198.51.100.", "203.0.113."}[s.below(3)] + strconv.Itoa(100+s.below(156))
}

// card is a number that no issuer has: ISO/IEC 7812-1 keeps 0 at the front for others, and its check digit is wrong.
func card(s *source, n int) string {
	b := []byte("0" + s.digits(n-1))
	sum := 0
	for i := range b {
		x := int(b[i] - '0')
		if (len(b)-i)%2 == 0 {
			if x *= 2; x > 9 {
				x -= 9
			}
		}
		sum += x
	}
	if sum%10 == 0 {
		b[n-1] = '0' + (b[n-1]-'0'+1)%10
	}
	return string(b)
}

// phone is a number of the same length and country that reaches nobody: of the ranges kept for fiction in North America
// (555-0100 to 0199) and the United Kingdom (07700 900000 to 900999), elsewhere one whose subscriber's part begins with 0, as no
// subscriber's does.
func phone(s *source, value string) string {
	var b strings.Builder
	for _, c := range value {
		if c >= '0' && c <= '9' {
			b.WriteRune(c)
		}
	}
	d := b.String()
	north := func() string {
		return string([]byte{'2' + byte(s.below(8)), '0' + byte(s.below(9))}) + s.digits(1) + "55501" + s.digits(2) //nolint:gosec // below 10
	}
	international := strings.HasPrefix(strings.TrimLeft(value, "("), "+")
	switch {
	case international && d[0] == '1' && len(d) == 11:
		return "1" + north()
	case international && strings.HasPrefix(d, "447") && len(d) == 12:
		return "447700900" + s.digits(3)
	case international:
		n := min(countryCode(d), len(d)-4)
		return d[:n] + "0" + s.digits(len(d)-n-1)
	case strings.HasPrefix(d, "07") && len(d) == 11:
		return "07700900" + s.digits(3)
	case len(d) == 10 && d[0] >= '2' && d[0] <= '5': // nobody's in India, where mobile numbers begin with 6 to 9
		return north()
	}
	return "00" + s.digits(len(d)-2)
}

// countryCode is the length of a number's country code (ITU-T E.164 annex).
func countryCode(d string) int {
	switch {
	case d[0] == '1' || d[0] == '7':
		return 1
	case slices.Contains([]string{"20", "27", "30", "31", "32", "33", "34", "36", "39", "40", "41", "43", "44", "45", "46", "47", "48", "49", "51", "52", "53", "54", "55", "56", "57", "58", "60", "61", "62", "63", "64", "65", "66", "81", "82", "84", "86", "90", "91", "92", "93", "94", "95", "98"}, d[:2]):
		return 2
	}
	return 3
}

// shaped reports whether a value is digits in groups, so that a pseudonym can have its form.
func shaped(value string) bool {
	first, between, n := strings.IndexAny(value, "0123456789"), 0, 0
	if first < 0 || first > leadMost || strings.Trim(value[:first], "+(") != "" {
		return false
	}
	for i := first; i < len(value); {
		_, size, sort := classify(value[i:])
		switch {
		case sort == digit:
			n, between = n+1, 0
		case sort != mark || between == betweenMost:
			return false
		default:
			between++
		}
		i += size
	}
	return between == 0 && n >= 7 && n <= 19
}

func countDigits(s string) (n int) {
	for i := range len(s) {
		if s[i] >= '0' && s[i] <= '9' {
			n++
		}
	}
	return n
}

// likeValue puts digits into the groups of a value.
func likeValue(digits, value string) string {
	b := []byte(value)
	n := 0
	for i, c := range b {
		if c >= '0' && c <= '9' {
			b[i] = digits[n]
			n++
		}
	}
	return string(b)
}

// stemOf is a pseudonym as a matcher sees it.
func stemOf(p string) (text string, digits bool) {
	var b []byte
	if shaped(p) && strings.Count(p, ".") != 3 { // an address has three points, and is a word
		for i := range len(p) {
			if p[i] >= '0' && p[i] <= '9' {
				b = append(b, p[i])
			}
		}
		return string(b), true
	}
	for i := 0; i < len(p); {
		c, size, _ := classify(p[i:])
		b = append(b, c)
		i += size
	}
	return string(b), false
}

// spellings of a pseudonym, so that those of a value can have one each. The first is how it was made.
func spellings(p string) []string {
	name, tag, _ := strings.Cut(p, "-")
	all := []string{p, strings.ToUpper(p), strings.ToLower(p)}
	if tag != "" {
		first := strings.ToUpper(name[:1]) + strings.ToLower(name[1:])
		all = append(all, first+"-"+strings.ToLower(tag), strings.ToLower(name)+"-"+strings.ToUpper(tag), first+"-"+strings.ToUpper(tag))
	}
	out := all[:0]
	for _, s := range all {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}
