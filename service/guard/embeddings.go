package guard

import (
	"context"
	"time"

	inferv1 "aran/api/gen/aran/infer/v1"
	"aran/platform/breaker"
	"aran/platform/fault"
	"aran/service/guard/injection"
)

// The classifier on embeddings: a head inside the program, which infer serves. A verdict waits for it no longer than headWait.
const (
	headModel = "minilm-injection"
	headLabel = "attack"
	headWait  = time.Second
)

// newHead asks infer how likely texts are attacks. While infer is away, calls fail at once.
func newHead(d Deps) injection.Head {
	if d.Infer == nil {
		return nil
	}
	b := breaker.New("infer", breaker.Default(), d.Log)
	return func(ctx context.Context, texts []string) (out []float64, err error) {
		err = b.Do(ctx, func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, headWait)
			defer cancel()
			r, err := d.Infer.Classify(ctx, &inferv1.ClassifyRequest{Model: headModel, Texts: texts})
			if err != nil {
				return err
			}
			out, err = attacks(r, len(texts))
			return err
		})
		return out, err
	}
}

// attacks reads the probability of an attack for each text.
func attacks(r *inferv1.ClassifyResponse, texts int) ([]float64, error) {
	var out []float64
	for _, c := range r.GetResults() {
		for _, l := range c.GetLabels() {
			if l.GetName() == headLabel {
				out = append(out, l.GetScore())
			}
		}
	}
	if len(out) != texts {
		return nil, fault.New(fault.Internal, "bad_classes", "The classifier gave %d answers of the label %s for %d texts.", len(out), headLabel, texts)
	}
	return out, nil
}
