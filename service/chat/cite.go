package chat

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Citation is a passage that an answer rests on: bytes Start to End of the document's text.
type Citation struct {
	Number   int     `json:"number"` // as in the answer: [1]
	Document string  `json:"document"`
	Chunk    string  `json:"chunk"`
	Title    string  `json:"title"`
	Start    int64   `json:"start"`
	End      int64   `json:"end"`
	Score    float64 `json:"score"`
	Span     *Span   `json:"span,omitempty"`  // the sentence that answers best, in the document's text
	Trust    string  `json:"trust,omitempty"` // how far the document is trusted
	Source   string  `json:"source,omitempty"`
}

// Span is a part of a text, in bytes: [Start, End).
type Span struct {
	Start int64 `json:"start"`
	End   int64 `json:"end"`
}

// maxUncited is how many passages stand for an answer that names none.
const maxUncited = 3

var citing = regexp.MustCompile(`\[(\d{1,3}(?:\s*,\s*\d{1,3})*)\]`)

// cite returns the sources that an answer names, in the order of their numbers. When it names none (small models
// rarely do), the best of those that it was given.
func cite(answer string, sources []source) []Citation {
	var numbers []int
	for _, m := range citing.FindAllStringSubmatch(answer, -1) {
		for n := range strings.SplitSeq(m[1], ",") {
			i, err := strconv.Atoi(strings.TrimSpace(n))
			if err == nil && i >= 1 && i <= len(sources) && !slices.Contains(numbers, i) {
				numbers = append(numbers, i)
			}
		}
	}
	slices.Sort(numbers)
	if len(numbers) == 0 && strings.TrimSpace(answer) != "" {
		for i := range sources[:min(len(sources), maxUncited)] {
			numbers = append(numbers, i+1)
		}
	}
	out := []Citation{}
	for _, n := range numbers {
		s := sources[n-1]
		c := Citation{Number: n, Document: s.document, Chunk: s.chunk, Title: s.title, Start: s.start, End: s.end, Score: s.score, Trust: s.trust, Source: s.origin}
		if s.sentence.end > s.sentence.start {
			c.Span = &Span{s.sentence.start, s.sentence.end}
		}
		out = append(out, c)
	}
	return out
}
