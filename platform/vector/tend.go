package vector

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"
)

const (
	batchLinks  = 8    // rows that are linked while readers of other rows, and no writer, go on
	batchRepair = 2048 // rows that are looked at so
	restFactor  = 20   // after a file was written, so many times as long as that took no other is
)

// Tend links into the graph what was put since, takes out of it what was deleted, and writes the file when much has
// changed or anything was deleted. It takes minutes for a million vectors, and holds no reader up; ctx ends it between
// two steps, and what it did stays done. Only one runs at a time. Where a file can't be written, the space goes on
// without, and the error says so.
func (m *Memory) Tend(ctx context.Context) error {
	m.tending.Lock()
	defer m.tending.Unlock()
	if err := m.linkRest(ctx); err != nil {
		return err
	}
	m.mu.RLock()
	dead, n, changes, graph := m.rows.deadRows, m.rows.n, m.changes, m.graph != nil
	m.mu.RUnlock()
	deleted := dead > 0
	switch {
	case !graph && dead > n/4 && dead > blockRows, graph && m.shrunk():
		return m.shrink(ctx)
	case !graph:
		return nil
	case deleted:
		if err := m.repair(ctx); err != nil {
			return err
		}
	}
	stale := changes != m.kept && (deleted || changes-m.kept >= int64(n/restFactor))
	if m.opt.File == "" && dead <= n/4 || m.opt.File != "" && (!stale || time.Now().Before(m.rest)) {
		return nil
	}
	return m.renew(ctx)
}

// goOn ends what Tend does when its caller has gone, or wants the space closed.
func (m *Memory) goOn(ctx context.Context) error {
	if m.closing.Load() {
		return ErrClosed
	}
	return ctx.Err()
}

// SetMark notes what the space has come to: whoever opens its file is told the mark that was set when it was written.
func (m *Memory) SetMark(mark int64) {
	m.writing.Lock()
	defer m.writing.Unlock()
	m.mark = mark
}

// Close ends the space; nobody may use it any more. Its file stays.
func (m *Memory) Close() error {
	m.closing.Store(true)
	m.tending.Lock()
	defer m.tending.Unlock()
	m.writing.Lock()
	defer m.writing.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rows, m.graph, m.closed = newRows(m.rows.dim), nil, true
	file := m.file
	m.file = nil
	return file.close()
}

// Remove closes the space and removes its file.
func (m *Memory) Remove() error {
	err := m.Close()
	if m.opt.File == "" {
		return err
	}
	return errors.Join(err, gone(os.Remove(m.opt.File)))
}

func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// linkRest links all rows that are not.
func (m *Memory) linkRest(ctx context.Context) error {
	w := m.newWalker()
	for {
		m.mu.Lock()
		x, g := m.rows, m.graph
		if g == nil && m.opt.GraphFrom > 0 && x.live() >= m.opt.GraphFrom {
			g = newGraph(x)
			m.graph = g
		}
		if g == nil || int(g.linked()) == x.n {
			m.mu.Unlock()
			return ctx.Err()
		}
		n := min(x.n, int(g.linked())+batchLinks)
		g.room(n)
		m.mu.Unlock()
		if err := m.goOn(ctx); err != nil {
			return err
		}
		m.mu.RLock()
		for r := g.linked(); int(r) < n; r++ {
			if !x.dead.has(r) {
				g.link(w, r)
			}
			g.done.Store(r + 1)
		}
		m.mu.RUnlock()
	}
}

func (m *Memory) newWalker() *walker {
	return &walker{kern: m.kern, wide: make([]int16, m.rows.stride), other: make([]int16, m.rows.stride)}
}

// repair links rows around those that were deleted, as far as they are linked to them.
func (m *Memory) repair(ctx context.Context) error {
	w := m.newWalker()
	for from := uint32(0); from < m.graph.linked(); from += batchRepair {
		if err := m.goOn(ctx); err != nil {
			return err
		}
		m.mu.RLock()
		x, g := m.rows, m.graph
		for r := from; r < min(from+batchRepair, g.linked()); r++ {
			if x.dead.has(r) {
				continue
			}
			g.around(w, r, 0)
			for l := 1; l <= g.layers(r); l++ {
				g.around(w, r, l)
			}
		}
		m.mu.RUnlock()
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	m.graph.reenter()
	return nil
}

// around replaces a row's links to the dead by links to those that the dead are linked to.
func (g *graph) around(w *walker, r uint32, layer int) {
	list := g.list(r, layer)
	own := list[1 : 1+list[0]]
	if !slices.ContainsFunc(own, g.x.dead.has) {
		return
	}
	var among []uint32
	add := func(to uint32) {
		if to != r && !g.x.dead.has(to) && !slices.Contains(among, to) {
			among = append(among, to)
		}
	}
	for _, to := range own {
		add(to)
		if g.x.dead.has(to) {
			theirs := g.list(to, layer)
			for _, to := range theirs[1 : 1+theirs[0]] {
				add(to)
			}
		}
	}
	for _, c := range g.relink(w, r, among, layer) { // and back, so that r stays within reach
		theirs := g.list(c.row, layer)
		if !slices.Contains(theirs[1:1+theirs[0]], r) {
			g.answer(w, c.row, cand{c.sim, r}, layer)
		}
	}
}

// reenter lets walks start at a living row of the highest layer there is.
func (g *graph) reenter() {
	if e := g.entry.Load(); e == noEntry || !g.x.dead.has(uint32(e)) { //nolint:gosec // its lower half
		return
	}
	best := noEntry
	for r := range g.linked() {
		if g.x.dead.has(r) {
			continue
		}
		layers := g.layers(r)
		if best == noEntry || layers > int(best>>32) {
			best = uint64(layers)<<32 | uint64(r) //nolint:gosec // not negative
		}
	}
	g.entry.Store(best)
}

// shrunk reports whether the graph is not worth its while any more.
func (m *Memory) shrunk() bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.rows.live() < m.opt.GraphFrom/2 || m.rows.live() == 0
}

// shrink packs rows anew without a graph, and removes the file.
func (m *Memory) shrink(context.Context) error {
	m.writing.Lock()
	defer m.writing.Unlock()
	x := newRows(m.rows.dim)          // nobody else changes rows now
	for r := range uint32(m.rows.n) { //nolint:gosec // below maxRows
		if !m.rows.dead.has(r) {
			b, i := m.rows.at(r)
			if !b.sound(i, x.dim) {
				return ErrDamaged
			}
			x.put(Item{ID: b.ids[i], Owner: b.owner[i], Vector: m.rows.exact(r)})
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rows, m.graph, m.kept = x, nil, 0
	file := m.file
	m.file = nil
	err := file.close()
	if m.opt.File != "" {
		err = errors.Join(err, gone(os.Remove(m.opt.File)))
	}
	return err
}

// renew packs rows and graph anew, without what was deleted: by way of the file, if there is to be one.
func (m *Memory) renew(ctx context.Context) (err error) {
	began := time.Now()
	v := m.view()
	var x *rows
	var g *graph
	var file *mapping
	if m.opt.File == "" {
		x, g, err = v.copy(m.signature())
	} else {
		defer func() { m.rest = time.Now().Add(restFactor * time.Since(began)) }()
		if err = v.store(m.opt.File, m.signature()); err == nil {
			_, x, g, file, err = openFile(m.opt.File, m.signature(), m.rows.dim)
		}
	}
	if err != nil {
		return fmt.Errorf("write vectors: %w", err)
	}
	if err := m.goOn(ctx); err != nil {
		return errors.Join(err, file.close())
	}
	m.writing.Lock()
	defer m.writing.Unlock()
	// What happened meanwhile happens to the new rows too.
	for r := range uint32(v.x.n) { //nolint:gosec // below maxRows
		if m.rows.dead.has(r) && !v.x.dead.has(r) {
			if to, ok := x.byID[m.rows.id(r)]; ok {
				x.kill(to)
			}
		}
	}
	for r := uint32(v.x.n); int(r) < m.rows.n; r++ { //nolint:gosec // below maxRows
		if b, i := m.rows.at(r); !m.rows.dead.has(r) {
			x.put(Item{ID: b.ids[i], Owner: b.owner[i], Vector: m.rows.exact(r)})
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rows, m.graph, m.kept = x, g, v.after
	old := m.file
	m.file = file
	return old.close()
}

// copy packs a view anew in memory.
func (v view) copy(model string) (*rows, *graph, error) {
	var f memoryFile
	if err := v.write(&f, model); err != nil {
		return nil, nil, err
	}
	h, x, g, err := load(bytes.NewReader(f.b), int64(len(f.b)), model, v.x.dim)
	if err != nil {
		return nil, nil, err
	}
	exact := make([]float32, (int64(len(f.b))-h.vectors())/4)
	copy(asBytes(exact), f.b[h.vectors():])
	x.lay(exact)
	for _, b := range x.blocks {
		b.sums = nil // nothing lies in a file
	}
	return x, g, nil
}

// Bytes is how much memory the space takes, counted: without vectors that lie in its file.
func (m *Memory) Bytes() int {
	m.mu.RLock()
	defer m.mu.RUnlock()
	n := 8 * cap(m.rows.dead)
	for i, b := range m.rows.blocks {
		if len(b.sums) == 0 || (i+1)*blockRows > m.rows.n && cap(b.exact) != len(b.sums)*m.rows.dim {
			n += 4 * cap(b.exact)
		}
		n += cap(b.codes) + 4*(cap(b.scale)+cap(b.err)+cap(b.next)+cap(b.prev)+cap(b.links)+cap(b.upper)+cap(b.sums)) + 8*(cap(b.ids)+cap(b.owner))
	}
	if m.graph != nil {
		n += 4 * arenaWords * len(m.graph.arena)
	}
	const id, owner = 28, 32 // of a map, with what it keeps free
	return n + id*len(m.rows.byID) + owner*len(m.rows.owners)
}

// SetBreadth sets how many candidates a walk keeps.
func (m *Memory) SetBreadth(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.opt.Breadth = n
}
