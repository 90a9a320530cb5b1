package corpus

import (
	_ "embed"
	"strings"
)

//go:embed data/given.txt
var doubts string

// turned are sources of the given data whose rows carry the wrong label throughout: the one below holds the benign half
// of its collection (reviews to classify, questions on articles, characters of films and games) marked as attacks.
var turned = map[string]bool{"promptarmor_jackhhao_jailbreak": true} //nolint:gochecknoglobals // a table

// Mend corrects the label of a row of the given data, and says whether the row is of use at all: a list of rows that
// read like the other label, and fragments of examination questions among the attacks, are not.
func Mend(source, text string, label int) (mended int, keep bool) {
	if turned[source] {
		label = 1 - label
	}
	for line := range strings.SplitSeq(doubts, "\n") {
		from, start, ok := strings.Cut(line, "\t")
		if ok && from == source && strings.HasPrefix(text, start) {
			return label, false
		}
	}
	if source == "promptarmor_satml-ctf-2024" && !strings.Contains(text, "secret") {
		choice := len(text) > 3 && strings.Contains("ABCD", text[:1]) && text[1:3] == ". "
		if choice || strings.HasPrefix(text, "The following is a multiple choice") || strings.HasPrefix(text, "aaaaaaaaaa") {
			return label, false
		}
	}
	return label, true
}
