package outgoing

import (
	"crypto/sha256"
	"slices"
	"strings"
	"time"
	"unicode"

	"aran/platform/cache"
	"aran/service/guard/canon"
	"aran/service/guard/detect"
)

// Fingerprints of instructions: hashes of all runs of gram bytes, of which winnowing keeps the smallest of each window
// (Schleimer, Wilkerson & Aiken 2003, "Winnowing: local algorithms for document fingerprinting", §3): every common run of
// gram + window − 1 bytes or more is noticed.
const (
	gram        = 18
	window      = 8
	mostPrints  = 20_000 // beyond it the window grows
	leakSpan    = 3900   // bytes of what was released that count, as for Fences
	prime       = 1099511628211
	keepIndexes = 64
	fewestWords = 8 // shorter runs are no repetition
)

// Instructions are texts that an answer must not repeat. Safe for concurrent use.
type Instructions struct {
	text   string // letters and digits of the plain form
	words  []int32
	starts []bool // whether a word begins at a byte
	prints map[uint64]int32
	total  int // words
}

// LeakCache keeps the fingerprints of instructions that were asked for lately. Safe for concurrent use.
type LeakCache struct {
	indexes *cache.Cache[[sha256.Size]byte, *Instructions]
}

// NewLeakCache makes an empty cache.
func NewLeakCache() *LeakCache {
	return &LeakCache{cache.New[[sha256.Size]byte, *Instructions](keepIndexes, 10*time.Minute)}
}

// Instructions returns the fingerprints of instructions; nil when there are none.
func (c *LeakCache) Instructions(texts []string) *Instructions {
	if len(texts) == 0 {
		return nil
	}
	h := sha256.New()
	for _, t := range texts {
		_, _ = h.Write([]byte(t))
		_, _ = h.Write([]byte{0xff})
	}
	key := [sha256.Size]byte(h.Sum(nil))
	if x, ok := c.indexes.Get(key); ok {
		return x
	}
	x := NewInstructions(texts)
	c.indexes.Put(key, x)
	return x
}

// NewInstructions takes the fingerprints of instructions.
func NewInstructions(texts []string) *Instructions {
	l := letters(canon.Plain(strings.Join(texts, "\n")))
	text := []byte(l.text)
	x := &Instructions{text: l.text, starts: l.starts, prints: map[uint64]int32{}, words: make([]int32, len(l.text)+1)}
	for i, s := range l.starts {
		x.words[i+1] = x.words[i]
		if s {
			x.words[i+1]++
		}
	}
	x.total = int(x.words[len(l.text)])
	hashes := make([]uint64, 0, max(0, len(l.text)-gram+1))
	var r roller
	for i := range len(l.text) {
		if h, ok := r.add(text, i); ok {
			hashes = append(hashes, h)
		}
	}
	w := max(window, len(hashes)/mostPrints)
	var queue []int // of places whose hashes grow: the first is the smallest of the window
	for i, h := range hashes {
		for len(queue) > 0 && hashes[queue[len(queue)-1]] >= h {
			queue = queue[:len(queue)-1]
		}
		queue = append(queue, i)
		if queue[0] <= i-w {
			queue = queue[1:]
		}
		if i >= w-1 || i == len(hashes)-1 {
			if _, there := x.prints[hashes[queue[0]]]; !there {
				x.prints[hashes[queue[0]]] = int32(queue[0]) //nolint:gosec // texts are bounded
			}
		}
	}
	return x
}

// roller is a hash of the last gram bytes (Karp & Rabin 1987).
type roller struct{ h uint64 }

var leaving = func() uint64 { //nolint:gochecknoglobals // a constant
	p := uint64(1)
	for range gram {
		p *= prime
	}
	return p
}()

// add takes s[i] in and s[i-gram] out. The hash is mixed, for the smallest of raw sums would be of the smallest letters.
func (r *roller) add(s []byte, i int) (uint64, bool) {
	r.h = r.h*prime + uint64(s[i]) + 1
	if i >= gram {
		r.h -= leaving * (uint64(s[i-gram]) + 1)
	}
	h := r.h
	h ^= h >> 31
	h *= 0x9e3779b97f4a7c15
	return h ^ h>>29, i >= gram-1
}

type lettered struct {
	text   string
	starts []bool
	at     []int32
}

// letters keeps the letters and digits of a plain text, and remembers where words begin.
func letters(t canon.Text) lettered {
	var l lettered
	out := make([]byte, 0, len(t.Plain))
	begin := true
	for i, r := range t.Plain {
		if !unicode.IsLetter(r) && !unicode.IsNumber(r) {
			begin = begin || r == ' '
			continue
		}
		for n := range len(string(r)) {
			out = append(out, t.Plain[i+n])
			l.starts, l.at = append(l.starts, begin), append(l.at, t.At[i])
			begin = false
		}
	}
	l.text = string(out)
	return l
}

// Follower follows an answer and says how much of the instructions its end repeats.
type Follower struct {
	x       *Instructions
	text    []byte // the last letters of the answer
	at      []int  // where each of them stands in the answer
	dropped int    // letters that are not kept any more
	total   int    // bytes of the answer
	roll    roller
	place   int     // in the instructions, where the current run goes on; -1: there is none
	runs    []match // the latest last; the current one is among them
}

// match is a part of the answer that stands in the instructions too: [start, end) of the instructions, and the number of the
// answer's letter with which it ends.
type match struct{ start, end, letter int }

const (
	backMost = 256          // letters that a run is followed back
	keepMost = 4 * leakSpan // letters that are kept
)

// Follow begins an answer of which before was released last: 4,096 bytes, or all that there is.
func (x *Instructions) Follow(before string) *Follower {
	if x == nil {
		return nil
	}
	f := &Follower{x: x, place: -1}
	f.Write(before)
	return f
}

// Write goes on with the answer.
func (f *Follower) Write(s string) {
	if f == nil {
		return
	}
	f.take(s)
	keep := 0
	for keep < len(f.runs)-1 && f.runs[keep].letter < f.first() {
		keep++
	}
	f.runs = f.runs[keep:]
	if drop := len(f.text) - keepMost/2; len(f.text) > keepMost {
		f.text, f.at = append(f.text[:0], f.text[drop:]...), append(f.at[:0], f.at[drop:]...)
		f.dropped += drop
	}
}

// first is the number of the first letter that counts.
func (f *Follower) first() int {
	i, _ := slices.BinarySearch(f.at, f.total-leakSpan)
	return f.dropped + i
}

func (f *Follower) take(s string) {
	l := letters(canon.Plain(s))
	from := len(f.text)
	f.text = append(f.text, l.text...)
	for _, p := range l.at {
		f.at = append(f.at, f.total+int(p))
	}
	f.total += len(s)
	for i := from; i < len(f.text); i++ {
		f.step(i)
	}
}

func (f *Follower) step(i int) {
	h, full := f.roll.add(f.text, i)
	if f.place >= 0 && f.place < len(f.x.text) && f.x.text[f.place] == f.text[i] {
		f.place++
		last := &f.runs[len(f.runs)-1]
		last.end, last.letter = f.place, f.dropped+i
		return
	}
	f.place = -1
	p, found := f.x.prints[h]
	if !full || !found || i < gram-1 || f.x.text[p:p+gram] != string(f.text[i-gram+1:i+1]) {
		return
	}
	start, back := int(p), i-gram+1
	for n := 0; n < backMost && start > 0 && back > 0 && f.x.text[start-1] == f.text[back-1]; n++ {
		start--
		back--
	}
	f.place = int(p) + gram
	f.runs = append(f.runs, match{start, f.place, f.dropped + i})
}

// Limits say from when on an answer repeats too much of its instructions.
type Limits struct {
	Words int     // in one run
	Share float64 // of all words of the instructions, 0 to 1, in runs of 8 words and more
}

// Find judges what comes next: a finding covers all of it.
func (f *Follower) Find(next string, l Limits) []detect.Finding {
	if f == nil || f.x.total < fewestWords {
		return nil
	}
	saved, runs := *f, slices.Clone(f.runs)
	f.take(next)
	longest, share := f.measure(len(next))
	*f = saved // what was appended is written over
	f.runs = runs
	out := []detect.Finding(nil)
	add := func(rule, why string, score float64) {
		out = append(out, detect.Finding{Kind: "leakage", Rule: rule, Score: min(1, score), Start: 0, End: len(next), Why: why})
	}
	switch {
	case longest >= l.Words:
		add("leakage.run", "It repeats a long run of words of the instructions.", float64(longest)/float64(l.Words)/2)
	case share >= l.Share:
		add("leakage.share", "It repeats a large part of the instructions.", share)
	}
	if !longWord(next) {
		return out
	}
	for _, h := range canon.Decode(next) {
		inner := f.x.Follow(h.Text)
		if n, s := inner.measure(len(h.Text)); n >= fewestWords || s >= l.Share {
			out = append(out, detect.Finding{Kind: "leakage", Rule: "leakage+" + h.How, Score: 1, Start: h.Start, End: h.End, Why: "It repeats the instructions, written as " + h.How + "."})
		}
	}
	return out
}

// measure counts the words of the longest run that reaches into the last n bytes, and the share of the instructions that the
// end of the answer repeats. Without a run there it is 0 of both: what was released before was judged before.
func (f *Follower) measure(n int) (longest int, share float64) {
	var spans []match
	fresh, first := false, f.first()
	for _, r := range f.runs {
		if r.letter < first {
			continue
		}
		r.start = max(r.start, r.end-(r.letter-first+1))
		count := int(f.x.words[r.end] - f.x.words[r.start])
		if count < fewestWords {
			continue
		}
		spans = append(spans, r)
		if f.at[r.letter-f.dropped] >= f.total-n {
			fresh = true
			longest = max(longest, count)
		}
	}
	if !fresh {
		return 0, 0
	}
	slices.SortFunc(spans, func(a, b match) int { return a.start - b.start })
	covered, end := 0, 0
	for _, s := range spans {
		if s.end > end {
			covered += int(f.x.words[s.end] - f.x.words[max(s.start, end)])
			end = s.end
		}
	}
	return longest, float64(covered) / float64(f.x.total)
}
