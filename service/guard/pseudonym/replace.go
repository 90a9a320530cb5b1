package pseudonym

import (
	"errors"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"aran/service/guard/detect"
)

// ErrFull says that a conversation has as many pairs as it may have.
var ErrFull = errors.New("the conversation has too many values")

// errClash says that no pseudonyms could be found that can be told from the text around them.
var errClash = errors.New("no pseudonym can be told from the text")

const (
	tries       = 8   // sets of pseudonyms, when one can't be told from a text
	attempts    = 64  // pseudonyms for a value, when one is taken
	longestPart = 200 // bytes of a value that is looked for where nothing was found
)

// span is a part of a text that is replaced.
type span struct {
	start, end int
	kind       string
}

// Replace puts pseudonyms in the place of what was found in texts, and of every other place where a value of the conversation
// or a part of a found person's name stands. What already looks like a pseudonym gets one as well, so that Restore gives back
// the same bytes. It returns the pairs that are new. The conversation may have limit pairs; over it, ErrFull. key is secret
// and belongs to the conversation alone.
func (m *Map) Replace(key []byte, texts []string, found [][]detect.Finding, limit int) (out []string, fresh []Pair, err error) {
	spans := make([][]span, len(texts))
	for i, t := range texts {
		for _, f := range found[i] {
			if f.Start >= 0 && f.Start < f.End && f.End <= len(t) {
				spans[i] = append(spans[i], span{f.Start, f.End, f.Kind})
			}
		}
	}
	seek := m.seek(texts, spans)
	for i, t := range texts {
		spans[i] = merge(append(spans[i], seek.find(t)...))
		literal, _ := m.find(t, true)
		for _, h := range literal {
			spans[i] = append(spans[i], span{h.start, h.end, Literal})
		}
		spans[i] = merge(spans[i])
	}
	if n := m.without(texts, spans); n > 0 && m.size+n > limit { // before any is made
		return nil, nil, ErrFull
	}
	in := &script{texts: texts}
	for try := range tries {
		mint := &minter{m: m, key: key, from: try * attempts, exact: map[string]string{}, byKey: map[string]string{}, used: map[string]bool{}, texts: texts, in: in}
		out, err = mint.write(spans)
		if err != nil {
			return nil, nil, err
		}
		if m.same(mint.fresh, out, texts) {
			return out, mint.fresh, nil
		}
	}
	return nil, nil, errClash
}

// without counts the values that have no pseudonym yet.
func (m *Map) without(texts []string, spans [][]span) int {
	distinct := map[string]bool{}
	for i, list := range spans {
		for _, f := range list {
			value := texts[i][f.start:f.end]
			if _, ok := m.exact[value]; !ok {
				distinct[value] = true
			}
		}
	}
	return len(distinct)
}

// same reports whether texts are restored byte for byte.
func (m *Map) same(fresh []Pair, replaced, texts []string) bool {
	all := m
	if len(fresh) > 0 {
		all = New(append(m.all(), fresh...))
	}
	for i := range texts {
		if back, _ := all.Restore(replaced[i], true); back != texts[i] {
			return false
		}
	}
	return true
}

func (m *Map) all() []Pair {
	out := make([]Pair, 0, m.size)
	for _, st := range m.stems {
		out = append(out, st.pairs...)
	}
	return out
}

// minter makes the pseudonyms that one call of Replace needs.
type minter struct {
	m     *Map
	key   []byte
	from  int // first attempt
	texts []string
	in    *script // what the texts hold that could be taken for a pseudonym
	taken *stems  // of the conversation and of fresh; when first asked

	fresh []Pair
	exact map[string]string // value as written to pseudonym, of fresh
	byKey map[string]string // folded value to the first pseudonym, of fresh
	used  map[string]bool   // pseudonyms of fresh
}

func (t *minter) write(spans [][]span) ([]string, error) {
	out := make([]string, len(spans))
	for i, text := range t.texts {
		var b strings.Builder
		last := 0
		for _, s := range spans[i] {
			p, err := t.pseudonym(s.kind, text[s.start:s.end])
			if err != nil {
				return nil, err
			}
			b.WriteString(text[last:s.start])
			b.WriteString(p)
			last = s.end
		}
		b.WriteString(text[last:])
		out[i] = b.String()
	}
	return out, nil
}

func (t *minter) pseudonym(kind, value string) (string, error) {
	if p, ok := t.m.exact[value]; ok {
		return p.Pseudonym, nil
	}
	if p, ok := t.exact[value]; ok {
		return p, nil
	}
	p := t.respell(kind, value)
	for n := 0; p == ""; n++ {
		if n == attempts {
			return "", errClash
		}
		if c := coin(t.key, kind, value, t.from+n); t.free(c) {
			p = c
			t.taken.add(stemOf(c))
		}
	}
	t.exact[value] = p
	if key := fold(kind, value); t.byKey[key] == "" {
		t.byKey[key] = p
	}
	t.used[p] = true
	t.fresh = append(t.fresh, Pair{kind, value, p})
	return p, nil
}

// respell finds a spelling of the pseudonym that another spelling of the value has, if one is left.
func (t *minter) respell(kind, value string) string {
	key := fold(kind, value)
	first, was := t.byKey[key], value
	if st := t.m.byValue[key]; st != nil {
		first, was = st.pairs[0].Pseudonym, st.pairs[0].Value
	}
	if first == "" {
		return ""
	}
	text, digits := stemOf(first)
	if digits {
		if p := likeValue(text, value); countDigits(value) == len(text) && shaped(value) && t.unspelled(p) {
			return p
		}
		return ""
	}
	all := spellings(first)
	switch value { // capitals for capitals, so that a model sees what it would have seen
	case strings.ToUpper(was):
		all = append([]string{strings.ToUpper(first)}, all...)
	case strings.ToLower(was):
		all = append([]string{strings.ToLower(first)}, all...)
	}
	for _, p := range all {
		if t.unspelled(p) {
			return p
		}
	}
	return ""
}

func (t *minter) unspelled(p string) bool {
	_, taken := t.m.written[p]
	return !taken && !t.used[p]
}

// free reports whether a pseudonym can be told from all others and from the texts.
func (t *minter) free(p string) bool {
	if t.taken == nil {
		t.taken = t.m.taken()
	}
	text, digits := stemOf(p)
	return !t.taken.clash(text, digits) && !t.in.holds(text)
}

// merge joins spans that overlap. Of two, the kind of the one that begins first stays; a literal's gives way.
func merge(spans []span) []span {
	slices.SortStableFunc(spans, func(a, b span) int {
		if a.start != b.start {
			return a.start - b.start
		}
		return b.end - a.end
	})
	out := spans[:0]
	for _, s := range spans {
		if n := len(out); n > 0 && s.start < out[n-1].end {
			out[n-1].end = max(out[n-1].end, s.end)
			if out[n-1].kind == Literal {
				out[n-1].kind = s.kind
			}
			continue
		}
		out = append(out, s)
	}
	return out
}

// seeker finds values again where no detector found anything.
type seeker struct {
	a      *automaton
	values []string
	kinds  []string
	proper []bool // a name of one word: found with a capital only
}

// seek takes the values of the conversation, those that were found now, and the parts of persons' names among them.
func (m *Map) seek(texts []string, spans [][]span) *seeker {
	s := &seeker{}
	seen := map[string]bool{}
	add := func(kind, value string) {
		if low := lower(value); len(low) == len(value) && len(value) <= longestPart && !seen[value] && telling(kind, value) {
			seen[value] = true
			s.values, s.kinds = append(s.values, value), append(s.kinds, kind)
			s.proper = append(s.proper, isName(kind) && capital(value) && !strings.ContainsRune(value, ' '))
		}
	}
	each := func(kind, value string) {
		add(kind, value)
		if kind == "pii.person" {
			for part := range strings.FieldsSeq(value) {
				if part = strings.Trim(part, ".,"); utf8.RuneCountInString(part) > 2 && !commonPart[lower(part)] {
					add(kind, part)
				}
			}
		}
	}
	for _, st := range m.stems {
		if k := st.pairs[0].Kind; k != Literal {
			for _, p := range st.pairs {
				each(k, p.Value)
			}
		}
	}
	for i, list := range spans {
		for _, f := range list {
			each(f.kind, texts[i][f.start:f.end])
		}
	}
	folded := make([]string, len(s.values))
	for i, v := range s.values {
		folded[i] = lower(v)
	}
	s.a = build(folded)
	return s
}

// commonPart of a name says nothing about a person.
var commonPart = map[string]bool{"the": true, "and": true, "van": true, "von": true, "der": true, "den": true, "del": true, "della": true, "bin": true, "mrs": true, "smt": true, "shri": true, "dr": true, "prof": true} //nolint:gochecknoglobals // a constant table

// telling reports whether a value says something wherever it stands: "34" does not, although it may be somebody's age.
func telling(kind, value string) bool {
	switch kind {
	case "pii.age", "pii.postcode":
		return false
	}
	letters := 0
	for _, r := range value {
		if unicode.IsLetter(r) {
			letters++
		}
	}
	return letters >= 3 || countDigits(value) >= 6
}

// find returns where values stand as whole words. A name of one word is found with a capital only: "Will" is not "will".
func (s *seeker) find(text string) (out []span) {
	if s.a.empty() {
		return nil
	}
	low := lower(text)
	if len(low) != len(text) { // a letter whose small form has another length: we look at capitals as they are
		low = text
	}
	at := int32(0)
	for i := range len(low) {
		at = s.a.step(at, low[i])
		for n := at; n != 0; n = s.a.nodes[n].more {
			p := s.a.nodes[n].pattern
			if p < 0 {
				continue
			}
			start, end := i+1-len(s.values[p]), i+1
			if wordAt(text, start, end) && (!s.proper[p] || capital(text[start:])) {
				out = append(out, span{start, end, s.kinds[p]})
			}
		}
	}
	return out
}

func capital(s string) bool {
	r, _ := utf8.DecodeRuneInString(s)
	return unicode.IsUpper(r)
}

// wordAt reports whether no word goes on at either end.
func wordAt(text string, start, end int) bool {
	before, _ := utf8.DecodeLastRuneInString(text[:start])
	first, _ := utf8.DecodeRuneInString(text[start:])
	last, _ := utf8.DecodeLastRuneInString(text[:end])
	after, _ := utf8.DecodeRuneInString(text[end:])
	inWord := func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r) }
	goesOn := start > 0 && inWord(before) && inWord(first) || end < len(text) && inWord(last) && inWord(after)
	return !goesOn
}
