package vector

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"aran/platform/fault"
)

const (
	scanRows = 256       // rows that a scan scores at a time
	maxRows  = 1<<31 - 1 // as far as rows can be numbered
)

// Memory is a Space in memory. It stores nothing unless it is given a file: its owner rebuilds it.
//
// Up to GraphFrom vectors every search compares all that are allowed, and is exact. Above, Tend links them into a graph
// (HNSW), which searches over much of the space walk; what was put since is compared one by one meanwhile, so that it
// is found at once. Scores are exact in any case. How a search goes about its owners depends on how many vectors they
// have: few are compared one by one, for many the walk collects those that are allowed until there are enough.
type Memory struct {
	model string
	opt   MemoryOptions
	scan  scanFunc
	kern  codeKernel
	spare sync.Pool // of *finder

	tending sync.Mutex   // held by Tend
	writing sync.Mutex   // held by who changes rows; before mu
	mu      sync.RWMutex // readers hold it through a search
	rows    *rows
	graph   *graph // nil: none yet
	changes int64  // since it was made
	file    *mapping
	closed  bool
	closing atomic.Bool
	mark    int64 // guarded by writing
	// What Tend alone uses.
	kept int64     // changes that the file has
	rest time.Time // until then no file is written
}

// MemoryOptions are the tuning of a Memory; the zero value is an exact space without a file.
type MemoryOptions struct {
	GraphFrom int    // vectors from which on there is a graph; 0: never
	Breadth   int    // how many candidates a walk keeps; 0: 96. More finds more, and takes longer.
	File      string // where Tend keeps what is dear to rebuild; empty: nowhere
	Tag       string // what the vectors are of, beside the model: a file with another tag is not opened
}

// NewMemory makes an empty exact space for the vectors of a model.
func NewMemory(model string, dim int) *Memory { return NewMemoryWith(model, dim, MemoryOptions{}) }

// NewMemoryWith makes an empty space as the options want it.
func NewMemoryWith(model string, dim int, o MemoryOptions) *Memory {
	if o.Breadth == 0 {
		o.Breadth = defaultBreadth
	}
	m := &Memory{model: model, opt: o, scan: fastest().scan, kern: codeKernels()[0], rows: newRows(dim)}
	m.spare.New = func() any { return &finder{probe: probe{codes: make([]int16, strideOf(dim))}} }
	return m
}

// Put implements Space; vectors are copied.
func (m *Memory) Put(_ context.Context, items ...Item) error {
	m.writing.Lock()
	defer m.writing.Unlock()
	for _, i := range items {
		if err := check(i.Vector, m.rows.dim); err != nil {
			return err
		}
	}
	if m.rows.n > maxRows-len(items) {
		return fault.New(fault.Exhausted, "vector_space_full", "The space is full.")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return ErrClosed
	}
	for _, i := range items {
		m.rows.put(i)
		m.changes++
	}
	return nil
}

// Delete implements Space.
func (m *Memory) Delete(_ context.Context, owners ...int64) error {
	m.writing.Lock()
	defer m.writing.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return ErrClosed
	}
	for _, o := range owners {
		m.changes += int64(m.rows.owners[o].n)
		m.rows.drop(o)
	}
	return nil
}

// Len implements Space.
func (m *Memory) Len(context.Context) (int, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.rows.live(), nil
}

// Owned is how many vectors an owner has.
func (m *Memory) Owned(owner int64) int {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return int(m.rows.owners[owner].n)
}

// Search implements Space.
func (m *Memory) Search(_ context.Context, q Query, k int, owners []int64) (hits []Hit, err error) {
	if err := checkModel(m.model, q.Model); err != nil {
		return nil, err
	}
	f := m.spare.Get().(*finder)
	defer m.spare.Put(f)
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.closed {
		return nil, ErrClosed
	}
	if err := check(q.Vector, m.rows.dim); err != nil {
		return nil, err
	}
	if k = min(k, m.rows.live()); k <= 0 {
		return nil, nil
	}
	f.start(m, q.Vector, k)
	defer f.end()
	switch {
	case owners == nil && m.walkable(k):
		f.walk()
	case owners == nil:
		f.scan(0, nil)
	case len(owners) == 0:
		return nil, nil
	default:
		f.among(owners)
	}
	return f.best()
}

// walkable reports whether the graph is of use for a search of all.
func (m *Memory) walkable(k int) bool {
	return m.graph != nil && m.graph.entry.Load() != noEntry && k <= maxWalk && m.rows.live() > m.opt.GraphFrom/2
}

// ErrClosed means that a space was closed before it was asked.
var ErrClosed = errors.New("the vector space is closed")

// finder is what one search needs; it is used again.
type finder struct {
	m      *Memory
	probe  probe
	sift   sift
	scores [scanRows]int32
	near   []*int8
	at     []uint32
	walker walker
}

func (f *finder) start(m *Memory, q []float32, k int) {
	f.m = m
	f.probe.set(q)
	f.sift.reset(k)
}

func (f *finder) end() { f.m, f.probe.exact = nil, nil }

// scan offers all rows from one on that are allowed (nil: all).
func (f *finder) scan(from uint32, allow func(r uint32) bool) {
	x, s, p := f.m.rows, &f.sift, &f.probe
	for at := int(from); at < x.n; {
		b, i := x.at(uint32(at)) //nolint:gosec // below n
		n := min(scanRows, x.n-at, blockRows-i)
		scores := f.scores[:n]
		f.m.kern.rows(p.codes, b.codes[i*x.stride:(i+n)*x.stride], scores)
		scale, wrong := b.scale[i:i+n], b.err[i:i+n]
		for j, dot := range scores {
			about, margin := p.scale*scale[j]*float32(dot), p.norm*wrong[j]+p.slack
			if about+margin < s.floor {
				continue
			}
			if r := uint32(at + j); !x.dead.has(r) && (allow == nil || allow(r)) { //nolint:gosec // below n
				s.offer(r, about, margin)
			}
		}
		at += n
	}
}

// offer scores rows that lie anywhere.
func (f *finder) offer(rs []uint32) {
	x, s, p := f.m.rows, &f.sift, &f.probe
	for rs := range slices.Chunk(rs, scanRows) {
		f.near = f.near[:0]
		for _, r := range rs {
			b, i := x.at(r)
			f.near = append(f.near, &b.codes[i*x.stride])
		}
		f.m.kern.gather(p.codes, f.near, f.scores[:len(rs)])
		for j, r := range rs {
			b, i := x.at(r)
			about, margin := p.scale*b.scale[i]*float32(f.scores[j]), p.norm*b.err[i]+p.slack
			if about+margin >= s.floor {
				s.offer(r, about, margin)
			}
		}
	}
}

// among searches the rows of some owners.
func (f *finder) among(owners []int64) {
	x := f.m.rows
	if !slices.IsSorted(owners) {
		owners = slices.Clone(owners)
		slices.Sort(owners)
	}
	if f.m.walkable(f.sift.k) {
		if n := x.estimate(owners); n*n > x.n*walkWorth {
			f.walkAmong(owners)
			return
		}
	}
	f.at = f.at[:0]
	for i, o := range owners {
		if i == 0 || o != owners[i-1] { // said twice, it counts once
			x.of(o, func(r uint32) { f.at = append(f.at, r) })
		}
	}
	if len(f.at) < x.n/4 {
		f.offer(f.at)
		return
	}
	allowed := make(bits, len(x.dead))
	for _, r := range f.at {
		allowed.set(r)
	}
	f.scan(0, allowed.has)
}

// estimate is about how many rows owners have.
func (x *rows) estimate(owners []int64) int {
	const looked = 64
	step, n, asked := max(1, len(owners)/looked), 0, 0
	for i := 0; i < len(owners); i += step {
		n += int(x.owners[owners[i]].n)
		asked++
	}
	return n * len(owners) / asked
}

// best scores exactly what was sifted, and sorts it: best first, ties by id. What lies in a file may be unreadable.
func (f *finder) best() (hits []Hit, err error) {
	if f.m.file != nil {
		defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
		defer func() {
			if p := recover(); p != nil {
				hits, err = nil, fmt.Errorf("%w: %v", ErrDamaged, p)
			}
		}()
	}
	s, x := &f.sift, f.m.rows
	best := newTop(s.k)
	var score [1]float32
	var id [1]int64
	for _, c := range s.rows {
		if c.most < s.floor {
			continue
		}
		b, i := x.at(c.row)
		if !b.sound(i, x.dim) {
			return nil, ErrDamaged
		}
		f.m.scan(f.probe.exact, x.exact(c.row), score[:])
		id[0] = b.ids[i]
		best.offer(id[:], score[:])
	}
	return best.sorted(), nil
}
