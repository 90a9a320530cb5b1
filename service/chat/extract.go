package chat

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/kljensen/snowball/english"
)

// Bounds of an extract.
const (
	maxSentences   = 4
	maxSentence    = 400  // bytes
	maxExtractFrom = 2000 // sentences looked at
	minTermRunes   = 2
)

const (
	extractOpening = "No language model answered this. These sentences stand in the documents, word for word:"
	nothingFound   = "No language model answered, and the documents hold nothing that fits the question."
	apologyText    = "I am sorry: no language model can be reached just now, and there is no document to quote from instead. Please try again in a few minutes."
	apologySearch  = "I am sorry: the documents cannot be searched just now, and an answer without them would be a guess. Please try again in a few minutes."
)

// sentence is a candidate; score is how much of the question it covers, and how well its passage ranked.
type sentence struct {
	source, order int
	text          string
	score         float64
}

// extract quotes the sentences of the sources that fit the question best, with their numbers. Empty when none fits.
func extract(asked string, sources []source) string {
	terms := termsOf(asked)
	weight := rarity(terms, sources)
	var all []sentence
	for i, src := range sources {
		for j, text := range sentences(src.text) {
			if len(all) == maxExtractFrom {
				break
			}
			have := termsOf(text)
			var covered float64
			for t := range terms {
				if have[t] {
					covered += weight[t]
				}
			}
			if covered > 0 {
				all = append(all, sentence{i, j, text, covered + 0.5/float64(i+1)})
			}
		}
	}
	if len(all) == 0 {
		return ""
	}
	slices.SortStableFunc(all, func(a, b sentence) int { return cmp.Compare(b.score, a.score) })
	best := all[:min(len(all), maxSentences)]
	// What covers much less than the best is no answer, only noise below it.
	best = slices.DeleteFunc(slices.Clone(best), func(s sentence) bool { return s.score < all[0].score/2 })
	slices.SortStableFunc(best, func(a, b sentence) int {
		return cmp.Or(cmp.Compare(a.source, b.source), cmp.Compare(a.order, b.order))
	})
	var b strings.Builder
	b.WriteString(extractOpening + "\n")
	for _, s := range best {
		b.WriteString("\n- " + s.text + " [" + strconv.Itoa(s.source+1) + "]")
	}
	return b.String()
}

// rarity weighs a term by how few sources hold it: a word that all hold tells little.
func rarity(terms map[string]bool, sources []source) map[string]float64 {
	in := map[string]int{}
	for _, src := range sources {
		have := termsOf(src.text)
		for t := range terms {
			if have[t] {
				in[t]++
			}
		}
	}
	w := map[string]float64{}
	for t := range terms {
		w[t] = 1 / (1 + float64(in[t])/float64(len(sources)+1))
	}
	return w
}

// sentences cuts a passage. Headings and lines of code are left out: they say nothing by themselves.
func sentences(text string) []string {
	var out []string
	fenced := false
	for block := range strings.SplitSeq(text, "\n\n") {
		var prose []string
		for line := range strings.SplitSeq(block, "\n") {
			trimmed := strings.TrimSpace(line)
			if strings.HasPrefix(trimmed, "```") {
				fenced = !fenced
				continue
			}
			if fenced || strings.HasPrefix(trimmed, "#") || strings.HasPrefix(trimmed, "|") {
				out = append(out, split(strings.Join(prose, " "))...)
				prose = nil
				continue
			}
			if item, is := bullet(trimmed); is {
				out = append(out, split(strings.Join(prose, " "))...)
				prose = []string{item}
				continue
			}
			prose = append(prose, trimmed)
		}
		out = append(out, split(strings.Join(prose, " "))...)
	}
	return out
}

func bullet(line string) (string, bool) {
	for _, mark := range [...]string{"- ", "* ", "+ ", "• "} {
		if item, is := strings.CutPrefix(line, mark); is {
			return item, true
		}
	}
	return line, false
}

// split cuts prose behind a full stop (of several scripts) that white space and no lower-case letter follows.
func split(text string) []string {
	var out []string
	emit := func(s string) {
		s = unnumbered(strings.Join(strings.Fields(s), " "))
		if len(termsOf(s)) >= 2 {
			out = append(out, clip(s, maxSentence))
		}
	}
	start := 0
	for i, r := range text {
		after := i + utf8.RuneLen(r)
		switch r {
		case '。', '！', '？', '।':
		case '.', '!', '?':
			next := strings.TrimLeftFunc(text[min(after, len(text)):], func(r rune) bool { return r == '"' || r == ')' || r == '\'' })
			first, _ := utf8.DecodeRuneInString(next)
			if next != "" && !unicode.IsSpace(first) {
				continue
			}
			if first, _ := utf8.DecodeRuneInString(strings.TrimLeftFunc(next, unicode.IsSpace)); unicode.IsLower(first) {
				continue // an abbreviation
			}
		default:
			continue
		}
		if after <= len(text) {
			emit(text[start:after])
			start = after
		}
	}
	emit(text[start:])
	return out
}

// termsOf are the words of a text, stemmed as English, without those that every text has.
func termsOf(text string) map[string]bool {
	out := map[string]bool{}
	for word := range strings.FieldsFuncSeq(strings.ToLower(text), func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsNumber(r) && !unicode.IsMark(r)
	}) {
		if utf8.RuneCountInString(word) < minTermRunes || stopWord(word) || len(word) > 64 {
			continue
		}
		out[english.Stem(word, false)] = true
	}
	return out
}

func stopWord(w string) bool {
	switch w {
	case "an", "and", "are", "as", "at", "be", "been", "but", "by", "can", "could", "did", "do", "does", "for", "from", "had", "has",
		"have", "how", "if", "in", "is", "it", "its", "me", "my", "no", "not", "of", "on", "or", "our", "so", "that", "the", "their",
		"them", "then", "there", "these", "they", "this", "those", "to", "was", "we", "were", "what", "when", "where", "which", "who",
		"why", "will", "with", "would", "you", "your", "about", "tell", "please":
		return true
	}
	return false
}
