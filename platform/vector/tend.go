package vector

import "context"

const batchLinks = 8 // rows that are linked while readers of other rows, and no writer, go on

// Tend links into the graph what was put since, if there are vectors enough. It takes minutes for a million, and holds
// no reader up; ctx ends it between two vectors, and what it did stays done. Only one runs at a time.
func (m *Memory) Tend(ctx context.Context) error {
	m.tending.Lock()
	defer m.tending.Unlock()
	return m.linkRest(ctx)
}

func (m *Memory) linkRest(ctx context.Context) error {
	w := &walker{kern: m.kern, wide: make([]int16, m.rows.stride), other: make([]int16, m.rows.stride)}
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
		if err := ctx.Err(); err != nil {
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
