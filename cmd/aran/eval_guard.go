package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"text/tabwriter"
	"time"

	"aran/service/guard/detect"
	"aran/service/guard/injection"
	"aran/service/guard/measure"
	"aran/service/infer/heads"
	"aran/service/infer/minilm"
)

const evalGuardArgs = "DIR [--format text|json] [--layers rules|compact|all] [--origin user|document|tool]"

// guardReport is what `aran eval guard` prints. A rate without texts to measure it on is null.
type guardReport struct {
	AUC     rate `json:"auc"`
	At01    rate `json:"recall@fpr0.1%"`
	At1     rate `json:"recall@fpr1%"`
	At5     rate `json:"recall@fpr5%"`
	Default struct {
		Recall    rate    `json:"recall"`
		FPR       rate    `json:"fpr"`
		Threshold float64 `json:"threshold"`
	} `json:"default"`
	Sources map[string]*guardSource `json:"sources"`
	Latency struct {
		P50 float64 `json:"p50"`
		P99 float64 `json:"p99"`
	} `json:"latency_us"`
}

// guardSource is a source at the default threshold: what was flagged of its attacks, and of its harmless texts.
type guardSource struct {
	N       int   `json:"n"`
	Flagged int   `json:"flagged"`
	Recall  *rate `json:"recall,omitempty"`
	FPR     *rate `json:"fpr,omitempty"`

	scored []measure.Scored
}

// rate is a number that may be unknown.
type rate float64

// MarshalJSON writes null for what is not known.
func (r rate) MarshalJSON() ([]byte, error) {
	if math.IsNaN(float64(r)) {
		return []byte("null"), nil
	}
	return json.Marshal(float64(r)) //nolint:wrapcheck // a number
}

// judge says how likely a text is an attack.
type judge func(ctx context.Context, text string, origin detect.Origin) (float64, error)

// evalGuard judges texts of which is known what they are, and measures how well they are told apart.
func evalGuard(ctx context.Context, t terminal, args []string) error {
	f := flags(t, "eval guard", evalGuardArgs)
	format := f.String("format", "text", "text or json")
	layers := f.String("layers", "compact", "rules: these alone; compact: rules and compact classifier; all: the classifier on embeddings, too")
	from := f.String("origin", "user", "where the texts come from: user, document or tool")
	rest, err := parse(f, args)
	if err != nil {
		return err
	}
	origin := detect.Origin(*from)
	if len(rest) != 1 || *format != "text" && *format != "json" || !slices.Contains([]detect.Origin{detect.User, detect.Document, detect.Tool}, origin) {
		return fmt.Errorf("%w: aran eval guard %s", errUsage, evalGuardArgs)
	}
	score, threshold, err := judgeOf(*layers, origin)
	if err != nil {
		return err
	}
	dir, err := folder(rest[0])
	if err != nil {
		return err
	}
	rows, err := measure.Read(dir)
	if err != nil {
		return fmt.Errorf("%s: %w", rest[0], err)
	}
	r, err := evaluate(ctx, rows, origin, score, threshold)
	if err != nil {
		return err
	}
	if *format == "json" {
		return json.NewEncoder(t.out).Encode(r)
	}
	return r.print(t)
}

func judgeOf(layers string, origin detect.Origin) (judge, float64, error) {
	var named []string
	var head injection.Head
	switch layers {
	case "rules":
	case "compact":
		named = []string{injection.Compact}
	case "all":
		named = []string{injection.Compact, injection.Embeddings}
		var err error
		if head, err = headInside(); err != nil {
			return nil, 0, err
		}
	default:
		return nil, 0, fmt.Errorf("%w: --layers %q; use rules, compact or all", errUsage, layers)
	}
	d, err := injection.New(head, nil)
	if err != nil {
		return nil, 0, err
	}
	return func(ctx context.Context, text string, origin detect.Origin) (float64, error) {
		j := d.JudgeBy(ctx, text, origin, named)
		if len(j.Missing) > 0 {
			return 0, fmt.Errorf("layers that did not answer: %v", j.Missing)
		}
		return j.Score, nil
	}, injection.Threshold(origin), nil
}

// headInside is the classifier on embeddings as infer serves it, without the way there.
func headInside() (injection.Head, error) {
	encoder, err := minilm.Load()
	if err != nil {
		return nil, err
	}
	head, err := heads.Injection()
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, texts []string) ([]float64, error) {
		vectors, err := encoder.Encode(ctx, texts)
		if err != nil {
			return nil, err
		}
		out := make([]float64, len(vectors))
		for i, v := range vectors {
			labels, err := head.Classify(v.Vector)
			if err != nil {
				return nil, err
			}
			for _, l := range labels {
				if l.Name == heads.Attack {
					out[i] = l.Score
				}
			}
		}
		return out, nil
	}, nil
}

// evaluate runs one text after the other, on one processor: what is measured is a text's own time.
func evaluate(ctx context.Context, rows []measure.Row, origin detect.Origin, score judge, threshold float64) (guardReport, error) {
	r := guardReport{Sources: map[string]*guardSource{}}
	var all []measure.Scored
	var took []float64
	if _, err := score(ctx, rows[0].Text, origin); err != nil { // what is laid out at first use is not a text's time
		return r, err
	}
	for _, row := range rows {
		if err := ctx.Err(); err != nil {
			return r, err
		}
		start := time.Now()
		s, err := score(ctx, row.Text, origin)
		if err != nil {
			return r, err
		}
		took = append(took, float64(time.Since(start))/float64(time.Microsecond))
		x := measure.Scored{Score: s, Attack: row.Attack}
		all = append(all, x)
		src := r.Sources[row.Source]
		if src == nil {
			src = &guardSource{}
			r.Sources[row.Source] = src
		}
		src.scored = append(src.scored, x)
	}
	r.AUC, r.At01, r.At1, r.At5 = rate(measure.AUC(all)), rate(measure.RecallAt(all, 0.001)), rate(measure.RecallAt(all, 0.01)), rate(measure.RecallAt(all, 0.05))
	recall, fpr := measure.Rates(all, threshold)
	r.Default.Recall, r.Default.FPR, r.Default.Threshold = rate(recall), rate(fpr), threshold
	for _, src := range r.Sources {
		src.settle(threshold)
	}
	r.Latency.P50, r.Latency.P99 = measure.Percentile(took, 0.5), measure.Percentile(took, 0.99)
	return r, nil
}

func (s *guardSource) settle(threshold float64) {
	s.N = len(s.scored)
	for _, x := range s.scored {
		if x.Score >= threshold {
			s.Flagged++
		}
	}
	recall, fpr := measure.Rates(s.scored, threshold)
	if r := rate(recall); !math.IsNaN(recall) {
		s.Recall = &r
	}
	if r := rate(fpr); !math.IsNaN(fpr) {
		s.FPR = &r
	}
}

func (r guardReport) print(t terminal) error {
	w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintf(w, "area under the curve\t%.4f\t\n", r.AUC)
	_, _ = fmt.Fprintf(w, "recall at 0.1 / 1 / 5 %% false alarms\t%.4f / %.4f / %.4f\t\n", r.At01, r.At1, r.At5)
	_, _ = fmt.Fprintf(w, "at the default threshold, %.3f: recall, false alarms\t%.4f, %.4f\t\n", r.Default.Threshold, r.Default.Recall, r.Default.FPR)
	_, _ = fmt.Fprintf(w, "latency p50, p99\t%.0f, %.0f µs\t\n", r.Latency.P50, r.Latency.P99)
	if err := w.Flush(); err != nil {
		return err
	}
	w = tabwriter.NewWriter(t.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(w, "\nsource\ttexts\tflagged\tof attacks\tof harmless\t")
	for _, name := range slices.Sorted(maps.Keys(r.Sources)) {
		s := r.Sources[name]
		_, _ = fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%s\t\n", name, s.N, s.Flagged, share(s.Recall), share(s.FPR))
	}
	return w.Flush()
}

func share(r *rate) string {
	if r == nil {
		return ""
	}
	return fmt.Sprintf("%.4f", *r)
}
