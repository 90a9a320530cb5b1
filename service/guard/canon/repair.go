package canon

import (
	"strings"
)

const (
	fewestSpaced = 5   // letters that stand alone, to count as one spaced-out word
	longestRun   = 256 // letters without a space that are looked at for several words
	mostPieces   = 4   // pieces of one word
)

// edit puts a text in the place of a stretch.
type edit struct {
	start, end int
	text       string
}

const fewestDigits = 2 // known words in digits and signs, to read all words so

// repair puts words together again that were spaced out, written in digits, stretched or misspelt.
func repair(t Text) Text {
	r := repairer{Text: t, lex: lexicon(), pulled: -2}
	r.all()
	if r.digits >= fewestDigits {
		r = repairer{Text: t, lex: r.lex, pulled: -2, plainly: true}
		r.all()
	}
	return t.edited(r.edits)
}

func (r *repairer) all() {
	s := r.Plain
	for i := 0; i < len(s); {
		if s[i] == ' ' {
			i++
			continue
		}
		i = r.token(i)
	}
}

// edited applies edits, which are in order and apart. Each byte that is put in comes from a byte in its place.
func (t Text) edited(edits []edit) Text {
	if len(edits) == 0 {
		return t
	}
	out := make([]byte, 0, len(t.Plain)+len(edits)*2)
	at := make([]int32, 0, cap(out)+1)
	last := 0
	for _, e := range edits {
		out, at = append(out, t.Plain[last:e.start]...), append(at, t.At[last:e.start]...)
		out = append(out, e.text...)
		for k := range len(e.text) {
			at = append(at, t.At[e.start+k*(e.end-e.start)/len(e.text)])
		}
		last = e.end
	}
	out, at = append(out, t.Plain[last:]...), append(at, t.At[last:]...)
	return Text{string(out), at}
}

type repairer struct {
	Text
	lex     *lexiconTables
	edits   []edit
	pulled  int  // where the last word ends whose letters stand apart
	digits  int  // known words in digits and signs
	plainly bool // there are several: unknown words are read so, too
}

func (r *repairer) put(start, end int, text string) int {
	if r.Plain[start:end] != text {
		r.edits = append(r.edits, edit{start, end, text})
	}
	return end
}

// token looks at what stands between two spaces, and says where to go on.
func (r *repairer) token(start int) int {
	s := r.Plain
	var h, sum uint64
	var seen uint8
	run, longest := 1, 1
	last := byte(0)
	i := start
	for ; i < len(s); i++ {
		c := s[i]
		if c == ' ' {
			break
		}
		seen |= kind[c]
		h = spell(h, c)
		sum += weights[c]
		if c == last {
			run++
			longest = max(longest, run)
		} else {
			run, last = 1, c
		}
	}
	end := i
	n := end - start
	switch {
	case n == 1 && seen&(isAlpha|isDigit|isLeet) != 0 || n == 2 && kind[s[start+1]]&isJoint != 0:
		return r.spaced(start, end)
	case seen&(isAlpha|isLeet) == 0 || seen&isOther != 0 && seen&(isDigit|isLeet|isJoint) != 0 && n > longestRun:
		return end
	case seen == isAlpha && longest < 3:
		return r.word(start, end, h, mixed(sum, s[start], last, n))
	}
	return r.odd(start, end, longest)
}

// word looks at a token of letters only: a word that was cut in pieces or misspelt, or several without spaces.
func (r *repairer) word(start, end int, h, mixed uint64) int {
	n := end - start
	if n > longestWord {
		r.several(start, end)
		return end
	}
	id, known := r.lex.words.get(h)
	if n < 9 && r.lex.prefixes.has(h) && (!known || !r.lex.trigger(id)) {
		if to := r.pieces(start, end, h); to > end {
			return to
		}
	}
	if !known && !r.misspelt(start, end, h, mixed) && n >= 12 {
		r.several(start, end)
	}
	return end
}

// misspelt puts a word that attacks are made of in the place of one that has one slip.
func (r *repairer) misspelt(start, end int, h, mixed uint64) bool {
	if end-start < shortestTypo-1 {
		return false
	}
	id, ok := r.lex.short.get(h)
	if !ok && end-start >= shortestTypo {
		if id, ok = r.lex.mixed.get(mixed); !ok {
			id, ok = r.lex.near(r.Plain[start:end], h)
		}
	}
	if ok {
		r.put(start, end, r.lex.list[id])
	}
	return ok
}

// pieces joins the pieces of a word: "ins truct ions".
func (r *repairer) pieces(start, end int, h uint64) int {
	s := r.Plain
	n, at := end-start, end
	for range mostPieces - 1 {
		at++ // the space
		first := at
		for at < len(s) && kind[s[at]]&isAlpha != 0 {
			if at > first && !r.lex.prefixes.has(h) {
				return end
			}
			h = spell(h, s[at])
			at, n = at+1, n+1
		}
		if at == first || n > longestWord || at < len(s) && kind[s[at]]&isDigit != 0 {
			return end
		}
		if id, ok := r.lex.words.get(h); ok && n >= shortestTypo && r.lex.trigger(id) && r.cut(start, end, first, at) {
			return r.put(start, at, r.lex.list[id])
		}
		if at < len(s) && s[at] != ' ' || !r.lex.prefixes.has(h) {
			return end
		}
	}
	return end
}

// cut says whether the pieces of a word make no sense by themselves.
func (r *repairer) cut(start, end, last, to int) bool {
	return !r.lex.words.has(hashOf(r.Plain[start:end])) || !r.lex.words.has(hashOf(r.Plain[last:to]))
}

// several puts spaces between words that stand without: "ignoreallpreviousinstructions".
func (r *repairer) several(start, end int) {
	if words := r.segment(r.Plain[start:end]); words != nil {
		r.put(start, end, strings.Join(words, " "))
	}
}

// segment cuts letters into known words, as few as can be, of which one is a trigger; nil where that cannot be.
func (r *repairer) segment(s string) []string {
	if len(s) > longestRun {
		return nil
	}
	type step struct{ words, from, triggers int }
	best := make([]step, len(s)+1)
	for i := range s {
		if i > 0 && best[i].words == 0 {
			continue
		}
		var h uint64
		for j := i; j < min(len(s), i+longestWord); j++ {
			h = spell(h, s[j])
			id, ok := r.lex.words.get(h)
			if !ok {
				continue
			}
			next := step{best[i].words + 1, i, best[i].triggers}
			if r.lex.trigger(id) && j-i >= 3 {
				next.triggers++
			}
			if b := best[j+1]; b.words == 0 || next.words < b.words {
				best[j+1] = next
			}
		}
	}
	all := best[len(s)]
	if all.words < 2 || all.triggers == 0 || len(s) < 3*all.words {
		return nil
	}
	words := make([]string, all.words)
	for i, k := len(s), all.words-1; k >= 0; k-- {
		words[k] = s[best[i].from:i]
		i = best[i].from
	}
	return words
}

// spaced joins letters that stand alone: "i g n o r e". A wider gap is a space; where there is none, known words are looked for.
func (r *repairer) spaced(start, end int) int {
	s := r.Plain
	var run []byte
	var gaps []int32 // before each letter
	letters := 0
	joint := byte(0) // what stands after each letter: "i. g. n."
	if end-start == 2 {
		joint = s[start+1]
	}
	to := start
	for i := start; i < len(s); {
		c := s[i]
		if kind[c]&(isAlpha|isDigit|isLeet) == 0 {
			break
		}
		next := i + 1
		if next < len(s) && (s[next] == joint || joint == 0 && strings.IndexByte(".,:;?!", s[next]) >= 0) {
			next++
		}
		if next < len(s) && s[next] != ' ' {
			break
		}
		g := int32(0)
		if len(run) > 0 {
			g = r.At[i] - r.At[i-1]
		}
		run, gaps = append(run, c), append(gaps, g)
		if kind[c]&isAlpha != 0 {
			letters++
		}
		if joint == 0 && next > i+1 { // the end of a sentence
			run, gaps = append(run, s[next-1]), append(gaps, 0)
		}
		to = next
		i = next + 1
	}
	singles := len(run)
	if singles < fewestSpaced-1 || letters*10 < singles*6 {
		return max(end, to)
	}
	words, wide := parted(run, gaps)
	for i, w := range words {
		if id, ok := r.lex.skeleton.get(skeleton(w)); ok && kindsOf(w)&^isAlpha != 0 {
			words[i] = r.lex.list[id]
		}
	}
	known := wide
	if len(words) == 1 {
		if parts := r.segment(words[0]); parts != nil {
			words, known = parts, true
		} else {
			known = r.lex.words.has(hashOf(words[0]))
		}
	}
	if !known && singles < fewestSpaced {
		return max(end, to)
	}
	return r.put(start, to, strings.Join(words, " "))
}

// parted cuts letters into words where the gap is wider than elsewhere.
func parted(run []byte, gaps []int32) (words []string, wide bool) {
	least := int32(0)
	for _, g := range gaps {
		if g > 0 && (least == 0 || g < least) {
			least = g
		}
	}
	from := 0
	for i, g := range gaps {
		if g > least {
			words, from, wide = append(words, string(run[from:i])), i, true
		}
	}
	return append(words, string(run[from:])), wide
}

func kindsOf(w string) (k uint8) {
	for i := range len(w) {
		k |= kind[w[i]]
	}
	return k
}

// odd looks at a token that is not letters only: digits and signs for letters, letters pulled apart, stretched words.
func (r *repairer) odd(start, end, longest int) int {
	s := r.Plain
	if end-start > longestRun {
		return end
	}
	// What stands around the word is not part of it: brackets, quotes, a full stop.
	from, to := start, end
	for from < to && kind[s[from]]&(isJoint|isOther) != 0 {
		from++
	}
	for to > from && kind[s[to-1]]&(isJoint|isOther) != 0 {
		to--
	}
	for least := max(from, to-mostPieces); to > least; to-- { // an exclamation mark at the end may be an i, or one
		w := s[from:to]
		k := kindsOf(w)
		if k&isOther != 0 || k&isAlpha == 0 && k&isLeet == 0 {
			break
		}
		if k == isAlpha && longest < 3 {
			if h := hashOf(w); len(w) <= longestWord && !r.lex.words.has(h) {
				r.misspelt(from, to, h, mixedOf(w))
			}
			break
		}
		if k&isJoint != 0 {
			if r.apart(start, from, to) {
				return end
			}
			break
		}
		if len(w) >= 3 && len(w) <= 2*longestWord {
			if id, ok := r.lex.skeleton.get(skeleton(w)); ok && r.readable(w, id) {
				r.put(from, to, r.lex.list[id])
				if k&(isDigit|isLeet) != 0 {
					r.digits++
				}
				return end
			}
		}
		if s[to-1] != '!' && s[to-1] != '|' && s[to-1] != '(' {
			break
		}
	}
	if r.plainly {
		r.read(from, to)
	}
	return end
}

// read takes the digits and signs of an unknown word for letters.
func (r *repairer) read(from, to int) {
	w := []byte(r.Plain[from:to])
	letters := 0
	for i, c := range w {
		switch k := kind[c]; {
		case k&isAlpha != 0:
			letters++
		case k&(isDigit|isLeet) == 0:
			return
		default:
			w[i] = shapes[c]
			if w[i] == 0 {
				return
			}
		}
	}
	if letters > 0 && letters < len(w) {
		r.put(from, to, string(w))
	}
}

// readable says whether a word in digits and signs can be taken for a known one: it has letters in most of its places or is
// long, and the word is not much shorter than it (which would be chance) unless letters are stretched.
func (r *repairer) readable(w string, id int32) bool {
	known := r.lex.list[id]
	if r.lex.words.has(hashOf(w)) {
		return false
	}
	letters, stretched, run := 0, false, 1
	for i := range len(w) {
		if kind[w[i]]&isAlpha != 0 {
			letters++
		}
		if i > 0 && w[i] == w[i-1] {
			run++
			stretched = stretched || run >= 3
		} else {
			run = 1
		}
	}
	if len(w) != len(known) && !stretched {
		return false
	}
	return len(w) >= 4 && (letters*4 >= len(w) || len(w) >= 6) || len(w) == 3 && letters >= 2
}

// apart joins a word whose letters stand apart ("i.g.n.o.r.e", "ig*no*re"), or cuts several of them apart. A short one counts
// next to another ("l.i.n.e a.n.d"), or when it is known.
func (r *repairer) apart(start, from, to int) bool {
	if r.joined(from, to) || start == r.pulled+1 && r.beside(from, to) {
		r.pulled = to
		for r.pulled < len(r.Plain) && r.Plain[r.pulled] != ' ' {
			r.pulled++
		}
		return true
	}
	return r.underlined(from, to)
}

// beside joins a word whose letters all stand apart.
func (r *repairer) beside(from, to int) bool {
	s := r.Plain[from:to]
	var word []byte
	for i := range len(s) {
		if letter := kind[s[i]]&isAlpha != 0; letter != (i%2 == 0) {
			return false
		} else if letter {
			word = append(word, s[i])
		}
	}
	r.put(from, to, string(word))
	return true
}

const fewestUnderlined = 4 // words with something in place of the spaces

// underlined puts spaces between words that have one other character there: "ignore_all_previous_instructions".
func (r *repairer) underlined(from, to int) bool {
	s := r.Plain[from:to]
	between := strings.IndexFunc(s, func(c rune) bool { return c < 'a' || c > 'z' })
	if between < 0 {
		return false
	}
	words := strings.Split(s, s[between:between+1])
	if len(words) < fewestUnderlined {
		return false
	}
	trigger := false
	for _, w := range words {
		if kindsOf(w) != isAlpha {
			return false
		}
		id, ok := r.lex.words.get(hashOf(w))
		trigger = trigger || ok && r.lex.trigger(id)
	}
	if trigger {
		r.put(from, to, strings.Join(words, " "))
	}
	return trigger
}

func (r *repairer) joined(from, to int) bool {
	s := r.Plain[from:to]
	var word []byte
	joints, longest, part := 0, 0, 0
	for i := range len(s) {
		if kind[s[i]]&isJoint != 0 {
			joints++
			part = 0
			continue
		}
		part++
		longest = max(longest, part)
		word = append(word, s[i])
	}
	if len(word) < 4 || len(word) > longestRun {
		return false
	}
	w := string(word)
	if longest == 1 && joints >= 3 { // every letter stands alone
		if parts := r.segment(w); parts != nil {
			r.put(from, to, strings.Join(parts, " "))
			return true
		}
		if kindsOf(w) == isAlpha && (joints >= fewestSpaced-1 || r.lex.words.has(hashOf(w))) {
			r.put(from, to, w)
			return true
		}
	}
	id, ok := r.lex.words.get(hashOf(w))
	if !ok {
		if id, ok = r.lex.skeleton.get(skeleton(w)); !ok || len(r.lex.list[id]) != len(w) {
			return false
		}
	}
	if !r.lex.trigger(id) || len(w) < 5 {
		return false
	}
	r.put(from, to, r.lex.list[id])
	return true
}
