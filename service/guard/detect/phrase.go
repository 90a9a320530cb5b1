package detect

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"aran/service/guard/canon"
)

// phrase is a row of word lists. Between two, at most gap other words may stand.
type phrase struct {
	clause bool // begins where a clause begins
	parts  []part
}

type part struct {
	set    int32
	gap    int32 // words that may stand before it
	across bool  // a sentence may end before it
}

const (
	widestGap    = 24 // words
	shortestStem = 2  // characters before a *
	mostVariants = 32 // of one phrase, by what may be left out
)

// vocabulary knows all words of all rules.
type vocabulary struct {
	lists map[string][]string
	sets  map[string]int32 // by what they were written as
	exact map[string]int32 // words: their number
	stems map[string]int32 // beginnings of words: their number
	known bloom            // hashes of words
	stem  bloom            // hashes of beginnings
	first [][]begin        // for each number: the sets of which an entry begins with it
	terms [][]term         // the entries of each set
	lead  []bool           // for each number: a clause may begin after it
}

// term is one entry of a word list, by the numbers of its words.
type term struct {
	first int32
	rest  []int32
}

// begin is a set that may be met where a word is: at once, or if the others of an entry are there, too.
type begin struct {
	set  int32
	rest []int32
}

type bloom [1 << 10]uint64

func (b *bloom) put(h uint64)      { k := h * spreading >> 48; b[k>>6] |= 1 << (k & 63) }
func (b *bloom) has(h uint64) bool { k := h * spreading >> 48; return b[k>>6]>>(k&63)&1 == 1 }

const (
	spreading = 0x9E3779B97F4A7C15
	fnvPrime  = 0x100000001B3
)

func hash(s string) (h uint64) {
	for i := range len(s) {
		h = h*fnvPrime + uint64(s[i]) + 1
	}
	return h
}

func newVocabulary(lists map[string][]string) vocabulary {
	v := vocabulary{lists: lists, sets: map[string]int32{}, exact: map[string]int32{}, stems: map[string]int32{}}
	return v
}

// leads are words after which a clause with an order may begin.
const leads = `please pls plz kindly now and then just must should shall will you to also so but first second next finally ok okay can could
would let's lets simply immediately instead ai assistant chatgpt gpt bot llm model claude gemini bard hey hi hello need want have do only
actually again always additionally therefore hence afterwards before start by otherwise task instruction instructions important
system admin user human output answer step must're you'll ill i'll
bitte nun jetzt dann und sofort du sie s'il te plait plaît vous maintenant et puis por favor ahora y luego agora e depois ora adesso poi per favore
kripya ab phir aur please ippo ippodhu inime dayavu seidhu пожалуйста теперь и затем`

// phrases reads phrases. Parts stand apart by spaces: a word, a stem ("instruct*"), alternatives "(ignore|pay no heed to)", a
// list by its name "ORDERS"; "?" after a part means that it may be missing, "..3" that up to three words may stand between,
// "...3" that also a sentence may end there, and "^" at the beginning that a clause begins.
func (v *vocabulary) phrases(texts []string) (out []phrase, err error) {
	for _, text := range texts {
		variants, err := v.phrase(text)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", text, err)
		}
		out = append(out, variants...)
	}
	return out, nil
}

func (v *vocabulary) phrase(text string) ([]phrase, error) {
	variants := []phrase{{}}
	gap, across := int32(0), false
	for _, word := range split(text) {
		switch {
		case word == "^":
			variants[0].clause = true
			continue
		case strings.HasPrefix(word, ".."):
			n, err := strconv.Atoi(strings.TrimLeft(word, "."))
			if err != nil || n < 1 || n > widestGap {
				return nil, fmt.Errorf("gap %q is not 1 to %d words", word, widestGap)
			}
			gap, across = int32(n), strings.HasPrefix(word, "...") //nolint:gosec // at most widestGap
			continue
		}
		maybe := strings.HasSuffix(word, "?")
		set, err := v.set(strings.TrimSuffix(word, "?"))
		if err != nil {
			return nil, err
		}
		var next []phrase
		for _, p := range variants {
			with := p
			with.parts = append(slices.Clone(p.parts), part{set, gap, across})
			next = append(next, with)
			if maybe { // its gap is then open for what follows
				next = append(next, p)
			}
		}
		if len(next) > mostVariants {
			return nil, fmt.Errorf("too many parts may be missing")
		}
		if variants = next; !maybe {
			gap, across = 0, false
		}
	}
	for _, p := range variants {
		if len(p.parts) == 0 {
			return nil, fmt.Errorf("nothing has to be there")
		}
	}
	return variants, nil
}

// split cuts at spaces outside of brackets.
func split(text string) []string {
	depth := 0
	return strings.FieldsFunc(text, func(r rune) bool {
		switch r {
		case '(':
			depth++
		case ')':
			depth--
		}
		return r == ' ' && depth == 0
	})
}

// set numbers a word list, and files its entries.
func (v *vocabulary) set(text string) (int32, error) {
	if n, ok := v.sets[text]; ok {
		return n, nil
	}
	entries, err := v.entries(text, 0)
	if err != nil {
		return 0, err
	}
	n := int32(len(v.sets)) //nolint:gosec // some thousand
	v.sets[text] = n
	v.terms = append(v.terms, nil)
	for _, e := range entries {
		words := entryWords(canon.Fold(e))
		if len(words) == 0 {
			return 0, fmt.Errorf("%q has no word", e)
		}
		ids := make([]int32, len(words))
		for i, w := range words {
			if ids[i], err = v.word(w); err != nil {
				return 0, err
			}
		}
		v.first[ids[0]] = append(v.first[ids[0]], begin{n, ids[1:]})
		v.terms[n] = append(v.terms[n], term{ids[0], ids[1:]})
	}
	return n, nil
}

// entries spells out a part of a phrase.
func (v *vocabulary) entries(text string, depth int) ([]string, error) {
	if depth > 8 {
		return nil, fmt.Errorf("word list %s holds itself", text)
	}
	if strings.HasPrefix(text, "(") && strings.HasSuffix(text, ")") {
		var all []string
		for e := range strings.SplitSeq(text[1:len(text)-1], "|") {
			more, err := v.entries(strings.TrimSpace(e), depth+1)
			if err != nil {
				return nil, err
			}
			all = append(all, more...)
		}
		return all, nil
	}
	if !isName(text) {
		return []string{text}, nil
	}
	list, ok := v.lists[text]
	if !ok {
		return nil, fmt.Errorf("there is no word list %s", text)
	}
	var all []string
	for _, e := range list {
		more, err := v.entries(e, depth+1)
		if err != nil {
			return nil, err
		}
		all = append(all, more...)
	}
	return all, nil
}

// isName says whether a part is the name of a word list.
func isName(s string) bool {
	return len(s) > 1 && strings.IndexFunc(s, func(r rune) bool { return (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' }) < 0 && unicode.IsUpper(rune(s[0]))
}

func (v *vocabulary) word(w string) (int32, error) {
	stem := strings.HasSuffix(w, "*")
	w = strings.TrimSuffix(w, "*")
	m := v.exact
	if stem {
		m = v.stems
		if len([]rune(w)) < shortestStem {
			return 0, fmt.Errorf("%q: a stem has at least %d letters", w, shortestStem)
		}
	}
	n, ok := m[w]
	if !ok {
		n = int32(len(v.first)) //nolint:gosec // some thousand
		m[w] = n
		v.first = append(v.first, nil)
	}
	return n, nil
}

// freeze makes the quick tests.
func (v *vocabulary) freeze() error {
	lead := map[int32]bool{}
	for w := range strings.FieldsSeq(leads) {
		n, err := v.word(canon.Fold(w))
		if err != nil {
			return err
		}
		lead[n] = true
	}
	for w := range v.exact {
		v.known.put(hash(w))
	}
	for w := range v.stems {
		v.stem.put(hash(w))
	}
	v.lead = make([]bool, len(v.first))
	for n := range lead {
		v.lead[n] = true
	}
	return nil
}
