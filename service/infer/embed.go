package infer

import (
	"context"

	"go.opentelemetry.io/otel/attribute"

	"aran/platform/auth"
	"aran/platform/fault"
	"aran/service/infer/minilm"
	"aran/service/infer/registry"
)

// Embeddings are the vectors of texts, in their order, and what made them.
type Embeddings struct {
	Vectors []minilm.Embedding
	Model   string
	Digest  string
	Dim     int
}

// embedBatch is the cost of the texts that are computed together: what the encoder takes in one pass.
const embedBatch = minilm.Window

// textCost estimates the tokens of a text that the encoder sees.
func textCost(text string) int { return min(len(text)/4+2, minilm.Window) }

// Embed makes vectors. Model may be empty or `default`.
func (s *Service) Embed(ctx context.Context, model string, texts []string) (out Embeddings, err error) {
	if model, err = s.resolve(model, registry.Embed); err != nil {
		return Embeddings{}, err
	}
	ctx, call := s.telemetry.begin(ctx, "embeddings", model)
	defer func() { call.end(ctx, err) }()
	call.span.SetAttributes(attribute.Int("aran.infer.texts", len(texts)))
	vectors, err := s.embeds.Do(ctx, auth.From(ctx).Tenant, texts)
	if err != nil {
		return Embeddings{}, err
	}
	out = Embeddings{Model: model, Digest: s.encoderDigest, Dim: minilm.Dim, Vectors: vectors}
	tokens := 0
	for _, v := range out.Vectors {
		tokens += v.Tokens
	}
	call.tokens(ctx, tokens, 0)
	return out, nil
}

// encodeBatch is what the queue has done: texts of any callers. A broken encoder stays broken.
func (s *Service) encodeBatch(ctx context.Context, texts []string) ([]minilm.Embedding, error) {
	s.telemetry.batch.Record(ctx, int64(len(texts)))
	out, err := s.encode(ctx, texts)
	if err != nil && ctx.Err() == nil {
		s.encoderFailed.Store(&err)
		err = fault.New(fault.Internal, "encoder_failed", "The encoder failed.").Because(err)
	}
	return out, err
}
