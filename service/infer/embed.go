package infer

import (
	"context"

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

// textCost estimates the tokens of a text that the encoder sees.
func textCost(text string) int { return min(len(text)/4+2, minilm.Window) }

// Embed makes vectors. Model may be empty or `default`. With a digest only the version of that digest answers, or
// the error is fault.Missing `digest_not_served`.
func (s *Service) Embed(ctx context.Context, model, digest string, texts []string) (out Embeddings, err error) {
	if digest != "" && (model == "" || model == DefaultName) {
		model, err = s.byDigest(ctx, digest)
	} else {
		model, err = s.resolve(model, registry.Embed)
	}
	if err != nil {
		return Embeddings{}, err
	}
	ctx, call := s.telemetry.begin(ctx, "embeddings", model)
	defer func() { call.end(ctx, err) }()
	call.span.SetAttributes(attribute.Int("aran.infer.texts", len(texts)))
	t, err := s.encoderFor(ctx, model, digest)
	if err != nil {
		return Embeddings{}, err
	}
	defer t.release()
	vectors, err := t.embed(ctx, texts)
	if t.fallback(ctx, err) {
		vectors, err = t.embed(ctx, texts)
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
func (t *turn) embed(ctx context.Context, texts []string) ([]minilm.Embedding, error) {
	limited := ctx
	if t.trial {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeoutCause(ctx, t.patience(ctx), errTooSlow)
		defer cancel()
	}
	out, err := t.v.embeds.Do(limited, auth.From(ctx).Tenant, texts)
	switch {
	case err != nil:
		return nil, err
	case t.trial && !t.m.trying(t.v):
		return nil, errGoneBack
	}
	t.mirror(texts, out)
	return out, nil
}

// encodeBatch is what the queue has done: texts of any callers.
func (v *version) encodeBatch(ctx context.Context, texts []string) ([]minilm.Embedding, error) {
	v.s.telemetry.batch.Record(ctx, int64(len(texts)))
	return v.encode(ctx, texts)
}
