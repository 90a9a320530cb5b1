package infer

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel/attribute"

	"aran/platform/auth"
	"aran/service/infer/minilm"
	"aran/service/infer/registry"
)

// Embeddings are the vectors of texts, in their order, and what made them.
type Embeddings struct {
	Vectors []minilm.Embedding
	Model   string
	Version string
	Digest  string
	Dim     int
}

// embedBatch is the cost of the texts that are computed together: what the encoder takes in one pass.
const embedBatch = minilm.Window

// text is one that is to be embedded, as a question or as something to be found.
type text struct {
	text  string
	query bool
}

// textCost estimates the tokens of a text that the encoder sees.
func textCost(t text) int { return min(len(t.text)/4+2, minilm.Window) }

// EmbedCall is what Embed is asked.
type EmbedCall struct {
	Model  string // a name; empty or `default`: the first one
	Digest string // only the version of this digest answers; empty: the active one
	Texts  []string
	Query  bool // the texts ask; some models encode these differently
}

// Embed makes vectors. When no version of the digest is to be had the error is fault.Missing `digest_not_served`.
func (s *Service) Embed(ctx context.Context, c EmbedCall) (out Embeddings, err error) {
	model := c.Model
	if c.Digest != "" && (model == "" || model == DefaultName) {
		model, err = s.byDigest(ctx, c.Digest)
	} else {
		model, err = s.resolve(model, registry.Embed)
	}
	if err != nil {
		return Embeddings{}, err
	}
	ctx, call := s.telemetry.begin(ctx, "embeddings", model)
	defer func() { call.end(ctx, err) }()
	call.span.SetAttributes(attribute.Int("aran.infer.texts", len(c.Texts)))
	t, err := s.encoderFor(ctx, model, c.Digest)
	if err != nil {
		return Embeddings{}, err
	}
	defer t.release()
	vectors, err := t.embed(ctx, c.Texts, c.Query)
	if t.fallback(ctx, err) {
		vectors, err = t.embed(ctx, c.Texts, c.Query)
	}
	t.count(ctx, err)
	call.answered(&t.v.Model)
	if err != nil {
		return Embeddings{}, err
	}
	out = Embeddings{Model: model, Version: t.v.Version, Digest: t.v.Digest, Dim: t.v.Dim, Vectors: vectors}
	tokens := 0
	for _, v := range out.Vectors {
		tokens += v.Tokens
	}
	call.tokens(ctx, tokens, 0)
	return out, nil
}

// embed makes all vectors with one version, together with what others ask of it.
func (t *turn) embed(ctx context.Context, texts []string, query bool) ([]minilm.Embedding, error) {
	limited := ctx
	if t.trial {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeoutCause(ctx, t.patience(ctx), errTooSlow)
		defer cancel()
	}
	in := make([]text, len(texts))
	for i, s := range texts {
		in[i] = text{s, query}
	}
	out, err := t.v.embeds.Do(limited, auth.From(ctx).Tenant, in)
	switch {
	case err != nil:
		return nil, err
	case t.trial && !t.m.trying(t.v):
		return nil, errGoneBack
	}
	t.mirror(texts, query, out)
	return out, nil
}

// encodeBatch is what the queue has done: texts of any callers.
func (v *version) encodeBatch(ctx context.Context, in []text) ([]minilm.Embedding, error) {
	v.s.telemetry.batch.Record(ctx, int64(len(in)))
	out := make([]minilm.Embedding, len(in))
	for _, query := range []bool{false, true} {
		var texts []string
		var at []int
		for i, t := range in {
			if t.query == query {
				texts, at = append(texts, t.text), append(at, i)
			}
		}
		if len(texts) == 0 {
			continue
		}
		part, err := v.encode(ctx, texts, query)
		if err != nil {
			return nil, err
		}
		if len(part) != len(texts) {
			return nil, fmt.Errorf("the encoder gave %d vectors for %d texts", len(part), len(texts))
		}
		for i, e := range part {
			out[at[i]] = e
		}
	}
	return out, nil
}
