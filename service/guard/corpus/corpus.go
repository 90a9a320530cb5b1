// Package corpus is training data of our own for the guard: benign text that talks about prompts, passwords and
// attacks, clean documents, and attacks of families that public data lacks.
//
// The data are plain files under data/, written by hand or taken from permissively licensed packages; what is a
// template is expanded here, the same way every time. Only the trainer imports this package: the files are large and
// the program does not carry them.
package corpus

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// Row is one labelled text.
type Row struct {
	Text    string
	Label   int    // 1 is an attack, 0 is benign
	Source  string // leave whole sources out to measure, never single rows
	Family  string // the kind of attack or of benign text
	Lang    string // en, de, fr, es, hi, ta, …; "hi-Latn" and "ta-Latn" are written in Latin letters, "mul" is mixed
	Licence string
	Pair    string // rows of one pair share their wording or their document and differ in label; empty if in none
}

// own is the licence of what was written for this package.
const own = "Apache-2.0 (own)"

// Rows are all rows in a fixed order, without duplicates. A duplicate goes with its whole pair if only one label
// would be left of it.
func Rows() ([]Row, error) {
	var all []Row
	written, err := lists()
	if err != nil {
		return nil, err
	}
	all = append(all, written...)
	found, err := mined()
	if err != nil {
		return nil, err
	}
	documents, err := documents(found) // before the found rows, so that a clean one keeps its pair
	if err != nil {
		return nil, err
	}
	all = append(all, documents...)
	return whole(distinct(append(all, found...))), nil
}

// distinct keeps the first of the texts that are the same but for case, spaces and punctuation.
func distinct(rows []Row) []Row {
	seen := make(map[string]bool, len(rows))
	out := rows[:0]
	for _, r := range rows {
		k := Key(r.Text)
		if k == "" || seen[k] {
			continue
		}
		seen[k] = true
		out = append(out, r)
	}
	return out
}

// whole drops the pairs of which one side is missing.
func whole(rows []Row) []Row {
	labels := map[string][2]int{}
	for _, r := range rows {
		n := labels[r.Pair]
		n[r.Label]++
		labels[r.Pair] = n
	}
	return slices.DeleteFunc(rows, func(r Row) bool {
		n := labels[r.Pair]
		return r.Pair != "" && (n[0] == 0 || n[1] == 0)
	})
}

// Key is what two texts share that count as the same: letters and digits in compatibility form, lower case. A text
// without any is its own key.
func Key(s string) string {
	var b strings.Builder
	b.Grow(len(s))
	if !norm.NFKC.IsNormalString(s) {
		s = norm.NFKC.String(s)
	}
	for _, r := range s {
		if unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r) {
			b.WriteRune(unicode.ToLower(r))
		}
	}
	if b.Len() == 0 {
		return strings.TrimSpace(s)
	}
	return b.String()
}

// Count says how many rows of each label a group has.
type Count struct {
	Name            string
	Benign, Attacks int
}

// Counts groups rows by what name says of them, by name.
func Counts(rows []Row, name func(Row) string) []Count {
	at := map[string]int{}
	var out []Count
	for _, r := range rows {
		n := name(r)
		i, ok := at[n]
		if !ok {
			i = len(out)
			at[n] = i
			out = append(out, Count{Name: n})
		}
		if r.Label == 1 {
			out[i].Attacks++
		} else {
			out[i].Benign++
		}
	}
	slices.SortFunc(out, func(a, b Count) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

func (c Count) String() string {
	return fmt.Sprintf("%s: %d benign, %d attacks", c.Name, c.Benign, c.Attacks)
}
