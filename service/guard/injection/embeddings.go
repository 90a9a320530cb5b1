package injection

import (
	"context"
	"errors"
	"fmt"
	"math"
)

// errNoHead means that nothing was given to ask.
var errNoHead = errors.New("there is no classifier on embeddings")

// embeddings asks for the text itself and for the stretch that the compact classifier found highest: the encoder sees
// only the front of a long text.
func (l *look) embeddings(ctx context.Context) error {
	if l.d.head == nil {
		return errNoHead
	}
	layer := l.layers[l.at]
	texts := []string{l.layers[0].Raw}
	if l.best.Windows > 1 || l.at > 0 {
		texts = append(texts, layer.Plain[l.best.Start:l.best.End])
	}
	p, err := l.d.head(ctx, texts)
	if err != nil {
		return fmt.Errorf("classify by embeddings: %w", err)
	}
	if len(p) != len(texts) {
		return fmt.Errorf("classify by embeddings: %d answers to %d texts", len(p), len(texts))
	}
	best := 0.0
	for _, x := range p {
		if !(x >= 0 && x <= 1) {
			return fmt.Errorf("classify by embeddings: %v is no probability", x)
		}
		best = math.Max(best, x)
	}
	best = math.Min(math.Max(best, 1e-4), 1-1e-4)
	l.evidence.Embeddings = math.Log(best / (1 - best))
	return nil
}
