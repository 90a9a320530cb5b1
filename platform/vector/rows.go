package vector

import (
	"math"
	"slices"
)

const (
	blockRows = 1024       // rows of one block
	none      = ^uint32(0) // no row
)

// rows are vectors with what they are called and what they belong to, numbered from 0. A row that was deleted keeps its
// number until the rows are packed anew. Not safe for concurrent use by itself.
type rows struct {
	dim, stride int
	n           int // rows, dead ones too
	blocks      []*block
	dead        bits
	deadRows    int
	byID        map[int64]uint32
	owners      map[int64]owned
}

// owned is the chain of an owner's rows.
type owned struct {
	first uint32
	n     uint32
}

// block is blockRows rows, the last one fewer. The first one grows as it fills; the others are made whole.
type block struct {
	exact      []float32 // [rows][dim]; it may lie in a file
	sums       []uint32  // a CRC-32C of each of the first rows: those that were read from a file
	codes      []int8    // [rows][stride]
	scale, err []float32
	ids        []int64
	owner      []int64
	next, prev []uint32 // of the same owner
	links      []uint32 // [blockRows][1 + 2m]: how many, and which rows; nil until there is a graph
	upper      []uint32 // where a row's links of higher layers are; 0: it has none
}

func newRows(dim int) *rows {
	return &rows{dim: dim, stride: strideOf(dim), byID: map[int64]uint32{}, owners: map[int64]owned{}}
}

func (x *rows) live() int { return x.n - x.deadRows }

func (x *rows) at(r uint32) (b *block, i int) { return x.blocks[r/blockRows], int(r % blockRows) }

func (x *rows) exact(r uint32) []float32 {
	b, i := x.at(r)
	return b.exact[i*x.dim:][:x.dim:x.dim]
}

func (x *rows) codes(r uint32) []int8 {
	b, i := x.at(r)
	return b.codes[i*x.stride:][:x.stride:x.stride]
}

func (x *rows) id(r uint32) int64 {
	b, i := x.at(r)
	return b.ids[i]
}

// put adds an item, or replaces the one with its id.
func (x *rows) put(i Item) {
	if r, ok := x.byID[i.ID]; ok {
		x.kill(r)
	}
	if x.n == len(x.blocks)*blockRows {
		x.blocks = append(x.blocks, x.newBlock())
	}
	r := uint32(x.n) //nolint:gosec // bounded by maxRows
	b := x.blocks[len(x.blocks)-1]
	at := len(b.codes)
	b.codes = slices.Grow(b.codes, x.stride)[:at+x.stride]
	scale, err := encode(i.Vector, b.codes[at:])
	b.exact = append(b.exact, i.Vector...)
	b.scale, b.err = append(b.scale, scale), append(b.err, err)
	b.ids, b.owner = append(b.ids, i.ID), append(b.owner, i.Owner)
	b.next, b.prev = append(b.next, none), append(b.prev, none)
	x.n++
	x.dead = x.dead.grown(x.n)
	x.byID[i.ID] = r
	x.chain(r, i.Owner)
}

func (x *rows) newBlock() *block {
	if len(x.blocks) == 0 {
		return &block{}
	}
	return &block{
		exact: make([]float32, 0, blockRows*x.dim), codes: make([]int8, 0, blockRows*x.stride),
		scale: make([]float32, 0, blockRows), err: make([]float32, 0, blockRows),
		ids: make([]int64, 0, blockRows), owner: make([]int64, 0, blockRows),
		next: make([]uint32, 0, blockRows), prev: make([]uint32, 0, blockRows),
	}
}

// chain puts a row before the others of its owner.
func (x *rows) chain(r uint32, owner int64) {
	o, ok := x.owners[owner]
	b, i := x.at(r)
	if ok {
		b.next[i] = o.first
		c, j := x.at(o.first)
		c.prev[j] = r
	}
	x.owners[owner] = owned{r, o.n + 1}
}

// kill marks a row as deleted. Its codes stay as long as a graph may lead through it.
func (x *rows) kill(r uint32) {
	b, i := x.at(r)
	delete(x.byID, b.ids[i])
	o := x.owners[b.owner[i]]
	next, prev := b.next[i], b.prev[i]
	if next != none {
		c, j := x.at(next)
		c.prev[j] = prev
	}
	if prev != none {
		c, j := x.at(prev)
		c.next[j] = next
	} else {
		o.first = next
	}
	if o.n--; o.n == 0 {
		delete(x.owners, b.owner[i])
	} else {
		x.owners[b.owner[i]] = o
	}
	x.dead.set(r)
	x.deadRows++
}

// drop kills all rows of an owner.
func (x *rows) drop(owner int64) {
	for o := x.owners[owner]; o.n > 0; o = x.owners[owner] {
		x.kill(o.first)
	}
}

// of calls yield for each row of an owner.
func (x *rows) of(owner int64, yield func(r uint32)) {
	o, ok := x.owners[owner]
	if !ok {
		return
	}
	for r := o.first; r != none; {
		yield(r)
		b, i := x.at(r)
		r = b.next[i]
	}
}

// bits is a set of rows.
type bits []uint64

func (b bits) has(r uint32) bool { return b[r>>6]&(1<<(r&63)) != 0 }
func (b bits) set(r uint32)      { b[r>>6] |= 1 << (r & 63) }

// grown has room for n rows.
func (b bits) grown(n int) bits {
	for len(b) < (n+63)/64 {
		b = append(b, 0)
	}
	return b
}

// sift finds the rows that may be among the k best by their codes: what is not in it can't be.
type sift struct {
	k     int
	floor float32   // as good as the k-th best is for certain
	least []float32 // the k best lower bounds, a heap with the smallest on top
	rows  []maybe
}

// maybe is a row, and the most that it may score.
type maybe struct {
	most float32
	row  uint32
}

func (s *sift) reset(k int) {
	*s = sift{k: k, floor: float32(math.Inf(-1)), least: s.least[:0], rows: s.rows[:0]}
}

// offer takes a row whose score is within margin of about, and whose most is not below the floor.
func (s *sift) offer(r uint32, about, margin float32) {
	s.rows = append(s.rows, maybe{about + margin, r})
	low := about - margin
	if len(s.least) < s.k {
		s.least = append(s.least, low)
		for i := len(s.least) - 1; i > 0; {
			p := (i - 1) / 2
			if s.least[p] <= s.least[i] {
				break
			}
			s.least[p], s.least[i] = s.least[i], s.least[p]
			i = p
		}
	} else if low > s.least[0] {
		s.least[0] = low
		for i := 0; ; {
			c := 2*i + 1
			if c >= s.k {
				break
			}
			if c+1 < s.k && s.least[c+1] < s.least[c] {
				c++
			}
			if s.least[i] <= s.least[c] {
				break
			}
			s.least[i], s.least[c] = s.least[c], s.least[i]
			i = c
		}
	}
	if len(s.least) == s.k {
		s.floor = s.least[0]
	}
}
