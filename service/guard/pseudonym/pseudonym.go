// Package pseudonym replaces personal data by names that stand for it, and puts it back.
//
// It is pure: the caller brings a key, keeps the pairs, and decides who may have them. A Map holds the pairs of one
// conversation. What Replace makes of any text, Restore turns into the same bytes again, whole or cut anywhere; a model may
// change a pseudonym's case, hyphens or spacing, put it in Markdown or add an ending, and it is still found. Pseudonyms come
// from a keyed hash: without the key nobody can tell which value one stands for, and two conversations share none.
package pseudonym

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Pair is a value as it was written, and the pseudonym as it is written for this spelling of the value.
type Pair struct {
	Kind      string `json:"kind"` // as detect.Finding has it, or Literal
	Value     string `json:"value"`
	Pseudonym string `json:"pseudonym"`
}

// Literal is the kind of a value that is no personal data but looks like one of the conversation's pseudonyms.
const Literal = "literal"

// stem is a pseudonym without regard to its spelling; its pairs are spellings of one value, the first seen first.
type stem struct {
	text   string // as a matcher sees it: folded, or digits only
	digits bool
	pairs  []Pair
}

// Map holds the pairs of one conversation. It does not change; safe for concurrent use.
type Map struct {
	stems   []*stem
	byValue map[string]*stem // by the folded value
	exact   map[string]Pair  // by the value as written
	written map[string]Pair  // by the pseudonym as written: the first
	words   *automaton       // folded pseudonyms
	numbers *automaton       // digits of pseudonyms that are numbers
	wordOf  []*stem          // by pattern of words
	numOf   []*stem
	longest int
	size    int
}

// New makes a map of pairs, in the order in which they were made.
func New(pairs []Pair) *Map {
	m := &Map{byValue: map[string]*stem{}, exact: map[string]Pair{}, written: map[string]Pair{}}
	byText := map[string]*stem{}
	for _, p := range pairs {
		text, digits := stemOf(p.Pseudonym)
		st := byText[text]
		if st == nil {
			st = &stem{text: text, digits: digits}
			byText[text] = st
			m.stems = append(m.stems, st)
		}
		st.pairs = append(st.pairs, p)
		if key := fold(p.Kind, p.Value); m.byValue[key] == nil {
			m.byValue[key] = st
		}
		m.exact[p.Value] = p
		if _, ok := m.written[p.Pseudonym]; !ok {
			m.written[p.Pseudonym] = p
		}
		m.longest = max(m.longest, len(p.Pseudonym))
		m.size++
	}
	var words, numbers []string
	for _, st := range m.stems {
		if st.digits {
			numbers, m.numOf = append(numbers, st.text), append(m.numOf, st)
		} else {
			words, m.wordOf = append(words, st.text), append(m.wordOf, st)
		}
	}
	m.words, m.numbers = build(words), build(numbers)
	return m
}

// Len is the number of pairs.
func (m *Map) Len() int { return m.size }

// Longest is the length of the longest pseudonym in bytes; Restore holds back at most 64 characters more.
func (m *Map) Longest() int { return m.longest }

// Known reports whether a text, spelled in any case, is a value that the conversation has a pseudonym for.
func (m *Map) Known(value string) bool {
	if _, ok := m.exact[value]; ok {
		return true
	}
	return m.byValue[fold("", value)] != nil || m.byValue[fold(numeric, value)] != nil
}

// Pseudonym reports whether all of a text is one of the conversation's pseudonyms, however it is spelled.
func (m *Map) Pseudonym(s string) bool {
	found, _ := m.find(s, true)
	return len(found) == 1 && found[0].start == 0 && found[0].end == len(s)
}

// Restore puts values back. Unless final, it holds back the end in which a pseudonym may have begun: the caller sends hold
// again, with what comes next. However a text is cut, what is released is the same in total. Linear time.
func (m *Map) Restore(text string, final bool) (release, hold string) {
	found, cut := m.find(text, final)
	if len(found) == 0 {
		return text[:cut], text[cut:]
	}
	var b strings.Builder
	last := 0
	for _, f := range found {
		b.WriteString(text[last:f.start])
		b.WriteString(f.value)
		last = f.end
	}
	b.WriteString(text[last:cut])
	return b.String(), text[cut:]
}

// numeric stands for every kind whose values are digits in groups.
const numeric = "#"

// fold makes spellings of one value equal: case, white space, and for numbers everything between the digits.
func fold(kind, value string) string {
	if isNumeric(kind) {
		return strings.Map(func(r rune) rune {
			if r < utf8.RuneSelf && (unicode.IsLetter(r) || unicode.IsDigit(r)) {
				return unicode.ToLower(r)
			}
			if r >= utf8.RuneSelf && !unicode.IsSpace(r) && !unicode.Is(unicode.Dash, r) {
				return r
			}
			return -1
		}, value)
	}
	return strings.Join(strings.Fields(lower(value)), " ")
}

// lower is strings.ToLower for bytes that are no UTF-8 as well: it leaves them as they are.
func lower(s string) string {
	if utf8.ValidString(s) {
		return strings.ToLower(s)
	}
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

func isNumeric(kind string) bool {
	switch kind {
	case numeric, "pii.phone", "pii.card", "pii.aadhaar", "pii.vid", "pii.ssn", "pii.itin", "pii.iban", "pii.imei", "pii.national_id", "pii.health_id", "pii.tax_id", "pii.mbi", "pii.vehicle":
		return true
	}
	return false
}
