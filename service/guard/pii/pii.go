// Package pii finds personal data and secrets.
//
// It is pure: no clock, no network, no state. Every function takes linear time (RE2), whatever the text.
package pii

import (
	"regexp"
	"slices"
	"strings"

	"aran/platform/auth"
	"aran/service/guard/detect"
)

// pattern finds candidates of a kind; check, if any, tells real ones from look-alikes.
type pattern struct {
	kind, rule string
	re         *regexp.Regexp
	check      func(s string) bool
}

var patterns = []pattern{ //nolint:gochecknoglobals // a constant table
	{"secret", "key.aran", regexp.MustCompile(`\baran_(?:live|test)_[A-Za-z0-9]{38}\b`), auth.CheckAPIKey},
	{"secret", "key.aran_refresh", regexp.MustCompile(`\baran_refresh_[A-Za-z0-9_-]{43}`), nil},
	{"secret", "key.anthropic", regexp.MustCompile(`\bsk-ant-[A-Za-z0-9_-]{24,}`), nil},
	{"secret", "key.openai", regexp.MustCompile(`\bsk-(?:proj-|svcacct-)?[A-Za-z0-9_-]{32,}`), nil},
	{"secret", "key.aws", regexp.MustCompile(`\b(?:AKIA|ASIA)[A-Z0-9]{16}\b`), nil},
	{"secret", "key.github", regexp.MustCompile(`\b(?:ghp|gho|ghu|ghs|ghr)_[A-Za-z0-9]{36}\b|\bgithub_pat_[A-Za-z0-9_]{60,}`), nil},
	{"secret", "key.google", regexp.MustCompile(`\bAIza[A-Za-z0-9_-]{35}`), nil},
	{"secret", "key.slack", regexp.MustCompile(`\bxox[abprs]-[A-Za-z0-9-]{20,}`), nil},
	{"secret", "jwt", regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}`), nil},
	{"secret", "private_key", regexp.MustCompile(`-----BEGIN [A-Z ]*PRIVATE KEY-----[A-Za-z0-9+/=\s]*(?:-----END [A-Z ]*PRIVATE KEY-----)?`), nil},
	{"pii.email", "email", regexp.MustCompile(`\b[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})*\.[A-Za-z]{2,24}\b`), nil},
	{"pii.card", "card", regexp.MustCompile(`\b\d(?:[ -]?\d){12,18}\b`), isCard},
	{"pii.aadhaar", "aadhaar", regexp.MustCompile(`\b[2-9]\d{3}[ -]?\d{4}[ -]?\d{4}\b`), isAadhaar},
	{"pii.iban", "iban", regexp.MustCompile(`\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b`), isIBAN},
	{"pii.ssn", "ssn", regexp.MustCompile(`\b\d{3}-\d{2}-\d{4}\b`), isSSN},
	{"pii.phone", "phone", regexp.MustCompile(`\+\d(?:[ -]?\d){8,14}\b`), nil},
}

// Options choose what is looked for. The zero value finds what stands for itself: numbers with check digits, addresses, keys.
type Options struct {
	Names bool // persons, places and organisations as well, by lists and context
}

// Find finds personal data and secrets as the options say.
func (o Options) Find(s string) []detect.Finding { return Find(s) }

// Find finds personal data and secrets. Findings do not overlap: of two, the one that begins first stays.
func Find(s string) []detect.Finding {
	var all []detect.Finding
	for _, p := range patterns {
		for _, m := range p.re.FindAllStringIndex(s, -1) {
			if p.check == nil || p.check(s[m[0]:m[1]]) {
				all = append(all, detect.Finding{Kind: p.kind, Rule: p.rule, Score: 1, Start: m[0], End: m[1]})
			}
		}
	}
	return detect.Apart(all)
}

func digits(s string) []int {
	out := make([]int, 0, len(s))
	for _, c := range s {
		if c >= '0' && c <= '9' {
			out = append(out, int(c-'0'))
		}
	}
	return out
}

// isCard checks ISO/IEC 7812-1: length and the Luhn sum. A run of one digit is no card.
func isCard(s string) bool {
	d := digits(s)
	if len(d) < 13 || len(d) > 19 || !slices.ContainsFunc(d, func(x int) bool { return x != d[0] }) {
		return false
	}
	sum := 0
	for i, x := range d {
		if (len(d)-i)%2 == 0 {
			if x *= 2; x > 9 {
				x -= 9
			}
		}
		sum += x
	}
	return sum%10 == 0 && d[0] >= 2 && d[0] <= 6
}

// isAadhaar checks the Verhoeff digit (J. Verhoeff, 1969).
func isAadhaar(s string) bool {
	multiply := [10][10]int{{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, {1, 2, 3, 4, 0, 6, 7, 8, 9, 5}, {2, 3, 4, 0, 1, 7, 8, 9, 5, 6}, {3, 4, 0, 1, 2, 8, 9, 5, 6, 7}, {4, 0, 1, 2, 3, 9, 5, 6, 7, 8}, {5, 9, 8, 7, 6, 0, 4, 3, 2, 1}, {6, 5, 9, 8, 7, 1, 0, 4, 3, 2}, {7, 6, 5, 9, 8, 2, 1, 0, 4, 3}, {8, 7, 6, 5, 9, 3, 2, 1, 0, 4}, {9, 8, 7, 6, 5, 4, 3, 2, 1, 0}}
	permute := [8][10]int{{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, {1, 5, 7, 6, 2, 8, 3, 0, 9, 4}, {5, 8, 0, 3, 7, 9, 6, 1, 4, 2}, {8, 9, 1, 6, 0, 4, 3, 5, 2, 7}, {9, 4, 5, 3, 1, 2, 6, 8, 7, 0}, {4, 2, 8, 6, 5, 7, 3, 9, 0, 1}, {2, 7, 9, 3, 8, 0, 6, 4, 1, 5}, {7, 0, 4, 6, 9, 1, 3, 2, 5, 8}}
	d := digits(s)
	if len(d) != 12 {
		return false
	}
	c := 0
	for i := range d {
		c = multiply[c][permute[i%8][d[len(d)-1-i]]]
	}
	return c == 0
}

// isIBAN checks ISO 13616: the number modulo 97 is 1.
func isIBAN(s string) bool {
	s = strings.ReplaceAll(s, " ", "")
	if len(s) < 15 || len(s) > 34 {
		return false
	}
	rest := 0
	for _, c := range s[4:] + s[:4] {
		switch {
		case c >= '0' && c <= '9':
			rest = (rest*10 + int(c-'0')) % 97
		default:
			rest = (rest*100 + int(c-'A') + 10) % 97
		}
	}
	return rest == 1
}

// isSSN refuses numbers that the US administration never issues.
func isSSN(s string) bool {
	return s[:3] != "000" && s[:3] != "666" && s[0] != '9' && s[4:6] != "00" && s[7:] != "0000"
}
