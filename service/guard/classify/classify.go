// Package classify is the compact classifier: it says in microseconds how much a text reads like instructions to a
// model, by its words, what they stand for, and which of them stand together.
//
// It is a linear model over windows of words, and a text scores like its highest window: that keeps a long clean
// document clean and finds one paragraph in it. It is pure and takes linear time. Its score is a logit and means nothing
// alone: package injection makes a probability of it, together with the other layers.
package classify

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"math"
)

// Model is a trained classifier. Safe for concurrent use.
type Model struct {
	digest  string
	about   About
	bias    float32
	grams   *table // hash of a word or of two → weight
	pieces  *table // hash of a word piece → what is left of its vector: its product with the weights
	dense   []float32
	concept *concepts
}

//go:embed model.aran
var builtin []byte

// Builtin is the model inside the program.
func Builtin() (*Model, error) { return Parse(builtin) }

// Digest is the SHA-256 (hex) of the model's file.
func (m *Model) Digest() string { return m.digest }

// About is what the file says of itself.
func (m *Model) About() About { return m.about }

// Result is what the classifier thinks of one text.
type Result struct {
	Logit      float64 // of the highest window; 0 is undecided
	Windows    int
	Start, End int // the highest window: bytes of the text in its plain form
}

// Score judges a text in plain form (canon.Plain). A text without words scores as the bias alone.
func (m *Model) Score(plain string) Result {
	words := split(plain, m.concept)
	s := scratches.Get().(*scratch) //nolint:forcetypeassert // nothing else is put there
	defer scratches.Put(s)
	s.fit(m)
	pieces := m.pieceWeights(plain, words)
	best := Result{Logit: math.Inf(-1)}
	for w := range windows(len(words)) {
		part := words[w.from:w.to]
		z := m.score(s, part, w, len(words), pieces[w.from:w.to])
		best.Windows++
		if z > best.Logit {
			best.Logit = z
			if len(part) > 0 {
				best.Start, best.End = part[0].start, part[len(part)-1].end
			}
		}
	}
	return best
}

func (m *Model) score(s *scratch, part []word, w window, total int, pieces []pieceWeight) float64 {
	s.next()
	z := float64(m.bias)
	s.each(part, w, total, len(m.concept.names), func(h uint64) {
		if at := m.grams.slot(h); m.grams.keys[at] != 0 && s.grams[at] != s.stamp {
			s.grams[at] = s.stamp
			z += float64(m.grams.weights[at])
		}
	}, func(id int, value float32) {
		z += float64(m.dense[id] * value)
	})
	var sum, n float32
	for _, p := range pieces {
		sum, n = sum+p.weight, n+p.n
	}
	if n > 0 {
		z += float64(sum / n)
	}
	return z
}

// Layouts of the stretch that Strongest looks for, in words.
const (
	stretch     = 24
	stretchStep = 8
)

// Strongest narrows what Score found down to the stretch that reads most like an instruction: bytes of the plain text.
func (m *Model) Strongest(plain string, r Result) (start, end int) {
	words := split(plain[r.Start:r.End], m.concept)
	if len(words) <= stretch {
		return r.Start, r.End
	}
	s := scratches.Get().(*scratch) //nolint:forcetypeassert // nothing else is put there
	defer scratches.Put(s)
	s.fit(m)
	pieces := m.pieceWeights(plain[r.Start:r.End], words)
	best := math.Inf(-1)
	for from := 0; from+stretch <= len(words); from += stretchStep {
		w := window{from, from + stretch}
		if z := m.score(s, words[w.from:w.to], w, len(words), pieces[w.from:w.to]); z > best {
			best, start, end = z, r.Start+words[w.from].start, r.Start+words[w.to-1].end
		}
	}
	return start, end
}

type pieceWeight struct{ weight, n float32 }

// pieceWeights sums what the pieces of each word weigh.
func (m *Model) pieceWeights(plain string, words []word) []pieceWeight {
	out := make([]pieceWeight, len(words))
	for i, w := range words {
		eachPiece(plain[w.start:w.end], m.pieces, func(h uint64) {
			out[i].weight += m.pieces.get(h)
			out[i].n++
		})
	}
	return out
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
