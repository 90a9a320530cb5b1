package vector

import (
	"math"
	"slices"
	"sync/atomic"
)

// The graph is a hierarchical navigable small world (Malkov & Yashunin, "Efficient and robust approximate nearest
// neighbor search using hierarchical navigable small world graphs", 2018). Numbers of algorithms are those of the paper.
const (
	degree         = 16   // M: links of a row in each layer; twice as many in the lowest
	buildBreadth   = 128  // efConstruction
	defaultBreadth = 64   // ef
	maxWalk        = 500  // neighbours wanted; for more all are compared
	walkWorth      = 2500 // so many rows compared one by one take as long as a walk among all
	maxLayers      = 12
	lowest         = 1 + 2*degree // words of a row's links in layer 0: how many, and which
	higher         = 1 + degree
	arenaWords     = 1 << 16
	expanded       = uint32(1) << 31 // marks a candidate whose links were followed
)

// graph links rows. Searches run beside the one that links: they read links atomically and find old or new ones.
type graph struct {
	x     *rows
	done  atomic.Uint32 // rows below are linked, or dead
	entry atomic.Uint64 // layers<<32 | row, of where searches start; noEntry: nothing is linked
	arena [][]uint32    // of each row in higher layers: how many, and its links there; chunks of arenaWords, from word 1 on
	used  uint32        // words of the arena
}

const noEntry = ^uint64(0)

func newGraph(x *rows) *graph {
	g := &graph{x: x, used: 1}
	g.entry.Store(noEntry)
	return g
}

func (g *graph) linked() uint32 { return g.done.Load() }

// room makes place for the links of rows below n. It needs the rows for itself.
func (g *graph) room(n int) {
	for i := 0; i*blockRows < n; i++ {
		if b := g.x.blocks[i]; b.links == nil {
			b.links, b.upper = make([]uint32, blockRows*lowest), make([]uint32, blockRows)
		}
	}
	// A row's words lie in one chunk, so each may leave some of a chunk unused.
	for len(g.arena)*arenaWords-int(g.used) < (batchLinks+2)*(1+maxLayers*higher) {
		g.arena = append(g.arena, make([]uint32, arenaWords))
	}
}

// draw says in how many layers above the lowest a row is to be: the number decides, so that a graph can be made again.
func draw(r uint32) int {
	z := (uint64(r) + 1) * 0x9E3779B97F4A7C15 // splitmix64
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	z ^= z >> 31
	u := (float64(z>>11) + 0.5) / (1 << 53)
	return min(maxLayers-1, int(-math.Log(u)/math.Log(degree)))
}

// list is a row's links in a layer: how many, then which.
func (g *graph) list(r uint32, layer int) []uint32 {
	b, i := g.x.at(r)
	if layer == 0 {
		return b.links[i*lowest:][:lowest:lowest]
	}
	at := atomic.LoadUint32(&b.upper[i])
	if at == 0 {
		return nil
	}
	at += 1 + uint32(layer-1)*higher //nolint:gosec // below maxLayers
	return g.arena[at/arenaWords][at%arenaWords:][:higher:higher]
}

// layers is in how many layers above the lowest a row is.
func (g *graph) layers(r uint32) int {
	b, i := g.x.at(r)
	at := atomic.LoadUint32(&b.upper[i])
	if at == 0 {
		return 0
	}
	return int(g.arena[at/arenaWords][at%arenaWords])
}

// raise gives a row links in layers above the lowest.
func (g *graph) raise(r uint32, layers int) {
	if layers == 0 {
		return
	}
	words := 1 + uint32(layers)*higher //nolint:gosec // below maxLayers
	if left := arenaWords - g.used%arenaWords; left < words {
		g.used += left
	}
	g.arena[g.used/arenaWords][g.used%arenaWords] = uint32(layers) //nolint:gosec // below maxLayers
	b, i := g.x.at(r)
	atomic.StoreUint32(&b.upper[i], g.used)
	g.used += words
}

func setLinks(list, to []uint32) {
	for i, r := range to {
		atomic.StoreUint32(&list[1+i], r)
	}
	atomic.StoreUint32(&list[0], uint32(len(to))) //nolint:gosec // below lowest
}

// cand is a row on a walk, and how near it is.
type cand struct {
	sim float32
	row uint32
}

// walker is what one walk needs; it is used again.
type walker struct {
	seen  bits
	pool  []cand // best first
	far   []cand // a heap, the nearest on top
	rows  []uint32
	near  []*int8
	dots  [2 * lowest]int32
	sims  [2 * lowest]float32
	wide  []int16
	other []int16
	kern  codeKernel
}

func (w *walker) reset(n int) {
	words := (n + 63) / 64
	if cap(w.seen) < words {
		w.seen = make(bits, words+words/8)
	}
	w.seen = w.seen[:words]
	clear(w.seen)
}

// unseen collects the links of a row that the walk has not seen, and scores them.
func (w *walker) unseen(g *graph, q []int16, r uint32, layer int) {
	list := g.list(r, layer)
	w.rows, w.near = w.rows[:0], w.near[:0]
	if list == nil {
		return
	}
	n := atomic.LoadUint32(&list[0])
	for i := range n {
		to := atomic.LoadUint32(&list[1+i])
		if at, bit := to>>6, uint64(1)<<(to&63); w.seen[at]&bit == 0 {
			w.seen[at] |= bit
			w.rows = append(w.rows, to)
		}
	}
	w.score(g.x, q, w.rows)
}

// score writes to sims how near rows are: q · row, but for q's scale.
func (w *walker) score(x *rows, q []int16, rs []uint32) {
	w.near = w.near[:0]
	for _, r := range rs {
		b, i := x.at(r)
		w.near = append(w.near, &b.codes[i*x.stride])
	}
	w.kern.gather(q, w.near, w.dots[:len(rs)])
	for j, r := range rs {
		b, i := x.at(r)
		w.sims[j] = b.scale[i] * float32(w.dots[j])
	}
}

// descend goes from the entry down to a layer, in each to the nearest it comes to (alg. 2 with ef = 1).
func (g *graph) descend(w *walker, q []int16, entry uint64, layer int) cand {
	at := uint32(entry) //nolint:gosec // its lower half
	w.score(g.x, q, append(w.rows[:0], at))
	best := cand{w.sims[0], at}
	for l := int(entry >> 32); l > layer; l-- {
		for moved := true; moved; {
			moved = false
			list := g.list(best.row, l)
			w.rows = w.rows[:0]
			if list != nil {
				for i := range atomic.LoadUint32(&list[0]) {
					w.rows = append(w.rows, atomic.LoadUint32(&list[1+i]))
				}
			}
			w.score(g.x, q, w.rows)
			for i, r := range w.rows {
				if w.sims[i] > best.sim {
					best, moved = cand{w.sims[i], r}, true
				}
			}
		}
	}
	return best
}

// beam walks through a layer from one row (alg. 2): w.pool gets the nearest it comes to, best first. seen must be clear.
func (g *graph) beam(w *walker, q []int16, from cand, breadth, layer int) {
	pool := append(w.pool[:0], from)
	w.seen.set(from.row)
	for next := 0; next < len(pool); {
		if pool[next].row&expanded != 0 {
			next++
			continue
		}
		r := pool[next].row
		pool[next].row |= expanded
		w.unseen(g, q, r, layer)
		for i, to := range w.rows {
			sim := w.sims[i]
			if len(pool) == breadth {
				if sim <= pool[breadth-1].sim {
					continue
				}
			} else {
				pool = append(pool, cand{})
			}
			lo, hi := 0, len(pool)-1
			for lo < hi {
				if mid := int(uint(lo+hi) >> 1); pool[mid].sim >= sim {
					lo = mid + 1
				} else {
					hi = mid
				}
			}
			copy(pool[lo+1:], pool[lo:])
			pool[lo] = cand{sim, to}
			next = min(next, lo)
		}
	}
	for i := range pool {
		pool[i].row &^= expanded
	}
	w.pool = pool
}

// choose keeps of candidates, best first, those that are nearer to the row than to any that is kept (alg. 4): links
// into several directions lead further than links into one. Where that leaves too few, the nearest are taken back.
func (g *graph) choose(w *walker, from []cand, most int, kept []cand) []cand {
	if len(from) <= most/4 {
		return append(kept, from...)
	}
	x := g.x
	var passed []cand
	near := w.near[:0]
	var scales [lowest]float32
	for _, c := range from {
		if len(kept) == most {
			break
		}
		b, i := x.at(c.row)
		ok := true
		if len(kept) > 0 {
			w.kern.widen(w.other, b.codes[i*x.stride:][:x.stride])
		}
		for at := 0; ok && at < len(kept); at += 4 {
			end := min(at+4, len(kept))
			w.kern.gather(w.other, near[at:end], w.dots[:end-at])
			for j := range end - at {
				if b.scale[i]*scales[at+j]*float32(w.dots[j]) >= c.sim {
					ok = false
					break
				}
			}
		}
		if !ok {
			if len(passed) < most/4 {
				passed = append(passed, c)
			}
			continue
		}
		scales[len(kept)] = b.scale[i]
		near = append(near, &b.codes[i*x.stride])
		kept = append(kept, c)
	}
	w.near = near
	for _, c := range passed {
		if len(kept) >= most/4 {
			break
		}
		kept = append(kept, c)
	}
	return kept
}

// link adds a row to the graph (alg. 1). Others may search meanwhile, but not link.
func (g *graph) link(w *walker, r uint32) {
	x := g.x
	layers := draw(r)
	entry := g.entry.Load()
	g.raise(r, layers)
	if entry == noEntry {
		g.entry.Store(uint64(layers)<<32 | uint64(r)) //nolint:gosec // not negative
		return
	}
	w.kern.widen(w.wide, x.codes(r))
	b, i := x.at(r)
	scale := b.scale[i]
	at := g.descend(w, w.wide, entry, min(layers, int(entry>>32)))
	for l := min(layers, int(entry>>32)); l >= 0; l-- {
		w.reset(x.n)
		w.seen.set(r)
		w.kern.widen(w.wide, x.codes(r))
		g.beam(w, w.wide, at, buildBreadth, l)
		at = w.pool[0]
		live := w.pool[:0:0]
		for _, c := range w.pool {
			if !x.dead.has(c.row) {
				live = append(live, cand{c.sim * scale, c.row})
			}
		}
		kept := g.choose(w, live, degree, nil)
		to := make([]uint32, len(kept))
		for j, c := range kept {
			to[j] = c.row
		}
		setLinks(g.list(r, l), to)
		for _, c := range kept {
			g.answer(w, c.row, cand{c.sim, r}, l)
		}
	}
	if layers > int(entry>>32) {
		g.entry.Store(uint64(layers)<<32 | uint64(r)) //nolint:gosec // not negative
	}
}

// answer links a row back to one that has linked to it; where there is no room the best of all are chosen.
func (g *graph) answer(w *walker, r uint32, back cand, layer int) {
	list := g.list(r, layer)
	n := list[0]
	if int(n) < len(list)-1 {
		atomic.StoreUint32(&list[1+n], back.row)
		atomic.StoreUint32(&list[0], n+1)
		return
	}
	g.relink(w, r, append(slices.Clone(list[1:1+n]), back.row), layer)
}

// relink chooses a row's links among others.
func (g *graph) relink(w *walker, r uint32, among []uint32, layer int) []cand {
	x := g.x
	w.kern.widen(w.wide, x.codes(r))
	b, i := x.at(r)
	cands := make([]cand, 0, len(among))
	for part := range slices.Chunk(among, lowest) {
		w.score(x, w.wide, part)
		for j, to := range part {
			cands = append(cands, cand{w.sims[j] * b.scale[i], to})
		}
	}
	slices.SortFunc(cands, nearest)
	list := g.list(r, layer)
	kept := g.choose(w, cands, len(list)-1, nil)
	to := make([]uint32, len(kept))
	for j, c := range kept {
		to[j] = c.row
	}
	setLinks(list, to)
	return kept
}

func nearest(a, b cand) int {
	switch {
	case a.sim > b.sim:
		return -1
	case a.sim < b.sim:
		return 1
	}
	return int(a.row) - int(b.row)
}

// collect walks through the lowest layer (alg. 2) and keeps what is allowed; the way leads through all. It gives up, and
// returns false, when it has looked at more rows than are worth it.
func (g *graph) collect(w *walker, q []int16, from cand, breadth, most int, allow func(r uint32) bool) bool {
	w.pool, w.far = w.pool[:0], append(w.far[:0], from)
	w.seen.set(from.row)
	take := func(c cand) {
		if !allow(c.row) {
			return
		}
		if len(w.pool) == breadth {
			if c.sim <= w.pool[breadth-1].sim {
				return
			}
			w.pool = w.pool[:breadth-1]
		}
		at, _ := slices.BinarySearchFunc(w.pool, c, nearest)
		w.pool = slices.Insert(w.pool, at, c)
	}
	take(from)
	for looked := 0; len(w.far) > 0; {
		c := w.pop()
		if len(w.pool) == breadth && c.sim < w.pool[breadth-1].sim {
			break
		}
		w.unseen(g, q, c.row, 0)
		if looked += len(w.rows); looked > most {
			return false
		}
		for i, to := range w.rows {
			c := cand{w.sims[i], to}
			if len(w.pool) < breadth || c.sim > w.pool[breadth-1].sim {
				w.push(c)
				take(c)
			}
		}
	}
	return true
}

func (w *walker) push(c cand) {
	w.far = append(w.far, c)
	for i := len(w.far) - 1; i > 0; {
		p := (i - 1) / 2
		if w.far[p].sim >= w.far[i].sim {
			return
		}
		w.far[p], w.far[i] = w.far[i], w.far[p]
		i = p
	}
}

func (w *walker) pop() cand {
	top, last := w.far[0], len(w.far)-1
	w.far[0] = w.far[last]
	w.far = w.far[:last]
	for i := 0; ; {
		c := 2*i + 1
		if c >= last {
			return top
		}
		if c+1 < last && w.far[c+1].sim > w.far[c].sim {
			c++
		}
		if w.far[i].sim >= w.far[c].sim {
			return top
		}
		w.far[i], w.far[c] = w.far[c], w.far[i]
		i = c
	}
}
