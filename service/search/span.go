package search

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"aran/service/search/words"
)

// Span is a part of a text, in bytes: [Start, End).
type Span struct {
	Start, End int64
}

const (
	maxHighlights    = 64  // of a passage
	sentenceLength   = 0.3 // how much a sentence's length counts against it, as b of BM25
	shortestSentence = 20  // bytes; what is shorter (a number, an initial) belongs to what follows
)

// marked says where a passage answers a query.
type marked struct {
	highlights []Span // in the passage
	sentence   Span   // in the passage
}

// mark finds the words of a query in a passage, by the languages that it may be in, and the sentence that holds most of
// their weight. Where there is none, the whole passage is the sentence.
func mark(text string, languages []string, weights map[string]float64) (out marked) {
	type place struct {
		span   Span
		term   string
		weight float64
	}
	var places []place
	for _, language := range languages {
		words.Spans(language, text, func(term string, start, end int) {
			if w, ok := weights[term]; ok {
				places = append(places, place{Span{int64(start), int64(end)}, term, w})
			}
		})
	}
	slices.SortStableFunc(places, func(a, b place) int { return int(a.span.Start - b.span.Start) })
	for _, p := range places {
		if n := len(out.highlights); n > 0 && p.span.Start < out.highlights[n-1].End {
			out.highlights[n-1].End = max(out.highlights[n-1].End, p.span.End)
		} else if n < maxHighlights {
			out.highlights = append(out.highlights, p.span)
		}
	}
	out.sentence = Span{0, int64(len(text))}
	all := sentences(text)
	average, best := float64(len(text))/float64(max(len(all), 1)), 0.0
	for _, s := range all {
		seen, sum := map[string]bool{}, 0.0
		for _, p := range places {
			if p.span.Start >= s.Start && p.span.End <= s.End && !seen[p.term] {
				seen[p.term] = true
				sum += p.weight
			}
		}
		if sum /= 1 - sentenceLength + sentenceLength*float64(s.End-s.Start)/average; sum > best {
			best, out.sentence = sum, s
		}
	}
	return out
}

// sentences cuts a text after marks that end a sentence, and at empty lines. White space at the ends is left out.
func sentences(text string) (out []Span) {
	start := 0
	cut := func(end int) {
		s := text[start:end]
		from := start + len(s) - len(strings.TrimLeftFunc(s, unicode.IsSpace))
		to := end - (len(s) - len(strings.TrimRightFunc(s, unicode.IsSpace)))
		if to > from {
			out = append(out, Span{int64(from), int64(to)})
		}
		start = end
	}
	for i, r := range text {
		next := i + utf8.RuneLen(r)
		switch r {
		case '.', '!', '?', '…':
			for next < len(text) && strings.ContainsRune(")]\"'”’»", firstRune(text[next:])) {
				next += utf8.RuneLen(firstRune(text[next:]))
			}
			if next < len(text) && !unicode.IsSpace(firstRune(text[next:])) || next-start < shortestSentence || lowerFollows(text[next:]) {
				continue
			}
		case '。', '！', '？', '।', '॥':
		case '\n':
			if next < len(text) && text[next] != '\n' {
				continue
			}
		default:
			continue
		}
		if next > start {
			cut(next)
		}
	}
	cut(len(text))
	return out
}

func firstRune(s string) rune {
	r, _ := utf8.DecodeRuneInString(s)
	return r
}

// lowerFollows reports whether a text goes on in lower case: an abbreviation stood there.
func lowerFollows(s string) bool {
	return unicode.IsLower(firstRune(strings.TrimLeftFunc(s, unicode.IsSpace)))
}
