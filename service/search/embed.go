package search

import (
	"context"
	"time"

	inferv1 "aran/api/gen/aran/infer/v1"
	"aran/platform/fault"
	"aran/service/search/words"
)

// embedded are unit vectors, one for each text, and the encoder that made them.
type embedded struct {
	vectors       [][]float32
	digest, model string
}

// encoderOf names an encoder: a model (empty: the default one), and the digest that must answer (empty: whichever serves).
type encoderOf struct{ model, digest string }

// english is the built-in encoder, which has not learnt other languages.
const english = "all-minilm-l6-v2"

// reads reports whether the encoder can make something of a text.
func (w encoderOf) reads(text string) bool {
	return w.model != "" && w.model != defaultModel && w.model != english || words.Latin(text)
}

// codeNotServed is the fault of an encoder that nobody can ask any more.
const codeNotServed = "digest_not_served"

const indexTimeout = 2 * time.Minute // for a batch of passages

// embedAs asks an encoder. It checks the answer: what is stored of it stays for long.
func (s *Service) embedAs(ctx context.Context, who encoderOf, as inferv1.InputType, texts []string, limit time.Duration) (embedded, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	r, err := s.infer.Embed(ctx, &inferv1.EmbedRequest{Model: who.model, Digest: who.digest, Texts: texts, InputType: as})
	if err != nil {
		return embedded{}, err
	}
	out := embedded{digest: r.GetDigest(), model: r.GetModel()}
	if who.digest != "" && out.digest != who.digest {
		return embedded{}, fault.New(fault.Missing, codeNotServed, "The encoder %s is not served; %s answered.", who.digest, out.digest)
	}
	if out.digest == "" || len(r.GetVectors()) != len(texts) {
		return embedded{}, fault.New(fault.Internal, "bad_embedding", "The encoder gave %d vectors for %d texts.", len(r.GetVectors()), len(texts))
	}
	dim := len(r.GetVectors()[0].GetValues())
	for _, v := range r.GetVectors() {
		if dim == 0 || len(v.GetValues()) != dim {
			return embedded{}, fault.New(fault.Internal, "bad_embedding", "The encoder gave vectors of different lengths.")
		}
		out.vectors = append(out.vectors, v.GetValues())
	}
	return out, nil
}

// embedQuery embeds a query as the texts of a collection were. It is quick to give up: there are words to go by.
func (s *Service) embedQuery(ctx context.Context, who encoderOf, text string) (out embedded, err error) {
	err = s.breaker.Do(ctx, func(ctx context.Context) error {
		out, err = s.embedAs(ctx, who, inferv1.InputType_INPUT_TYPE_QUERY, []string{text}, s.cfg.EmbedTimeout)
		return err
	})
	return out, err
}
