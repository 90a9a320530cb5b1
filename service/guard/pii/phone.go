package pii

import (
	"strings"

	"github.com/nyaruka/phonenumbers"
)

// regions whose national form of a number is understood, by pack.
var regions = map[string][]string{ //nolint:gochecknoglobals // a constant table
	"in": {"IN"}, "us": {"US"}, "eu": {"GB", "DE", "FR", "ES", "IT", "NL", "BE", "PL", "PT", "IE", "SE", "AT", "CH"},
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
	if !begins && !international || x.inCode(start, w.end) || w.sep == "/" && len(w.form) > 2 {
		return
	}
	if international {
		if !ends && len(w.digits) < 11 {
			return // the rest belongs to it
		}
		if p, err := phonenumbers.Parse("+"+w.digits, ""); err == nil {
			switch {
			case phonenumbers.IsValidNumber(p):
				x.add("pii.phone", "phone.international", 0.95, start, w.end)
			case phonenumbers.IsPossibleNumber(p):
				x.add("pii.phone", "phone.international", near(0.8, 0.6, ctx(), cPhone), start, w.end)
			}
		} else if n >= 9 && ends {
			x.add("pii.phone", "phone.international", 0.55, start, w.end)
		}
		return
	}
	if !ends {
		return
	}
	d, c := w.digits, ctx()
	if c&(cAadhaar|cPAN|cAccount|cRouting|cCard|cSSN|cNPI|cHealth|cIMEI) != 0 && c&cPhone == 0 {
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
	case c&cPhone != 0 && (n == 7 && w.form == "cd" || n >= 8 && n <= 13 && c&(cBirth|cTime) == 0):
		score = 0.6
	case (n == 10 || n == 11) && strings.HasSuffix(w.form, "ccd") && w.sep != " ": // three, three, four, but of no area that exists
		score = 0.6
	}
	if score > 0 {
		x.add("pii.phone", "phone.national", score, start, w.end)
	}
}

// valid asks the library about the regions of packs.
func (x *scanner) valid(digits string, packs ...string) bool {
	for _, pack := range packs {
		if !x.opt.has(pack) {
			continue
		}
		for _, r := range regions[pack] {
			if p, err := phonenumbers.Parse(digits, r); err == nil && phonenumbers.IsValidNumberForRegion(p, r) {
				return true
			}
		}
	}
	return false
}
