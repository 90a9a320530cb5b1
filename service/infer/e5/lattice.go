package e5

import (
	"math"
	"unicode/utf8"

	"aran/service/infer/minilm"
)

// lattice finds the best pieces of a word: a space and what follows it up to the next one. No piece goes across a
// space, so that words can be taken one by one.
type lattice struct {
	t     *Tokenizer
	yield func(minilm.Token) bool
	score float32 // of all before: sums are rounded as if the text were one word

	text   []byte
	places []place // of each character
	steps  []step  // [characters + 1]
	back   []int   // ends of the best pieces, the last first
}

// place is where a character is in the word, and where it comes from.
type place struct{ at, start, end int }

// step is the best way to a character.
type step struct {
	score float32
	from  int
	id    int32
}

func (l *lattice) chars() int { return len(l.places) }

func (l *lattice) add(c rune, start, end int) {
	l.places = append(l.places, place{len(l.text), start, end})
	l.text = utf8.AppendRune(l.text, c)
}

// flush yields the word's tokens and forgets it (Viterbi 1967).
func (l *lattice) flush() bool {
	n := len(l.places)
	if n == 0 {
		return true
	}
	l.steps = append(l.steps[:0], step{score: l.score})
	for range n {
		l.steps = append(l.steps, step{score: float32(math.Inf(-1))})
	}
	reach := func(to, from int, id int32, score float32) {
		if score > l.steps[to].score {
			l.steps[to] = step{score, from, id}
		}
	}
	for i := range n {
		h, at := hashStart, l.places[i].at
		for e := i + 1; e <= n; e++ {
			end := l.end(e)
			if end-l.places[i].at > l.t.longest {
				break
			}
			for ; at < end; at++ {
				h = (h ^ uint64(l.text[at])) * hashTimes
			}
			if id := l.t.find(l.text[l.places[i].at:end], h); id >= 0 {
				reach(e, i, id, l.steps[i].score+l.t.scores[id])
			}
		}
		reach(i+1, i, l.t.unknown, l.steps[i].score+l.t.unseen)
	}
	l.score = l.steps[n].score
	l.back = l.back[:0]
	for e := n; e > 0; e = l.steps[e].from {
		l.back = append(l.back, e)
	}
	for i := len(l.back) - 1; i >= 0; i-- {
		s := l.steps[l.back[i]]
		if !l.yield(minilm.Token{ID: s.id, Start: l.places[s.from].start, End: l.places[l.back[i]-1].end}) {
			return false
		}
	}
	l.text, l.places = l.text[:0], l.places[:0]
	return true
}

// end is where the first e characters of the word end.
func (l *lattice) end(e int) int {
	if e == len(l.places) {
		return len(l.text)
	}
	return l.places[e].at
}
