package guard

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"time"
	"unicode"

	"aran/platform/auth"
	"aran/platform/fault"
	"aran/service/guard/detect"
	"aran/service/guard/policy"
)

// Kinds of entries of an allow-list.
const (
	SpareText   = "text"   // SHA-256 of a whole text, hex
	SparePhrase = "phrase" // a pattern (RE2): what it matches is looked at as if it were not there
	SpareRule   = "rule"   // a rule's id
	SpareHost   = "host"   // a host that links may point to
	SpareValue  = "value"  // a piece of personal data, kept as a keyed hash
)

const (
	maxSpared       = 1000 // entries of a tenant
	maxPhrases      = 100  // of which are patterns
	maxSpare        = 365 * 24 * time.Hour
	longestSpared   = 200 // bytes that a pattern may match at once
	shortestLiteral = 4   // characters that a pattern must name
	maxUnnamed      = 3   // characters of a match that it does not name, for each that it names
)

// Spared is an entry of an allow-list: what policy lets pass until it expires.
type Spared struct {
	ID      string
	Policy  string // whose; empty: of the whole tenant
	Kind    string
	Value   string // of kind value: a keyed hash
	Reason  string
	By      string
	Made    time.Time
	Expires time.Time

	re *regexp.Regexp
}

// exemption is what an allow-list makes of an observation.
type exemption struct {
	entries []string
	score   float64
	spared  func(detect.Finding) bool
}

func (e exemption) any() bool { return len(e.entries) > 0 }

// exempt looks up what of a text is spared now.
func (s *Service) exempt(text string, o observation, book *rulebook, now time.Time) exemption {
	e := exemption{score: o.score}
	var spared []func(detect.Finding) bool
	var digest string
	var cut []byte
	values := map[string]string{} // of keyed hashes, the entry
	for _, x := range book.spare {
		if !x.Expires.After(now) {
			continue
		}
		switch x.Kind {
		case SpareText:
			if digest == "" {
				sum := sha256.Sum256([]byte(text))
				digest = hex.EncodeToString(sum[:])
			}
			if x.Value == digest {
				e.entries, e.score = append(e.entries, x.ID), 0
				spared = append(spared, func(detect.Finding) bool { return true })
			}
		case SpareRule:
			same := func(f detect.Finding) bool { return f.Rule == x.Value || strings.HasPrefix(f.Rule, x.Value+"+") }
			if slices.ContainsFunc(o.findings, same) {
				e.entries, spared = append(e.entries, x.ID), append(spared, same)
			}
		case SpareValue:
			values[x.Value] = x.ID
		case SparePhrase:
			if spans := x.spans(text); len(spans) > 0 {
				e.entries = append(e.entries, x.ID)
				if cut == nil {
					cut = []byte(text)
				}
				for _, m := range spans {
					for i := m[0]; i < m[1]; i++ {
						cut[i] = ' '
					}
				}
				spared = append(spared, func(f detect.Finding) bool {
					return slices.ContainsFunc(spans, func(m []int) bool { return m[0] <= f.Start && f.End <= m[1] })
				})
			}
		}
	}
	if len(values) > 0 && book.pinning != nil {
		known := map[[2]int]bool{}
		for _, f := range o.findings {
			if !strings.HasPrefix(f.Kind, "pii.") {
				continue
			}
			if id := values[book.pinning(text[f.Start:f.End])]; id != "" {
				known[[2]int{f.Start, f.End}] = true
				if !slices.Contains(e.entries, id) {
					e.entries = append(e.entries, id)
				}
			}
		}
		spared = append(spared, func(f detect.Finding) bool { return strings.HasPrefix(f.Kind, "pii.") && known[[2]int{f.Start, f.End}] })
	}
	if !e.any() {
		return e
	}
	e.spared = func(f detect.Finding) bool {
		return slices.ContainsFunc(spared, func(is func(detect.Finding) bool) bool { return is(f) })
	}
	if e.score > 0 && o.origin != detect.Output {
		e.score = s.without(cut, o, e.spared)
	}
	return e
}

// without is the score of what is left: of the text without spared phrases, and of findings that no entry names. What other layers
// than rules say stays.
func (s *Service) without(cut []byte, o observation, spared func(detect.Finding) bool) float64 {
	score, findings, layers := o.score, o.findings, o.layers
	if cut != nil {
		again := o.again(string(cut))
		score, findings, layers = again.score, again.findings, again.layers
	}
	left := slices.DeleteFunc(slices.Clone(findings), spared)
	if len(left) == len(findings) {
		return score
	}
	rest := detect.Combine(left)
	for layer, x := range layers {
		if layer != policy.Rules {
			rest = max(rest, x)
		}
	}
	return min(score, rest)
}

// spans are the places that a phrase takes in a text.
func (x Spared) spans(text string) (out [][]int) {
	if x.re == nil {
		return nil
	}
	for _, m := range x.re.FindAllStringIndex(text, -1) {
		if m[1]-m[0] <= longestSpared {
			out = append(out, m)
		}
	}
	return out
}

// checkSpared refuses what can't be an entry, and brings its value into the form that is kept.
func (s *Service) checkSpared(x *Spared, now time.Time, pin func(string) string) error {
	invalid := func(field, format string, args ...any) error {
		f := fault.New(fault.Invalid, "invalid", "The entry can't be used.")
		f.Fields = []fault.Field{{Path: field, Message: fmt.Sprintf(format, args...)}}
		return f
	}
	switch {
	case x.Reason == "" || len(x.Reason) > 500:
		return invalid("reason", "say why in 1 to 500 bytes")
	case !x.Expires.After(now):
		return invalid("expires_at", "it is in the past")
	case x.Expires.After(now.Add(maxSpare)):
		return invalid("expires_at", "an entry holds for a year at most")
	}
	switch x.Kind {
	case SpareText:
		x.Value = strings.ToLower(x.Value)
		if b, err := hex.DecodeString(x.Value); err != nil || len(b) != sha256.Size {
			return invalid("value", "it is no SHA-256 in hex: take text_digest of the verdict")
		}
	case SparePhrase:
		if err := checkPhrase(x.Value); err != nil {
			return invalid("value", "%s", err)
		}
	case SpareRule:
		if x.Value == "" || len(x.Value) > 100 || strings.ContainsAny(x.Value, " +*") {
			return invalid("value", "it is no rule: take the rule of a finding, without what follows +")
		}
		if slices.Contains([]string{policy.Compact, policy.Embeddings, policy.Judge, "injection"}, x.Value) {
			return invalid("value", "%s is no rule: it judges all of a text; spare the text or a phrase", x.Value)
		}
	case SpareHost:
		if err := (policy.Policy{AllowHosts: []string{x.Value}}).Check(); err != nil {
			why := err.Error()
			if e, ok := errors.AsType[*policy.Error](err); ok {
				why = e.Why
			}
			return invalid("value", "%s", why)
		}
		if s.cfg.Floor.AllowHosts != nil && !s.cfg.Floor.Host(x.Value) {
			return fault.New(fault.Denied, "below_floor", "The operator allows no links to %s.", x.Value)
		}
	case SpareValue:
		if n := len(plainValue(x.Value)); n < 3 || n > 200 {
			return invalid("value", "use 3 to 200 letters and digits")
		}
		if pin == nil {
			return fault.New(fault.Unavailable, codeNoKeys, "Values can't be kept: the key database is not there.")
		}
		x.Value = pin(x.Value)
	default:
		return invalid("kind", "use text, phrase, rule, host or value")
	}
	return nil
}

// checkPhrase refuses patterns that would spare anything: each match must hold some characters that the pattern names.
func checkPhrase(s string) error {
	if err := policy.CheckPattern(s); err != nil {
		return err
	}
	re, err := syntax.Parse(s, syntax.Perl)
	if err != nil {
		return fmt.Errorf("it is no RE2 pattern: %w", err)
	}
	re = re.Simplify()
	if named(re) < shortestLiteral {
		return fmt.Errorf("it would spare too much: let every match hold at least %d characters in a row, besides blanks, that the pattern names", shortestLiteral)
	}
	if most := maxUnnamed * named(re); unnamed(re) > most {
		return fmt.Errorf("it would spare too much: let no match hold more than %d characters that the pattern does not name; blanks are free", most)
	}
	return nil
}

// unnamed is how many characters that a pattern does not name a match may hold at most; above longestSpared it only says so.
func unnamed(re *syntax.Regexp) (most int) {
	switch re.Op {
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return 1
	case syntax.OpCharClass:
		for i := 0; i+1 < len(re.Rune); i += 2 {
			if lo, hi := re.Rune[i], re.Rune[i+1]; hi-lo > 32 || !unicode.IsSpace(lo) || !unicode.IsSpace(hi) {
				return 1
			}
		}
	case syntax.OpStar, syntax.OpPlus:
		return min(longestSpared+1, unnamed(re.Sub[0])*(longestSpared+1))
	case syntax.OpAlternate:
		for _, sub := range re.Sub {
			most = max(most, unnamed(sub))
		}
	default:
		for _, sub := range re.Sub { // Simplify has written repetitions out
			most = min(longestSpared+1, most+unnamed(sub))
		}
	}
	return most
}

// named is how many characters in a row, blanks not counted, every match of a pattern holds.
func named(re *syntax.Regexp) int {
	switch re.Op { //nolint:exhaustive // the others name nothing for certain
	case syntax.OpLiteral:
		n := 0
		for _, r := range re.Rune {
			if !unicode.IsSpace(r) {
				n++
			}
		}
		return n
	case syntax.OpCapture, syntax.OpPlus:
		return named(re.Sub[0])
	case syntax.OpRepeat:
		if re.Min > 0 {
			return named(re.Sub[0])
		}
	case syntax.OpConcat:
		most := 0
		for _, sub := range re.Sub {
			most = max(most, named(sub))
		}
		return most
	case syntax.OpAlternate:
		least := named(re.Sub[0])
		for _, sub := range re.Sub[1:] {
			least = min(least, named(sub))
		}
		return least
	}
	return 0
}

// plainValue is a piece of personal data without what people write differently.
func plainValue(s string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(" \t\n-.()/", r) {
			return -1
		}
		return r
	}, strings.ToLower(s))
}

// pinning hashes values under a key of the tenant, so that the list does not tell them.
func (s *Service) pinning(ctx context.Context, tenant string) (func(string) string, error) {
	if s.box == nil {
		return nil, nil //nolint:nilnil // no keys, no values
	}
	key, err := s.box.Pseudonym(ctx, "allow\x00"+tenant)
	if err != nil {
		return nil, fmt.Errorf("key of the allow-list: %w", err)
	}
	return func(value string) string {
		h := hmac.New(sha256.New, []byte(key))
		h.Write([]byte(plainValue(value)))
		return hex.EncodeToString(h.Sum(nil))
	}, nil
}

// Spare adds an entry to the allow-list of the caller's tenant. Of kind value, the value is kept as a keyed hash only.
func (s *Service) Spare(ctx context.Context, x Spared) (Spared, error) {
	id := auth.From(ctx)
	x, err := s.prepare(ctx, id, x)
	if err != nil {
		return Spared{}, err
	}
	if err := s.addSpared(ctx, id, &x); err != nil {
		return Spared{}, err
	}
	s.policies.forget(id.Tenant)
	return x, nil
}

func (s *Service) prepare(ctx context.Context, id auth.Identity, x Spared) (Spared, error) {
	now := time.Now().Truncate(time.Microsecond)
	var pin func(string) string
	if x.Kind == SpareValue {
		var err error
		if pin, err = s.pinning(ctx, id.Tenant); err != nil {
			return Spared{}, err
		}
	}
	if err := s.checkSpared(&x, now, pin); err != nil {
		return Spared{}, err
	}
	x.Made, x.By = now, id.Subject
	return x, nil
}

// Unspare removes an entry.
func (s *Service) Unspare(ctx context.Context, entry string) error {
	id := auth.From(ctx)
	if err := s.removeSpared(ctx, id, entry); err != nil {
		return err
	}
	s.policies.forget(id.Tenant)
	return nil
}
