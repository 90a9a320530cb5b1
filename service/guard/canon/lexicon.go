package canon

import (
	_ "embed"
	"slices"
	"strings"
	"sync"
)

//go:embed words.txt
var wordsFile string

const (
	shortestCipher = 5  // letters that a word has, to betray a cipher
	shortestTypo   = 6  // letters that a word has, to be found misspelt
	longestWord    = 20 // letters; longer ones are not looked up
)

// lexicon is what is known of the words in words.txt, by hash.
//
//nolint:gochecknoglobals // a constant table, made on first use
var lexicon = sync.OnceValue(func() *lexiconTables {
	l := &lexiconTables{}
	l.powers[0] = 1
	for i := 1; i < len(l.powers); i++ {
		l.powers[i] = l.powers[i-1] * prime
	}
	common := false
	for line := range strings.Lines(wordsFile) {
		if line = strings.TrimSpace(line); line == "common" {
			common = true
		} else if !strings.HasPrefix(line, "#") {
			for w := range strings.FieldsSeq(line) {
				if id, ok := l.add(w); ok && !common {
					l.disguises(w, id)
				}
			}
		}
	}
	return l
})

type lexiconTables struct {
	list     []string
	triggers int     // how many of the list are not common
	words    hashSet // as they are spelt
	skeleton hashSet // digits and signs read as letters, repetitions dropped
	mixed    hashSet // inner letters in any order
	short    hashSet // one inner letter left out
	prefixes hashSet // beginnings of triggers that may be misspelt
	other    hashSet // one inner letter replaced by a gap
	powers   [longestWord + 1]uint64
	steps    hashSet // the differences between letters: the same for every shift of the alphabet
}

// add makes a word known as it is spelt, in digits and in ciphers.
func (l *lexiconTables) add(w string) (int32, bool) {
	if slices.Contains(l.list, w) {
		return 0, false
	}
	id := int32(len(l.list)) //nolint:gosec // some hundred words
	l.list = append(l.list, w)
	l.words.put(hashOf(w), id)
	if len(w) >= 3 {
		l.skeleton.put(skeleton(w), id)
	}
	if len(w) >= shortestCipher {
		l.steps.put(steps(w), id)
	}
	return id, true
}

// disguises makes a trigger known with slips and in pieces.
func (l *lexiconTables) disguises(w string, id int32) {
	l.triggers = len(l.list)
	if len(w) < shortestTypo {
		return
	}
	l.mixed.put(mixedOf(w), id)
	for i := 1; i < len(w); i++ {
		l.prefixes.put(hashOf(w[:i]), id)
	}
	for i := 1; i < len(w)-1; i++ {
		l.short.put(hashOf(w[:i]+w[i+1:]), id)
		l.other.put(l.gap(hashOf(w), w, i), id)
	}
}

// gap is the hash of a word with a gap in place of one letter.
func (l *lexiconTables) gap(h uint64, w string, i int) uint64 {
	return h - uint64(w[i])*l.powers[len(w)-1-i]
}

// near finds a word that attacks are made of with one other inner letter, or one more.
func (l *lexiconTables) near(w string, h uint64) (int32, bool) {
	n := len(w)
	if n > longestWord {
		return 0, false
	}
	tail := uint64(w[n-1]) + 1 // the hash of what follows letter i
	for i := n - 2; i > 0; i-- {
		if id, ok := l.other.get(l.gap(h, w, i)); ok && len(l.list[id]) == n {
			return id, true
		}
		// Without letter i, all that stands before it moves by one place.
		head := (h - tail - (uint64(w[i])+1)*l.powers[n-1-i]) * inverse
		if id, ok := l.words.get(head + tail); ok && n > shortestTypo && l.trigger(id) && len(l.list[id]) == n-1 {
			return id, true
		}
		tail += (uint64(w[i]) + 1) * l.powers[n-1-i]
	}
	return 0, false
}

// trigger says whether a word is one that attacks are made of, and not just a common one.
func (l *lexiconTables) trigger(id int32) bool { return int(id) < l.triggers }

// hashSet maps hashes to words. A bit for each hash answers most questions; slots are filled from where a hash points on.
type hashSet struct {
	bits  [1 << 10]uint64
	slots []slot
	n     int
}

type slot struct {
	hash uint64
	id   int32
	used bool
}

func scatter(h uint64) uint64 { return h * 0x9E3779B97F4A7C15 }

// put keeps the first word of a hash.
func (s *hashSet) put(h uint64, id int32) {
	if s.has(h) {
		return
	}
	if s.n*2 >= len(s.slots) {
		old := s.slots
		s.slots = make([]slot, max(64, 2*len(old)))
		for _, o := range old {
			if o.used {
				s.place(o)
			}
		}
	}
	b := scatter(h) >> 48
	s.bits[b>>6] |= 1 << (b & 63)
	s.place(slot{h, id, true})
	s.n++
}

func (s *hashSet) place(o slot) {
	i := s.at(o.hash)
	for s.slots[i].used {
		i = (i + 1) % len(s.slots)
	}
	s.slots[i] = o
}

func (s *hashSet) at(h uint64) int { return int(scatter(h)>>20) & (len(s.slots) - 1) }

func (s *hashSet) has(h uint64) bool { _, ok := s.get(h); return ok }

func (s *hashSet) get(h uint64) (int32, bool) {
	if b := scatter(h) >> 48; s.bits[b>>6]>>(b&63)&1 == 0 {
		return 0, false
	}
	for i := s.at(h); s.slots[i].used; i = (i + 1) & (len(s.slots) - 1) {
		if s.slots[i].hash == h {
			return s.slots[i].id, true
		}
	}
	return 0, false
}

const prime = 0x100000001B3

// spell adds a letter to the hash of a word.
func spell(h uint64, c byte) uint64 { return h*prime + uint64(c) + 1 }

// inverse is what prime has to be multiplied by to give 1, in 64 bits.
const inverse = 0xCE965057AFF6957B

func hashOf(w string) (h uint64) {
	for i := range len(w) {
		h = spell(h, w[i])
	}
	return h
}

// mixed is the same for words with the same first and last letter, and the same letters between in any order. sum is that of
// weights for all letters.
func mixed(sum uint64, first, last byte, n int) uint64 {
	return sum*31 + uint64(first)<<8 + uint64(last) + uint64(n)<<16 //nolint:gosec // a length
}

func mixedOf(w string) uint64 {
	sum := uint64(0)
	for i := range len(w) {
		sum += weights[w[i]]
	}
	return mixed(sum, w[0], w[len(w)-1], len(w))
}

// weights are numbers of which sums tell their parts, in all likelihood.
//
//nolint:gochecknoglobals // a constant table
var weights = func() (t [256]uint64) {
	for i := range t {
		v := uint64(i+1) * 0xBF58476D1CE4E5B9
		t[i] = v ^ v>>29
	}
	return t
}()

// steps hashes the differences between the letters of a word: the same for every shift of the alphabet.
func steps(w string) (h uint64) {
	for i := 1; i < len(w); i++ {
		h = spell(h, (turns+w[i]-w[i-1])%turns)
	}
	return h
}

// skeleton hashes what is the same for all ways of writing a word in digits and signs, and of stretching its letters.
func skeleton(w string) (h uint64) {
	last := byte(0)
	for i := range len(w) {
		c := shapes[w[i]]
		if c != 0 && c != last {
			h = h*prime + uint64(c)
			last = c
		}
	}
	return h
}

// shapes puts characters that stand for each other under one letter.
//
//nolint:gochecknoglobals // a constant table
var shapes = func() (t [256]byte) {
	for c := byte('a'); c <= 'z'; c++ {
		t[c] = c
	}
	for _, group := range []string{"il1!|", "o0", "e3", "a4@", "s5$", "t7+", "b8", "g96", "c(", "z2"} {
		for i := range len(group) {
			t[group[i]] = group[0]
		}
	}
	return t
}()
