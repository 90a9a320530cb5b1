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
			for _, w := range strings.Fields(line) {
				l.add(w, common)
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
	other    hashSet // one inner letter replaced by a gap
	powers   [longestWord + 1]uint64
	steps    hashSet // the differences between letters: the same for every shift of the alphabet
}

func (l *lexiconTables) add(w string, common bool) {
	if slices.Contains(l.list, w) {
		return
	}
	id := int32(len(l.list)) //nolint:gosec // some hundred words
	l.list = append(l.list, w)
	if !common {
		l.triggers = len(l.list)
	}
	h := hashOf(w)
	l.words.put(h.forward, id)
	if len(w) >= 3 {
		l.skeleton.put(skeleton(w), id)
	}
	if len(w) >= shortestCipher {
		l.steps.put(h.steps, id)
	}
	if common || len(w) < shortestTypo {
		return
	}
	l.mixed.put(h.mixed(), id)
	if len(w) >= shortestTypo {
		for i := 1; i < len(w)-1; i++ {
			l.short.put(hashOf(w[:i]+w[i+1:]).forward, id)
		}
	}
	for i := 1; i < len(w)-1; i++ {
		l.other.put(l.gap(h.forward, w, i), id)
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

// hashSet maps hashes to words. A bit for each hash answers most questions.
type hashSet struct {
	bits [1 << 10]uint64
	ids  map[uint64]int32
}

func bit(h uint64) uint64 { return h * 0x9E3779B97F4A7C15 >> 48 }

// put keeps the first word of a hash.
func (s *hashSet) put(h uint64, id int32) {
	if s.ids == nil {
		s.ids = map[uint64]int32{}
	}
	if _, ok := s.ids[h]; !ok {
		s.ids[h] = id
		s.bits[bit(h)>>6] |= 1 << (bit(h) & 63)
	}
}

func (s *hashSet) has(h uint64) bool { _, ok := s.get(h); return ok }

func (s *hashSet) get(h uint64) (int32, bool) {
	if b := bit(h); s.bits[b>>6]>>(b&63)&1 == 0 {
		return 0, false
	}
	id, ok := s.ids[h]
	return id, ok
}

// hasher hashes a word letter by letter, in every way that the lexicon knows.
type hasher struct {
	n            uint64
	first, last  byte
	forward      uint64
	backward     uint64 // the forward hash of the word read backwards
	steps        uint64
	negated      uint64 // the steps of the alphabet turned round (Atbash)
	power, inner uint64
}

const prime = 0x100000001B3

// inverse is what prime has to be multiplied by to give 1, in 64 bits.
const inverse = 0xCE965057AFF6957B

func (h *hasher) add(c byte) {
	v := uint64(c) + 1
	if h.n == 0 {
		h.first, h.power = c, 1
	} else {
		d := (26 + uint64(c) - uint64(h.last)) % 26
		h.steps = h.steps*prime + d + 1
		h.negated = h.negated*prime + (26-d)%26 + 1
	}
	h.forward = h.forward*prime + v
	h.backward += v * h.power
	h.power *= prime
	h.inner += mix(v)
	h.last = c
	h.n++
}

// mixed is the same for words with the same first and last letter, and the same letters between in any order.
func (h *hasher) mixed() uint64 {
	return h.inner*31 + uint64(h.first)<<8 + uint64(h.last) + h.n<<16
}

func mix(v uint64) uint64 {
	v *= 0xBF58476D1CE4E5B9
	return v ^ v>>29
}

func hashOf(w string) (h hasher) {
	for i := range len(w) {
		h.add(w[i])
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
