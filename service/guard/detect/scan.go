package detect

import (
	"slices"
	"unicode"
	"unicode/utf8"
)

// token is a word of a text: letters, digits and what stands for them. Of scripts without spaces each character is one.
type token struct {
	start, end int32
	sentence   int32
	clause     bool // a clause begins with it
}

// found is where an entry of a word list, or a phrase, stands: tokens start to end, both included.
type found struct{ start, end int32 }

// scratch is what one scan needs, used again for the next.
type scratch struct {
	v      *vocabulary
	scan   uint32 // counts scans: what carries another number is of an earlier one
	tokens []token
	terms  []int32   // numbers of words, token after token
	offset []int32   // where those of a token begin; one more than tokens
	places [][]int32 // by number of a word: the tokens that are it
	placed []uint32  // the scan that places are of
	begun  []uint32  // by set: the scan that met all words of an entry
	later  []begin   // sets that are met if other words are there, too
	hits   [][]found // by set, in order
	known  []uint32  // the scan that hits are of
	reach  [2][]found
	excuse [2][]found
}

func (v *vocabulary) scratch() *scratch {
	words, sets := len(v.first), len(v.terms)
	return &scratch{
		v: v, places: make([][]int32, words), placed: make([]uint32, words),
		begun: make([]uint32, sets), hits: make([][]found, sets), known: make([]uint32, sets),
	}
}

// read looks up every word of a text.
func (s *scratch) read(text string) {
	if s.scan++; s.scan == 0 { // after four thousand million scans
		clear(s.placed)
		clear(s.begun)
		clear(s.known)
		s.scan = 1
	}
	s.tokens, s.terms, s.offset = s.tokens[:0], s.terms[:0], s.offset[:0]
	s.tokenize(text)
	s.offset = append(s.offset, int32(len(s.terms))) //nolint:gosec // texts are at most some megabytes
	for i := range s.tokens {
		for _, n := range s.terms[s.offset[i]:s.offset[i+1]] {
			if s.placed[n] != s.scan {
				s.placed[n] = s.scan
				s.places[n] = s.places[n][:0]
				for _, b := range s.v.first[n] {
					if len(b.rest) == 0 {
						s.begun[b.set] = s.scan
					} else if s.begun[b.set] != s.scan {
						s.later = append(s.later, b)
					}
				}
			}
			s.places[n] = append(s.places[n], int32(i))
		}
	}
	for _, b := range s.later {
		if s.begun[b.set] != s.scan && s.all(b.rest) {
			s.begun[b.set] = s.scan
		}
	}
	s.later = s.later[:0]
}

// all says whether all of some words stand somewhere in the text.
func (s *scratch) all(words []int32) bool {
	for _, n := range words {
		if s.placed[n] != s.scan {
			return false
		}
	}
	return true
}

// of gives every place where an entry of a set stands.
func (s *scratch) of(set int32) []found {
	if s.known[set] == s.scan {
		return s.hits[set]
	}
	hits := s.hits[set][:0]
	sources := 0
	for _, t := range s.v.terms[set] {
		if s.placed[t.first] != s.scan || !s.all(t.rest) {
			continue
		}
		sources++
		for _, i := range s.places[t.first] {
			if end, ok := s.follows(int(i), t.rest); ok {
				hits = append(hits, found{i, int32(end)}) //nolint:gosec // texts are at most some megabytes
			}
		}
	}
	if sources > 1 {
		slices.SortFunc(hits, func(a, b found) int { return int(a.start - b.start) })
	}
	s.hits[set], s.known[set] = hits, s.scan
	return hits
}

// follows says whether words follow a token in its sentence.
func (s *scratch) follows(i int, rest []int32) (int, bool) {
	for _, n := range rest {
		i++
		if i >= len(s.tokens) || s.tokens[i].sentence != s.tokens[i-1].sentence {
			return 0, false
		}
		ok := false
		for _, m := range s.terms[s.offset[i]:s.offset[i+1]] {
			ok = ok || m == n
		}
		if !ok {
			return 0, false
		}
	}
	return i, true
}

// Kinds of characters.
const (
	letter = iota + 1
	ends   // a sentence, if a space follows
	breaks // a clause
	space
)

//nolint:gochecknoglobals // a constant table
var class = func() (t [128]uint8) {
	for c := range t {
		switch {
		case unicode.IsLetter(rune(c)) || unicode.IsDigit(rune(c)) || c == '*':
			t[c] = letter
		case c == '.' || c == '?' || c == '!' || c == ';':
			t[c] = ends
		case c == ' ' || c == '\'' || c == '-' || c == '_' || c == '/':
			t[c] = space
		default:
			t[c] = breaks
		}
	}
	t['*'] = breaks
	return t
}()

// alone says whether a character is a word by itself: scripts without spaces.
func alone(r rune) bool {
	return 0x2E80 <= r && r <= 0x9FFF || 0xF900 <= r && r <= 0xFAFF || 0x20000 <= r && r <= 0x3FFFF || 0x0E00 <= r && r <= 0x0EFF
}

// tokenize cuts a text into words and looks each of them up.
func (s *scratch) tokenize(text string) {
	sentence, clause := int32(0), true
	ending := false
	for i := 0; i < len(text); {
		c := text[i]
		if c < utf8.RuneSelf {
			switch class[c] {
			case ends:
				ending, clause = true, true
				i++
				continue
			case breaks:
				clause = true
				i++
				continue
			case space:
				if ending && c == ' ' {
					sentence++
				}
				ending = ending && c != ' '
				i++
				continue
			}
		}
		start, r, n := i, rune(c), 1
		if c >= utf8.RuneSelf {
			r, n = utf8.DecodeRuneInString(text[i:])
			if !unicode.In(r, unicode.L, unicode.M, unicode.N) {
				if r == '。' || r == '！' || r == '？' || r == '।' || r == '؟' || r == '۔' {
					sentence++
				}
				clause = true
				i += n
				continue
			}
		}
		ending = false
		s.offset = append(s.offset, int32(len(s.terms))) //nolint:gosec // texts are at most some megabytes
		var h uint64
		if alone(r) {
			i += n
			h = hash(text[start:i])
			s.stem(text[start:i], h)
		} else {
			i, h = s.word(text, start)
		}
		s.tokens = append(s.tokens, token{int32(start), int32(i), sentence, clause}) //nolint:gosec // as above
		clause = false
		if s.v.known.has(h) {
			if id, ok := s.v.exact[text[start:i]]; ok {
				s.terms = append(s.terms, id)
				clause = s.v.lead[id]
			}
		}
	}
}

// word reads on to the end of a word, and looks up its stems on the way.
func (s *scratch) word(text string, start int) (int, uint64) {
	var h uint64
	i := start
	for i < len(text) {
		c := text[i]
		if c < utf8.RuneSelf {
			if class[c] != letter {
				if c != '\'' || i == start || i+1 == len(text) || text[i+1] >= utf8.RuneSelf || class[text[i+1]] != letter {
					break
				} // don't is one word
			}
			h = h*fnvPrime + uint64(c) + 1
			i++
		} else {
			r, n := utf8.DecodeRuneInString(text[i:])
			if alone(r) || !unicode.In(r, unicode.L, unicode.M, unicode.N) {
				break
			}
			for k := range n {
				h = h*fnvPrime + uint64(text[i+k]) + 1
			}
			i += n
		}
		if i-start >= shortestStem {
			s.stem(text[start:i], h)
		}
	}
	return i, h
}

func (s *scratch) stem(w string, h uint64) {
	if s.v.stem.has(h) {
		if id, ok := s.v.stems[w]; ok {
			s.terms = append(s.terms, id)
		}
	}
}

// entryWords cuts an entry of a word list as a text is cut. A star at the end of a word stays.
func entryWords(text string) (out []string) {
	start := -1
	flush := func(end int) {
		if start >= 0 {
			out = append(out, text[start:end])
			start = -1
		}
	}
	for i, r := range text {
		switch {
		case alone(r):
			flush(i)
			out = append(out, string(r))
		case r == '*' && start >= 0, unicode.In(r, unicode.L, unicode.M, unicode.N), r == '\'' && start >= 0:
			if start < 0 {
				start = i
			}
		default:
			flush(i)
		}
	}
	flush(len(text))
	return out
}

// match gives every place where a phrase stands. What it returns holds until the next call.
func (s *scratch) match(p *phrase) []found {
	for i := range p.parts {
		if s.begun[p.parts[i].set] != s.scan {
			return nil
		}
	}
	for i := range p.parts {
		if len(s.of(p.parts[i].set)) == 0 {
			return nil
		}
	}
	now := s.reach[0][:0]
	for _, h := range s.of(p.parts[0].set) {
		if !p.clause || s.tokens[h.start].clause {
			now = append(now, h)
		}
	}
	next := s.reach[1][:0]
	for _, q := range p.parts[1:] {
		next = next[:0]
		k := 0
		for _, h := range s.of(q.set) {
			for k < len(now) && now[k].end < h.start {
				k++
			}
			for j := k - 1; j >= 0 && j >= k-widestGap; j-- {
				before := now[j]
				gap := h.start - before.end - 1
				if gap < 0 || gap > q.gap || !q.across && s.tokens[h.start].sentence != s.tokens[before.end].sentence {
					continue
				}
				next = append(next, found{before.start, h.end})
				break
			}
		}
		now, next = next, now
		if len(now) == 0 {
			break
		}
	}
	s.reach = [2][]found{now, next}
	return now
}

const excuseBefore, excuseAfter = 12, 6 // tokens

// excused says whether one of the phrases stands near a place.
func (s *scratch) excused(unless []phrase, m found) bool {
	if len(unless) == 0 {
		return false
	}
	held := s.reach
	s.reach = s.excuse
	defer func() { s.excuse, s.reach = s.reach, held }()
	for i := range unless {
		for _, u := range s.match(&unless[i]) {
			if u.end >= m.start-excuseBefore && u.start <= m.end+excuseAfter && s.tokens[u.start].sentence == s.tokens[m.start].sentence {
				return true
			}
		}
	}
	return false
}
