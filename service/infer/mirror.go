package infer

import (
	"context"
	"slices"
	"time"

	"aran/platform/split"
	"aran/service/infer/minilm"
)

// mirror repeats what the active version answered on the next one, beside the call, one at a time: nobody waits for
// it and nobody gets it. Where both make the same vectors they are compared.
func (t *turn) mirror(texts []string, query bool, vectors []minilm.Embedding) {
	m := t.m
	m.mu.Lock()
	next, roll, same := m.next, m.roll, m.same
	if t.trial || t.roll == nil || roll == nil || next == nil || t.v != m.active {
		m.mu.Unlock()
		return
	}
	select {
	case m.shadow <- struct{}{}:
	default:
		m.mu.Unlock()
		return
	}
	next.users.Add(1)
	m.mu.Unlock()
	n := min(len(texts), mirroredTexts)
	texts, vectors = slices.Clone(texts[:n]), slices.Clone(vectors[:n])
	m.s.done.Go(func() {
		defer func() {
			next.users.Add(-1)
			<-m.shadow
		}()
		ctx, cancel := context.WithTimeout(m.s.life, mirrorTimeout)
		defer cancel()
		begin := time.Now()
		out, err := next.encode(ctx, texts, query)
		after := time.Since(begin)
		if m.s.life.Err() != nil || !m.trying(next) {
			return
		}
		roll.Count(split.After, after, err != nil)
		if err != nil {
			return
		}
		for i := 0; same && i < len(out); i++ {
			roll.Gate(cosine(vectors[i].Vector, out[i].Vector))
		}
	})
}

// cosine of vectors of unit length; 0 when they do not fit.
func cosine(a, b []float32) (sum float64) {
	if len(a) != len(b) {
		return 0
	}
	for i := range a {
		sum += float64(a[i]) * float64(b[i])
	}
	return sum
}
