package infer

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel/attribute"

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

// embedBatch texts are computed before others get their turn, so that a short query does not wait for a
// whole document.
const embedBatch = 16

// Embed makes vectors. Model may be empty or `default`.
func (s *Service) Embed(ctx context.Context, model string, texts []string) (out Embeddings, err error) {
	if model, err = s.resolve(model, registry.Embed); err != nil {
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
	out = Embeddings{Model: model, Digest: s.encoderDigest, Dim: minilm.Dim, Vectors: make([]minilm.Embedding, 0, len(texts))}
	for at := 0; at < len(texts); at += embedBatch {
		if at > 0 {
			if err := place.turn(ctx); err != nil {
				return Embeddings{}, err
			}
		}
		part, err := s.encode(ctx, texts[at:min(at+embedBatch, len(texts))])
		if err != nil {
			if ctx.Err() != nil {
				return Embeddings{}, ctx.Err()
			}
			s.encoderFailed.Store(&err)
			return Embeddings{}, fault.New(fault.Internal, "encoder_failed", "The encoder failed.").Because(err)
		}
		out.Vectors = append(out.Vectors, part...)
	}
	if len(out.Vectors) != len(texts) {
		return Embeddings{}, fmt.Errorf("the encoder gave %d vectors for %d texts", len(out.Vectors), len(texts))
	}
	tokens := 0
	for _, v := range out.Vectors {
		tokens += v.Tokens
	}
	call.tokens(ctx, tokens, 0)
	return out, nil
}
