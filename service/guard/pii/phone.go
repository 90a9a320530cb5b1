package pii

import (
	"strings"

	"github.com/nyaruka/phonenumbers"
)

// dialled are the country codes of the regions whose national form of a number is understood, by pack.
var dialled = map[string][]string{ //nolint:gochecknoglobals // a constant table
	India: {"91"}, States: {"1"}, Europe: {"44", "49", "33", "34", "39", "31", "32", "48", "351", "353", "46", "43", "41"},
}

// phone finds telephone numbers; a library knows which ones countries give out.
func (x *scanner) phone(w window, begins, ends bool, ctx func() uint64) { //nolint:revive // facts about the number
	n := len(w.digits)
	if n < 7 || n > 15 || !x.opt.wants("pii.phone", "phone") {
		return
	}
	start := w.start
	for start > 0 && w.start-start < 2 && (x.s[start-1] == '+' || x.s[start-1] == '(') {
		start--
	}
	international := strings.Contains(x.s[start:w.start], "+")
	if !international && start < w.start && !strings.Contains(x.s[w.start:w.end], ")") {
		start = w.start
	}
	if !begins && !international || x.inCode(start, w.end) || w.sep == "/" && len(w.form) > 2 || w.sep == "." && len(w.form) == 2 && !international {
		return
	}
	if international {
		if !ends && len(w.digits) < 11 {
			return // the rest belongs to it
		}
		p := parsed(w.digits)
		switch {
		case common(w.digits), phonenumbers.IsValidNumber(p):
			x.add("pii.phone", "phone.international", 0.95, start, w.end)
		case ends && phonenumbers.IsPossibleNumber(p):
			x.add("pii.phone", "phone.international", near(0.8, 0.6, ctx(), cPhone), start, w.end)
		case ends && n >= 9:
			x.add("pii.phone", "phone.international", 0.55, start, w.end)
		}
		return
	}
	if !ends {
		return
	}
	d, c := w.digits, ctx()
	if c&(cAadhaar|cPAN|cAccount|cRouting|cCard|cSSN|cNPI|cHealth|cIMEI|cIdentity|cTax|cMedicare|cPassport|cLicence|cDutch) != 0 && c&cPhone == 0 {
		return
	}
	score := 0.0
	switch {
	case n == 10 && d[0] >= '6' && (w.form == "j" || w.form == "ee" || w.form == "ccd" || w.form == "ddb") && x.valid(d, "in"):
		score = near(0.95, 0.65, c, cPhone)
	case (n == 10 || n == 11 && d[0] == '1') && strings.HasSuffix(w.form, "ccd") && x.valid(d, "us"):
		score = near(0.95, 0.8, c, cPhone)
	case n == 13 && strings.HasPrefix(d, "001") && strings.HasSuffix(w.form, "ccd"):
		score = 0.8
	case n == 10 && w.form == "j" && c&cPhone != 0 && x.valid(d, "us"):
		score = 0.85
	case n >= 9 && d[0] == '0' && len(w.form) > 1 && x.valid(d, "eu"):
		score = near(0.95, 0.7, c, cPhone)
	case n >= 10 && d[0] == '0' && x.valid(d, "eu", "in"):
		score = near(0.9, 0.3+float64(n-10)*0.25, c, cPhone)
	case (n == 12 && strings.HasPrefix(d, "91") && d[2] >= '6' || n == 11 && d[0] == '0' && d[1] >= '6') && x.valid(d, "in"):
		score = near(0.9, 0.5, c, cPhone)
	case c&cPhone != 0 && n >= 9 && x.valid(d, "in", "us", "eu"):
		score = 0.8
	case c&cPhone != 0 && (n == 7 && w.form == "cd" || n >= 8 && n <= 13 && c&(cBirth|cTime) == 0 && w.form != "bbd" && w.form != "dbb"):
		score = 0.6
	case (n == 10 || n == 11) && strings.HasSuffix(w.form, "ccd") && w.sep != " ": // three, three, four, but of no area that exists
		score = 0.6
	}
	if score > 0 {
		x.add("pii.phone", "phone.national", score, start, w.end)
	}
}

// valid asks about the regions of packs: the library, or for India's mobile numbers and North America the rule itself.
func (x *scanner) valid(digits string, packs ...string) bool {
	for _, pack := range packs {
		if !x.opt.has(pack) {
			continue
		}
		for _, code := range dialled[pack] {
			national := strings.TrimPrefix(digits, "0")
			switch {
			case strings.HasPrefix(digits, code) && len(digits) > 10 && digits[0] != '0':
				national = digits[len(code):]
			case code == "39" || code == "34" || code == "48":
				national = digits // these have no trunk prefix
			}
			switch {
			case common(code + national):
				return true
			case code == "1":
			case digits[0] == '0' || national != strings.TrimPrefix(digits, "0") || code != "44" && code != "49":
				if phonenumbers.IsValidNumber(parsed(code + national)) {
					return true
				}
			}
		}
	}
	return false
}

// common reports whether a number with its country code is one of India's mobiles or of North America: their rule is simple, and
// the library takes 20 µs.
func common(d string) bool {
	switch {
	case d[0] == '1' && len(d) == 11:
		return d[1] >= '2' && d[4] >= '2' && d[2:4] != "11" && d[5:7] != "11"
	case strings.HasPrefix(d, "91") && len(d) == 12:
		return d[2] >= '6'
	}
	return false
}

// parsed is a number that begins with its country code, without the library's own way of reading texts, which is slow.
func parsed(d string) *phonenumbers.PhoneNumber {
	code := 3
	switch {
	case d[0] == '1' || d[0] == '7':
		code = 1
	case twoDigits[d[:2]]:
		code = 2
	}
	p := &phonenumbers.PhoneNumber{}
	country, national, zero := int32(number(d[:code])), uint64(number(d[code:])), d[code] == '0' //nolint:gosec // three and twelve digits
	p.CountryCode, p.NationalNumber = &country, &national
	if zero {
		if d[:code] != "39" { // a zero that many write and nobody dials: +44 (0)20
			return p
		}
		p.ItalianLeadingZero = &zero
	}
	return p
}

// twoDigits are the country codes of two digits (ITU-T E.164 annex); 1 and 7 have one, all others three.
var twoDigits = set("20 27 30 31 32 33 34 36 39 40 41 43 44 45 46 47 48 49 51 52 53 54 55 56 57 58 60 61 62 63 64 65 66 81 82 84 86 90 91 92 93 94 95 98") //nolint:gochecknoglobals // a constant table
