package pii

import "strings"

// maxDigits of any number that is looked for.
const maxDigits = 19

// window is a run of groups of digits, taken as one number.
type window struct {
	first, last int    // tokens
	digits      string // without marks
	form        string // lengths of the groups, a letter each: "ddb" is 4-4-2
	sep         string // the mark between all of them, or "?" when it differs
	start, end  int
}

// numbers looks at a chain of digit groups from token i on. It returns the token after it.
func (x *scanner) numbers(i int) int {
	last := i
	for last+1 < len(x.tokens) {
		n := x.tokens[last+1]
		if n.letters > 0 || !groupMark(x.between(last)) {
			break
		}
		last++
	}
	for a := i; a <= last; {
		next := a + 1
		var w window
		var buf [maxDigits]byte
		var form [maxDigits]byte
		n, groups := 0, 0
		for b := a; b <= last; b++ {
			t := x.tokens[b]
			if int(t.end-t.start)+n > maxDigits {
				break
			}
			n += copy(buf[n:], x.text(t))
			form[groups] = 'a' - 1 + byte(t.end-t.start) //nolint:gosec // at most 19
			groups++
			switch {
			case groups == 2:
				w.sep = x.between(b - 1)
			case groups > 2 && x.between(b-1) != w.sep:
				w.sep = "?"
			}
			if n < 3 {
				continue
			}
			w.first, w.last, w.digits, w.form, w.start, w.end = a, b, string(buf[:n]), string(form[:groups]), int(x.tokens[a].start), int(t.end)
			if x.number(w, a == i, b == last) {
				next = max(next, b+1)
			}
		}
		a = next
	}
	return last + 1
}

// groupMark reports whether a mark may stand between the groups of one number.
func groupMark(s string) bool {
	switch s {
	case " ", "-", ".", "/", ") ", ")", " (", "(", " - ", "-(", ")-", "\u00a0", "\u2011", "\u2010", "\u2013", "\u202f":
		return true
	}
	return false
}

// number judges one run of groups. It says whether one was found with certainty, so that no other is looked for in it. whole
// means that the chain begins, or ends, with it.
func (x *scanner) number(w window, begins, ends bool) bool { //nolint:revive,gocyclo,cyclop,funlen // one case a number
	d, n, before := w.digits, len(w.digits), len(x.out)
	plain := w.form == string([]byte{byte('a' - 1 + n)}) //nolint:gosec // at most 19
	spaced := w.sep == " " || w.sep == "-" || w.sep == "\u00a0" || w.sep == "\u2011"
	whole := begins && ends && !x.inCode(w.start, w.end)
	var known bool
	var words uint64
	ctx := func() uint64 {
		if !known {
			known, words = true, x.context(w.first, w.last)
		}
		return words
	}
	if x.birthday(w, ctx) {
		return true
	}
	if n >= 12 && (n > 12 || ctx()&cCard != 0) && isCard(d) && (plain || spaced && cardForm(w.form)) {
		score := near(0.99, 0.9, ctx(), cCard)
		if plain {
			score = near(0.99, 0.7, ctx(), cCard)
		}
		if !begins || !ends {
			score -= 0.15
		}
		if !plain || whole || ctx()&cCard != 0 {
			x.add("pii.card", "card", score, w.start, w.end)
		}
	}
	switch n {
	case 7, 8:
		if plain && ctx()&(cAccount|cLicence|cPassport) != 0 && whole {
			x.labelled(w, ctx())
		}
	case 9:
		switch {
		case w.form == "cbd" && spaced && isITIN(d):
			x.add("pii.itin", "us.itin", near(0.95, 0.7, ctx(), cTax|cSSN), w.start, w.end)
		case w.form == "cbd" && spaced && isSSN(d):
			score := near(0.97, 0.85, ctx(), cSSN)
			if w.sep != "-" {
				score = near(0.95, 0.5, ctx(), cSSN)
			}
			x.add("pii.ssn", "us.ssn", score, w.start, w.end)
		case w.form == "bg" && w.sep == "-":
			x.add("pii.ein", "us.ein", near(0.9, 0.4, ctx(), cEIN|cTax), w.start, w.end)
		}
		if !plain && w.form != "ccc" || !whole {
			break
		}
		c := ctx()
		switch {
		case c&cDutch != 0 && isBSN(d):
			x.add("pii.national_id", "eu.nl.bsn", 0.95, w.start, w.end)
		case c&cRouting != 0 && isABA(d):
			x.add("pii.routing", "us.routing", 0.93, w.start, w.end)
		case c&cSSN != 0 && isSSN(d):
			x.add("pii.ssn", "us.ssn", 0.85, w.start, w.end)
		case c&cSSN != 0 && isITIN(d), c&cTax != 0 && isITIN(d):
			x.add("pii.itin", "us.itin", 0.85, w.start, w.end)
		default:
			x.labelled(w, c)
		}
	case 10:
		c := ctx()
		switch {
		case c&cHealth != 0 && isNHS(d) && (plain || w.form == "ccd"):
			x.add("pii.health_id", "eu.gb.nhs", 0.93, w.start, w.end)
		case c&cNPI != 0 && plain && isNPI(d):
			x.add("pii.npi", "us.npi", 0.93, w.start, w.end)
		case c&(cAccount|cLicence) != 0 && c&cPhone == 0 && plain && whole:
			x.labelled(w, c)
		}
	case 11:
		switch {
		case w.form == "bbbcb" && isBelgian(d):
			x.add("pii.national_id", "eu.be.national", 0.95, w.start, w.end)
		case (plain || w.form == "bccc") && isSteuerID(d) && whole:
			score := near(0.97, 0.45, ctx(), cTax)
			if !plain {
				score = near(0.97, 0.7, ctx(), cTax)
			}
			x.add("pii.tax_id", "eu.de.steuer_id", score, w.start, w.end)
		case plain && isPESEL(d) && whole:
			x.add("pii.national_id", "eu.pl.pesel", near(0.97, 0.6, ctx(), cIdentity), w.start, w.end)
		case plain && isBelgian(d) && whole:
			x.add("pii.national_id", "eu.be.national", near(0.93, 0.4, ctx(), cIdentity), w.start, w.end)
		case plain && whole:
			x.labelled(w, ctx())
		}
	case 12:
		if isAadhaar(d) && (plain && whole || w.form == "ddd" && spaced) {
			score := near(0.97, 0.55, ctx(), cAadhaar)
			if !plain {
				score = near(0.99, 0.85, ctx(), cAadhaar)
				if !begins || !ends {
					score = near(0.97, 0.3, ctx(), cAadhaar)
				}
			}
			x.add("pii.aadhaar", "in.aadhaar", score, w.start, w.end)
		} else if plain && whole {
			x.labelled(w, ctx())
		}
	case 13, 14, 17, 18:
		if plain && whole {
			x.labelled(w, ctx())
		}
	case 15:
		switch {
		case isNIR(d) && (plain || w.form == "abbbccb" || w.form == "mb" || w.form == "abbbcc"):
			x.add("pii.national_id", "eu.fr.nir", near(0.97, 0.85, ctx(), cIdentity|cSSN), w.start, w.end)
		case luhn(d) && (plain || w.form == "bffa") && ctx()&cIMEI != 0:
			x.add("pii.imei", "imei", 0.95, w.start, w.end)
		case plain && whole:
			x.labelled(w, ctx())
		}
	case 16:
		if verhoeff(d) && ctx()&cVID != 0 && (plain || w.form == "dddd") {
			x.add("pii.vid", "in.vid", 0.95, w.start, w.end)
		} else if plain && whole {
			x.labelled(w, ctx())
		}
	}
	x.postcode(w, whole, ctx)
	x.phone(w, begins, ends, ctx)
	for _, f := range x.out[before:] {
		if f.Score >= 0.8 {
			return true
		}
	}
	return false
}

// labelled finds numbers that have no check digit, by what they are called.
func (x *scanner) labelled(w window, c uint64) {
	n := len(w.digits)
	switch {
	case c&cPassport != 0 && n <= 9:
		x.add("pii.passport", "passport", 0.8, w.start, w.end)
	case c&cLicence != 0 && n <= 12:
		x.add("pii.driving_licence", "us.driving_licence", 0.7, w.start, w.end)
	case c&cAccount != 0 && c&cPhone == 0:
		x.add("pii.account", "account", 0.75, w.start, w.end)
	}
}

func cardForm(form string) bool {
	switch form {
	case "dddd", "dfe", "dddda", "dddddc", "ddddc", "dfd", "ddddb":
		return true
	}
	return false
}

// inCode reports whether a number is a part of something longer: a decimal, a path, a handle.
func (x *scanner) inCode(start, end int) bool {
	if start > 0 {
		switch c := x.s[start-1]; c {
		case '_', '$', '#', '=', '.', '/', '-':
			if c == '.' && start > 1 && (x.s[start-2] < '0' || x.s[start-2] > '9') {
				break
			}
			return c != '=' && c != '#'
		}
	}
	return end+1 < len(x.s) && (x.s[end] == '.' && x.s[end+1] >= '0' && x.s[end+1] <= '9' || x.s[end] == '_' || x.s[end] == '@')
}

// birthday finds a date that words near it call somebody's birth.
func (x *scanner) birthday(w window, ctx func() uint64) bool {
	n := len(w.digits)
	if w.sep != "/" && w.sep != "-" && w.sep != "." && w.sep != " " || n < 6 || n > 8 {
		return false
	}
	var a, b, y int
	switch w.form {
	case "bbd", "abd", "bad", "aad", "bbb", "aab", "abb", "bab":
		parts := strings.FieldsFunc(x.s[w.start:w.end], func(r rune) bool { return r < '0' || r > '9' })
		a, b, y = number(parts[0]), number(parts[1]), number(parts[2])
	case "dbb":
		y, a, b = number(w.digits[:4]), number(w.digits[4:6]), number(w.digits[6:])
	default:
		return false
	}
	if a < 1 || b < 1 || a > 31 || b > 31 || a > 12 && b > 12 || y > 99 && (y < 1900 || y > 2100) {
		return false
	}
	if ctx()&cBirth == 0 || !x.labels(w, cBirth) {
		return w.form != "abb" && w.sep != " " // a date, and no other number
	}
	x.add("pii.birth_date", "birth_date", 0.9, w.start, w.end)
	return true
}

// labels reports whether a word of a meaning belongs to this number and to no other: none stands between them.
func (x *scanner) labels(w window, meaning uint64) bool {
	for i := w.first - 1; i >= max(0, w.first-wordsBefore) && x.tokens[i].digits == 0; i-- {
		if x.meaning(x.tokens[i])&meaning != 0 {
			return true
		}
	}
	for i := w.last + 1; i < min(len(x.tokens), w.last+3) && x.tokens[i].digits == 0; i++ {
		if x.meaning(x.tokens[i])&meaning != 0 {
			return true
		}
	}
	return false
}

// postcode finds codes that words near them call so.
func (x *scanner) postcode(w window, whole bool, ctx func() uint64) { //nolint:revive // a fact about the number
	switch {
	case len(w.digits) == 6 && (w.form == "f" || w.form == "cc" && w.sep == " ") && w.digits[0] != '0':
		c := near(0.85, 0.3, ctx(), cPost)
		if c < 0.5 && w.form == "f" && whole && x.labels(w, cAddress) {
			c = 0.6
		}
		x.add("pii.postcode", "in.postcode", c, w.start, w.end)
	case whole && (w.form == "c" || w.form == "d" || w.form == "bc" && w.sep == "-") && ctx()&cPost != 0:
		x.add("pii.postcode", "eu.postcode", 0.75, w.start, w.end)
	case w.form == "e" && whole && ctx()&cPost != 0, w.form == "ed" && w.sep == "-" && ctx()&(cPost|cAddress) != 0:
		x.add("pii.postcode", "us.postcode", 0.8, w.start, w.end)
	}
}
