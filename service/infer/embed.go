package infer

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"

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

// embedBatch texts are computed before others get their turn, so that a short query does not wait for a
// whole document.
const embedBatch = 16

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
	place, err := s.embedGate.enter(ctx)
	if err != nil {
		return Embeddings{}, err
	}
	defer place.leave()
	t, err := s.encoderFor(ctx, model, digest)
	if err != nil {
		return Embeddings{}, err
	}
	defer t.release()
	vectors, err := t.embed(ctx, place, texts)
	if t.fallback(ctx, err) {
		vectors, err = t.embed(ctx, place, texts)
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

// embed makes all vectors with one version.
func (t *turn) embed(ctx context.Context, place *place, texts []string) ([]minilm.Embedding, error) {
	out := make([]minilm.Embedding, 0, len(texts))
	for at := 0; at < len(texts); at += embedBatch {
		if at > 0 {
			if err := place.turn(ctx); err != nil {
				return nil, err
			}
		}
		batch := texts[at:min(at+embedBatch, len(texts))]
		begin := time.Now()
		part, err := t.encode(ctx, batch)
		if err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return nil, err
		}
		if at == 0 {
			t.mirror(batch, part, time.Since(begin))
		}
		out = append(out, part...)
	}
	if len(out) != len(texts) {
		return nil, fmt.Errorf("the encoder gave %d vectors for %d texts", len(out), len(texts))
	}
	return out, nil
}
