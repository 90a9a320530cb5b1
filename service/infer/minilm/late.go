package minilm

import (
	"context"
	"fmt"

	"aran/service/infer/bert"
)

// Sequence is a text's vectors: its own, and one of each token that the model saw, all of unit length. The
// markers at its ends have none.
type Sequence struct {
	Embedding
	IDs  []int32   // of the tokens
	Rows []float32 // [len(IDs)][Dim]
}

// Sequences returns one sequence for each text, in order, as Encode does with embeddings. A sequence of a
// long text takes 390 kB.
func (e *Encoder) Sequences(ctx context.Context, texts []string) ([]Sequence, error) {
	m, err := e.model()
	if err != nil {
		return nil, err
	}
	out := make([]Sequence, len(texts))
	all := bert.Batches(Window, len(texts), func(i int) []int32 {
		ids := e.tokens(texts[i], &out[i].Embedding)
		out[i].IDs = ids[1 : len(ids)-1]
		return ids
	})
	err = e.run.Run(ctx, m, all, func(text int, rows bert.Rows) (err error) {
		q := &out[text]
		if q.Vector, err = rows.Mean(); err != nil {
			return err
		}
		q.Rows, err = rows.Each(1, rows.Len()-1)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("encode %d texts: %w", len(texts), err)
	}
	return out, nil
}

// Best returns for each token of the query the cosine of the document's token that is nearest to it (late
// interaction: Khattab & Zaharia 2020, section 3.2). A document without tokens is nearest to nothing: −1.
func (e *Encoder) Best(query, document *Sequence) []float32 {
	return e.run.Best(query.Rows, len(query.IDs), document.Rows, len(document.IDs))
}
