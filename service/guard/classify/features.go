package classify

import (
	"iter"
	"math"
	"sync"
)

// Windows: a text of up to wholeText words is one, a longer one has windows of windowSize, each half over the one before.
const (
	wholeText  = 96
	windowSize = 64
	windowStep = 32
)

// window is words[from:to].
type window struct{ from, to int }

// windows of a text; one at least.
func windows(words int) iter.Seq[window] {
	return func(yield func(window) bool) {
		if words <= wholeText {
			yield(window{0, words})
			return
		}
		for from := 0; ; from += windowStep {
			if from+windowSize >= words {
				yield(window{words - windowSize, words})
				return
			}
			if !yield(window{from, from + windowSize}) {
				return
			}
		}
	}
}

// near is how far apart two words may stand that belong together.
const near = 7

// Places of the dense features: each concept, each concept at the front of a sentence, each ordered pair of concepts
// that stand near, then the shape of the window.
const shapes = 7

func denseSize(concepts int) int { return 2*concepts + concepts*concepts + shapes }

// scratch is what finding the features of a window needs, to be used again.
type scratch struct {
	stamp uint32
	dense []uint32 // dense feature → stamp of the window that has it
	grams []uint32 // slot of the table of grams → the same
}

var scratches = sync.Pool{New: func() any { return &scratch{dense: make([]uint32, denseSize(maxConcepts))} }} //nolint:gochecknoglobals // memory only

// fit makes room for a model's grams.
func (s *scratch) fit(m *Model) {
	if len(s.grams) != len(m.grams.keys) {
		s.grams = make([]uint32, len(m.grams.keys))
	}
}

// next forgets the window before.
func (s *scratch) next() {
	if s.stamp++; s.stamp == 0 {
		clear(s.dense)
		clear(s.grams)
		s.stamp = 1
	}
}

// each yields the features of a window of a text that has total words: the dense ones once, the grams as often as they
// stand there.
func (s *scratch) each(part []word, w window, total, concepts int, onGram func(h uint64), onDense func(id int, value float32)) {
	once := func(id int) {
		if s.dense[id] != s.stamp {
			s.dense[id] = s.stamp
			onDense(id, 1)
		}
	}
	var last [maxConcepts]int // where a concept stood last, + 1
	var marks, foreign, numbers float32
	for i := range part {
		x := &part[i]
		onGram(x.hash)
		if i > 0 {
			onGram(pair(part[i-1].hash, x.hash))
		}
		switch {
		case x.mark:
			marks++
		case x.foreign:
			foreign++
		case x.hash == number:
			numbers++
		}
		for _, c := range x.about {
			once(int(c))
			if x.first {
				once(concepts + int(c))
			}
			for d := range concepts {
				if last[d] > 0 && i+1-last[d] <= near && d != int(c) {
					once(2*concepts + d*concepts + int(c))
				}
			}
		}
		for _, c := range x.about {
			last[c] = i + 1
		}
	}
	n := float32(max(1, len(part)))
	shape := [shapes]float32{float32(math.Log1p(float64(len(part)))) / 4, marks / n, foreign / n, numbers / n}
	for i, yes := range [...]bool{4: len(part) > 0 && part[len(part)-1].question && w.to == total, w.from == 0, total > wholeText} {
		if yes {
			shape[i] = 1
		}
	}
	for i, v := range shape {
		if v != 0 {
			onDense(2*concepts+concepts*concepts+i, v)
		}
	}
}
