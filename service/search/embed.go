package search

import (
	"context"
	"time"

	inferv1 "aran/api/gen/aran/infer/v1"
	"aran/platform/fault"
)

// embedded are unit vectors, one for each text, and the encoder that made them.
type embedded struct {
	vectors [][]float32
	digest  string
}

const indexTimeout = 2 * time.Minute // for a batch of passages

// embed asks the encoder. It checks the answer: what is stored of it stays for long.
func (s *Service) embed(ctx context.Context, texts []string, limit time.Duration) (embedded, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	r, err := s.infer.Embed(ctx, &inferv1.EmbedRequest{Texts: texts})
	if err != nil {
		return embedded{}, err
	}
	out := embedded{digest: r.GetDigest()}
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

// embedQuery is quick to give up: there are words to go by.
func (s *Service) embedQuery(ctx context.Context, text string) (out embedded, err error) {
	err = s.breaker.Do(ctx, func(ctx context.Context) error {
		out, err = s.embed(ctx, []string{text}, s.cfg.EmbedTimeout)
		return err
	})
	return out, err
}
