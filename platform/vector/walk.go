package vector

import (
	"cmp"
	"slices"
)

// walk searches all: what is linked through the graph, what came since one by one.
func (f *finder) walk() {
	x, g := f.m.rows, f.m.graph
	done := g.linked() // rows that are linked from now on are found among the rest
	w := f.ready()
	breadth := max(f.m.opt.Breadth, f.sift.k+f.sift.k/2)
	from := g.descend(w, f.probe.codes, g.entry.Load(), 0)
	if x.deadRows == 0 {
		g.beam(w, f.probe.codes, from, breadth, 0)
	} else if !g.collect(w, f.probe.codes, from, breadth, x.live(), func(r uint32) bool { return !x.dead.has(r) }) {
		w.pool = w.pool[:0]
	}
	if len(w.pool) < f.sift.k { // fewer than there are
		f.scan(0, nil)
		return
	}
	f.take(done)
	f.scan(done, nil)
}

// walkAmong searches the rows of owners, which are many, and sorted.
func (f *finder) walkAmong(owners []int64) {
	x, g := f.m.rows, f.m.graph
	done := g.linked()
	w := f.ready()
	allow := func(r uint32) bool {
		b, i := x.at(r)
		_, ok := slices.BinarySearchFunc(owners, b.owner[i], cmp.Compare[int64])
		return ok && !x.dead.has(r)
	}
	from := g.descend(w, f.probe.codes, g.entry.Load(), 0)
	if !g.collect(w, f.probe.codes, from, max(f.m.opt.Breadth, f.sift.k+f.sift.k/2), x.live()/4, allow) || len(w.pool) < f.sift.k {
		f.scan(0, allow)
		return
	}
	f.take(done)
	f.scan(done, allow)
}

func (f *finder) ready() *walker {
	w := &f.walker
	w.kern = f.m.kern
	w.reset(f.m.rows.n)
	return w
}

// take offers what a walk has come to.
func (f *finder) take(done uint32) {
	x, s, p := f.m.rows, &f.sift, &f.probe
	for _, c := range f.walker.pool {
		if c.row >= done {
			continue
		}
		b, i := x.at(c.row)
		about, margin := p.scale*c.sim, p.norm*b.err[i]+p.slack
		if about+margin >= s.floor {
			s.offer(c.row, about, margin)
		}
	}
}
