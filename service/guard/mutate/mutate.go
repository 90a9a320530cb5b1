// Package mutate says the same thing in another form, the ways that attackers do: other letters, other spacing, a code,
// other words, something around it.
//
// It is pure and reproducible: a text, a mutation and a seed always give the same result. A mutation keeps what the text
// asks for; what comes out is at most about sixteen times as long, or some kilobytes longer.
package mutate

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"
)

// Families of mutations.
const (
	Case         = "case"
	Spacing      = "spacing"
	Homoglyph    = "homoglyph"
	Invisible    = "invisible"
	Marks        = "marks"
	Leet         = "leet"
	Encoding     = "encoding"
	Paraphrase   = "paraphrase"
	Wrapping     = "wrapping"
	Typo         = "typo"
	Language     = "language"
	Splitting    = "splitting"
	Conversation = "conversation"
)

// Mutation is one way to say the same. Safe for concurrent use.
type Mutation struct {
	Name   string // unique, such as encoding.base64
	Family string
	// Hostile mutations make an attack of a harmless text as well, as a faked system turn does. They say nothing about false alarms.
	Hostile bool

	apply  func(s string, r *rand.Rand) string
	invert func(s string) string
	folds  bool // the way back loses the case of letters
}

// Apply mutates a text. The seed decides what is left to chance, for each text and mutation apart.
func (m Mutation) Apply(s string, seed uint64) string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(m.Name + "\x00" + s))               // never fails
	return m.apply(s, rand.New(rand.NewPCG(seed, h.Sum64()))) //nolint:gosec // it is to be the same each time
}

// Exact reports whether Invert leads back to every text of printable ASCII characters.
func (m Mutation) Exact() bool { return m.invert != nil }

// Folds reports whether the way back loses the case of letters.
func (m Mutation) Folds() bool { return m.folds }

// Invert undoes an exact mutation; other ones are left as they are.
func (m Mutation) Invert(s string) string {
	if m.invert == nil {
		return s
	}
	return m.invert(s)
}

// All lists the mutations, those of a family together.
func All() []Mutation {
	return slices.Concat(cases(), spacings(), homoglyphs(), invisibles(), marks(), leets(), encodings(), paraphrases(), wrappings(), typos(), languages(), splittings(), conversations())
}

// Named picks mutations by name or family; "all" is all of them, "none" none.
func Named(names ...string) ([]Mutation, error) {
	var out []Mutation
	all := All()
	for _, name := range names {
		if name == "none" {
			continue
		}
		before := len(out)
		for _, m := range all {
			if (name == "all" || m.Name == name || m.Family == name) && !slices.ContainsFunc(out, func(o Mutation) bool { return o.Name == m.Name }) {
				out = append(out, m)
			}
		}
		if len(out) == before && !slices.ContainsFunc(all, func(m Mutation) bool { return name == "all" || m.Name == name || m.Family == name }) {
			return nil, fmt.Errorf("there is no mutation or family %q; families are %s", name, strings.Join(Families(), ", "))
		}
	}
	return out, nil
}

// Families lists the families in their order.
func Families() []string {
	return []string{Case, Spacing, Homoglyph, Invisible, Marks, Leet, Encoding, Paraphrase, Wrapping, Typo, Language, Splitting, Conversation}
}
