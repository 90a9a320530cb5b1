package taint

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"aran/service/guard/canon"
)

// Kinds of values at which a tool could be aimed.
const (
	kindHost    = "host"    // of a URL
	kindAddress = "address" // e-mail and payment addresses: name@place
	kindAccount = "account" // long codes and numbers: accounts, cards, telephones, wallets
	kindAmount  = "amount"  // numbers behind or before a currency, and in arguments every number
	kindName    = "name"    // of a host or file, without a scheme: report.pdf, evil.example
)

// value is one of them, in a form that does not depend on how it was written.
type value struct{ kind, text string }

// digest names a value in a conversation: 8 bytes of SHA-256.
func (v value) digest(key string) uint64 {
	sum := sha256.Sum256([]byte(key + "\x00" + v.kind + "\x00" + v.text))
	return binary.LittleEndian.Uint64(sum[:8])
}

const (
	maxValues     = 4096 // of one text
	fewestDigits  = 6    // of a number that could be an account
	fewestInMoney = 2    // of an amount that is worth following
	fewestInPlain = 4    // of a number without a currency that is taken for an amount
)

// fold makes letters that look the same the same, and drops what nobody sees.
func fold(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return r >= utf8.RuneSelf }) {
		return strings.ToLower(s)
	}
	return strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Mn, r) {
			return -1
		}
		return unicode.ToLower(r)
	}, norm.NFKC.String(s))
}

// valuesIn finds the values of a text, and of the texts that it hides in codes; all is false when there are more than are
// looked at. It takes linear time.
func valuesIn(s string) (out []value, all bool) {
	out, all = valuesOf(fold(s), fewestInPlain)
	for _, hidden := range canon.Decode(s) {
		more, whole := valuesOf(fold(hidden.Text), fewestInPlain)
		out, all = append(out, more...), all && whole
	}
	return out, all
}

// valuesOf finds the values of a folded text in one pass over its words. A number without a currency that has so many digits
// may be an amount.
func valuesOf(s string, plain int) (out []value, all bool) {
	f := finder{plain: plain, all: true}
	words := strings.FieldsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || strings.ContainsRune("\"<>()[]{}|\\^`;*", r) })
	before, here := false, false
	for i, w := range words {
		if i == 0 {
			here = currency(w)
		}
		after := i+1 < len(words) && currency(words[i+1])
		f.word(w, before || here || after)
		before, here = here, after
	}
	f.apart()
	return f.out, f.all
}

// finder collects values from one word after the other.
type finder struct {
	plain int
	out   []value
	all   bool
	run   []string // words before this one that are groups of one number or code
}

func (f *finder) add(kind, text string) {
	switch {
	case text == "":
	case len(f.out) < maxValues:
		f.out = append(f.out, value{kind, text})
	default:
		f.all = false
	}
}

func (f *finder) word(w string, money bool) { //nolint:revive // a fact about the word
	if !f.group(w) {
		f.apart()
	}
	for rest := w; ; {
		_, after, found := strings.Cut(rest, "://")
		if !found {
			break
		}
		h := hostOf(after)
		f.add(kindHost, h)
		f.add(kindName, h)
		rest = after
	}
	for i := strings.IndexByte(w, '@'); i >= 0; {
		left := strings.TrimLeft(w[len(strings.TrimRightFunc(w[:i], inAddress)):i], ".-%+")
		end := i + 1 + len(w[i+1:]) - len(strings.TrimLeftFunc(w[i+1:], inPlace))
		right := strings.TrimRight(w[i+1:end], ".-")
		if left != "" && right != "" {
			f.add(kindAddress, left+"@"+right)
		}
		next := strings.IndexByte(w[i+1:], '@')
		if next < 0 {
			break
		}
		i += 1 + next
	}
	for piece := range strings.FieldsFuncSeq(w, func(r rune) bool { return !inPlace(r) && r != '_' }) {
		if name(piece) {
			f.add(kindName, strings.TrimPrefix(strings.Trim(piece, ".-_"), "www."))
		}
		for code := range strings.SplitSeq(piece, ".") {
			if len(code) >= shortestCode && strings.ContainsAny(code, "0123456789") && strings.ContainsFunc(code, unicode.IsLetter) {
				f.add(kindAccount, code)
			}
		}
	}
	for n := range strings.FieldsFuncSeq(w, func(r rune) bool { return !inNumber(r) }) {
		n = strings.Trim(n, ".,'/-")
		if d := digitsOf(n); len(d) >= fewestDigits {
			f.add(kindAccount, d)
		}
		if a := amountOf(n); money || len(a) >= f.plain && (f.plain < fewestInPlain || !year(a)) {
			f.add(kindAmount, a)
		}
	}
}

// group takes a word in that may be one group of a number or code that is written in groups: 4111 1111 … or DE89 3704 …
func (f *finder) group(w string) bool {
	w = strings.Trim(w, ".,:'")
	if w == "" || len(w) > longestGroup || !strings.ContainsAny(w, "0123456789") || strings.ContainsFunc(w, func(r rune) bool {
		return !inNumber(r) && (r < 'a' || r > 'z')
	}) {
		return false
	}
	f.run = append(f.run, w)
	if len(f.run) > mostGroups {
		f.run = f.run[1:]
	}
	return true
}

// apart ends a run of groups.
func (f *finder) apart() {
	if len(f.run) > 1 {
		whole := strings.Join(f.run, "")
		if d := digitsOf(whole); len(d) >= fewestDigits {
			f.add(kindAccount, d)
		}
		if len(whole) >= shortestCode && strings.ContainsFunc(whole, unicode.IsLetter) {
			f.add(kindAccount, whole)
		}
	}
	f.run = f.run[:0]
}

const (
	shortestCode = 12 // bytes, with letters and digits
	longestGroup = 20
	mostGroups   = 12
)

func inPlace(r rune) bool   { return r == '.' || r == '-' || unicode.IsLetter(r) || unicode.IsDigit(r) }
func inAddress(r rune) bool { return inPlace(r) || r == '_' || r == '%' || r == '+' }
func inNumber(r rune) bool  { return r >= '0' && r <= '9' || strings.ContainsRune(".,'/-", r) }

// name reports whether a word is named like a host or file: its last label has letters only.
func name(w string) bool {
	w = strings.Trim(w, ".-_")
	i := strings.LastIndexByte(w, '.')
	return i > 0 && len(w)-i > 2 && !strings.ContainsFunc(w[i+1:], func(r rune) bool { return !unicode.IsLetter(r) })
}

// currency reports whether a word names one, or bears its sign.
func currency(w string) bool {
	if strings.ContainsAny(w, "$€£¥₹") {
		return true
	}
	w = strings.Trim(w, "0123456789.,'/-:")
	switch w {
	case "usd", "eur", "inr", "gbp", "chf", "jpy", "rs", "euro", "euros", "dollar", "dollars", "rupee", "rupees", "pound", "pounds":
		return true
	}
	return false
}

// hostOf is the host in what stands behind the :// of a URL, whatever stands before an @.
func hostOf(s string) string {
	if i := strings.IndexAny(s, "/?#,'"); i >= 0 {
		s = s[:i]
	}
	s = s[strings.LastIndexByte(s, '@')+1:]
	if i := strings.IndexByte(s, ':'); i >= 0 {
		s = s[:i]
	}
	return strings.TrimPrefix(strings.Trim(s, ".!_"), "www.")
}

// year says that a number is one of our time: too common to follow.
func year(s string) bool { return len(s) == 4 && (s[:2] == "19" || s[:2] == "20") }

func digitsOf(s string) string {
	return strings.Map(func(r rune) rune {
		if r < '0' || r > '9' {
			return -1
		}
		return r
	}, s)
}

// amountOf writes a number without separators: 5,000.00 and 5.000,00 and 5000 are the same. Small ones are empty.
func amountOf(s string) string {
	whole, cents := s, ""
	if i := strings.LastIndexAny(s, ".,"); i >= 0 && len(s)-i-1 <= 2 {
		whole, cents = s[:i], strings.TrimRight(digitsOf(s[i+1:]), "0")
	}
	whole = strings.TrimLeft(digitsOf(whole), "0")
	if cents != "" {
		return whole + "." + cents
	}
	if len(whole) < fewestInMoney {
		return ""
	}
	return whole
}

// Values is a bounded set of digests. What it has no room for makes it full: then it may be that anything stood there.
type Values struct {
	list []uint64 // ascending
	full bool
}

// maxKept bounds a set: 32 KB.
const maxKept = 4096

// add reports whether that changed anything.
func (v *Values) add(digests []uint64, all bool) bool {
	if v.full {
		return false
	}
	before := len(v.list)
	list := slices.Clone(v.list)
	for _, d := range digests {
		if !v.has(d) {
			list = append(list, d)
		}
	}
	slices.Sort(list)
	list = slices.Compact(list)
	v.full = !all || len(list) > maxKept
	v.list = list[:min(len(list), maxKept)]
	return v.full || len(v.list) > before
}

func (v *Values) join(o Values) { v.add(o.list, !o.full) }

func (v *Values) has(d uint64) bool {
	_, there := slices.BinarySearch(v.list, d)
	return there
}

// Full says that not everything is in the set.
func (v *Values) Full() bool { return v.full }

// MarshalBinary packs the set: a byte that says whether it is full, and 8 bytes for each digest.
func (v *Values) MarshalBinary() ([]byte, error) {
	out := make([]byte, 1, 1+8*len(v.list))
	if v.full {
		out[0] = 1
	}
	for _, d := range v.list {
		out = binary.LittleEndian.AppendUint64(out, d)
	}
	return out, nil
}

// UnmarshalBinary unpacks it. Bytes of any other form are an error.
func (v *Values) UnmarshalBinary(b []byte) error {
	if len(b) == 0 {
		*v = Values{}
		return nil
	}
	if (len(b)-1)%8 != 0 || b[0] > 1 || len(b) > 1+8*maxKept {
		return errMalformed
	}
	out := Values{full: b[0] == 1, list: make([]uint64, 0, len(b)/8)}
	for rest := b[1:]; len(rest) > 0; rest = rest[8:] {
		d := binary.LittleEndian.Uint64(rest)
		if n := len(out.list); n > 0 && out.list[n-1] >= d {
			return errMalformed
		}
		out.list = append(out.list, d)
	}
	*v = out
	return nil
}
