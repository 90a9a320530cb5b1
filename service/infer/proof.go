package infer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"aran/service/infer/registry"
)

// What a version is asked when its manifest says nothing: there is no right answer, but one of the right shape.
const (
	plainText   = "The audit log holds every decision."
	otherText   = "A cake with apples and cinnamon."
	plainPrompt = "Say hello."
	probeTokens = 48
)

// trial is the examination of a version before and while it gets calls.
type trial struct {
	v, old *version
	cases  []registry.Case // of the smoke test and the gate, or plain ones
	gate   *registry.Gate
	plain  bool // the cases have no right answers
	same   bool // both versions make the same vectors: they may be compared one by one
	at     int  // the next case to ask
}

func newTrial(v, old *version) *trial {
	t := &trial{v: v, old: old, gate: v.Gate, cases: append([]registry.Case(nil), v.Smoke...)}
	if v.Gate != nil {
		t.cases = append(t.cases, v.Gate.Cases...)
	}
	if len(t.cases) == 0 {
		t.plain = true
		t.cases = []registry.Case{{Text: plainText, Prompt: plainPrompt, Expect: registry.Expect{Closer: plainText, Farther: otherText}}}
	}
	return t
}

// answer asks a version one case. value is the cosine of an embedder's answer; the error is a *registry.MissedError
// when it is not what was expected, else that of the call.
func (t *trial) answer(ctx context.Context, v *version, c *registry.Case) (value float64, took time.Duration, err error) {
	begin := time.Now()
	switch v.Kind {
	case registry.Embed:
		out, err := v.encode(ctx, c.Texts(), false)
		took = time.Since(begin)
		if err != nil {
			return 0, took, err
		}
		vectors := make([][]float32, len(out))
		for i := range out {
			vectors[i] = out[i].Vector
		}
		value, err = c.JudgeVectors(v.Dim, vectors)
		return value, took, err
	case registry.Generate:
		n := c.Expect.MaxTokens
		if n == 0 {
			n = probeTokens
		}
		var text strings.Builder
		var cold float64
		f, err := v.answer(ctx, Prompt{Model: v.Name, Messages: []Message{{Role: "user", Content: c.Prompt}}, MaxTokens: n, Temperature: &cold}, func(s string) error {
			text.WriteString(s)
			return nil
		})
		took = time.Since(begin)
		if err != nil {
			return 0, took, err
		}
		if t.plain {
			if strings.TrimSpace(text.String()) == "" {
				return 0, took, errors.New("it answers nothing")
			}
			return 0, took, nil
		}
		return 0, took, c.JudgeText(text.String(), f.Completion)
	default:
		return 0, 0, fmt.Errorf("models of kind %s can't be tried", v.Kind)
	}
}

// failure says why a version does not begin: the reason is from a closed set.
type failure struct{ reason, detail string }

func (f *failure) Error() string { return f.reason + ": " + f.detail }

// Reasons of a failure before any call went to the version; later ones are those of split.
const (
	reasonLoad    = "load"
	reasonSmoke   = "smoke"
	reasonGate    = "gate"
	reasonLatency = "latency"
)

// examine runs the smoke test, the gate and a comparison of the pace, without any caller's text. The error is a
// *failure, or the context's.
func (t *trial) examine(ctx context.Context, slowdown float64) error {
	if err := t.smoke(ctx); err != nil {
		return err
	}
	if err := t.compare(ctx, slowdown); err != nil {
		return err
	}
	return t.judgeGate(ctx)
}

func (t *trial) smoke(ctx context.Context) error {
	cases := t.v.Smoke
	if len(cases) == 0 {
		cases = t.cases[:1]
	}
	for i := range cases {
		if _, _, err := t.answer(ctx, t.v, &cases[i]); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return &failure{reasonSmoke, fmt.Sprintf("case %d: %v", i+1, err)}
		}
	}
	return nil
}

// judgeGate measures the gate on both versions. The old one need not pass; when it does, and the metric is the cosine
// to reference vectors, both make the same vectors.
func (t *trial) judgeGate(ctx context.Context) error {
	if t.gate == nil {
		return nil
	}
	value, slowest, err := t.measure(ctx, t.v)
	if err != nil {
		return err
	}
	if !(value >= t.gate.Min) {
		return &failure{reasonGate, fmt.Sprintf("%s is %.4f, want %.4f", t.gate.Metric, value, t.gate.Min)}
	}
	if most := time.Duration(t.gate.MaxMillis) * time.Millisecond; most > 0 && slowest > most {
		return &failure{reasonLatency, fmt.Sprintf("a case of the gate took %s, at most %s", slowest.Round(time.Millisecond), most)}
	}
	if t.gate.Metric == registry.GateCosine && t.old.Dim == t.v.Dim {
		was, _, err := t.measure(ctx, t.old)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		t.same = err == nil && was >= t.gate.Min
	}
	return nil
}

func (t *trial) measure(ctx context.Context, v *version) (value float64, slowest time.Duration, err error) {
	values, passed := make([]float64, len(t.gate.Cases)), make([]bool, len(t.gate.Cases))
	for i := range t.gate.Cases {
		cosine, took, err := t.answer(ctx, v, &t.gate.Cases[i])
		var missed *registry.MissedError
		if err != nil && !errors.As(err, &missed) {
			if ctx.Err() != nil {
				return 0, 0, ctx.Err()
			}
			return 0, 0, &failure{reasonGate, fmt.Sprintf("case %d: %v", i+1, err)}
		}
		values[i], passed[i], slowest = cosine, err == nil, max(slowest, took)
	}
	return t.gate.Value(values, passed), slowest, nil
}

const (
	compareRounds = 3
	clearly       = 2 // times: what is less clear is judged while calls are shifted, by more of them
)

// compare asks both versions the same and compares the best times, which other work on the machine can only lengthen.
func (t *trial) compare(ctx context.Context, slowdown float64) error {
	if slowdown == 0 || t.v.Kind == registry.Generate && t.plain {
		return nil
	}
	var before, after time.Duration
	n := time.Duration(0)
	for i := range t.cases[:min(len(t.cases), 8)] {
		best := [2]time.Duration{time.Hour, time.Hour}
		for range compareRounds {
			for side, v := range []*version{t.old, t.v} {
				_, took, err := t.answer(ctx, v, &t.cases[i])
				var missed *registry.MissedError
				if err != nil && !errors.As(err, &missed) {
					if ctx.Err() != nil {
						return ctx.Err()
					}
					if side == 0 {
						return nil // the old one can't answer: nothing to compare with
					}
					return &failure{reasonSmoke, fmt.Sprintf("case %d: %v", i+1, err)}
				}
				best[side] = min(best[side], took)
			}
		}
		before, after, n = before+best[0], after+best[1], n+1
		if float64(after) > 2*clearly*slowdown*float64(before) {
			break // clear enough
		}
	}
	if float64(after) > clearly*slowdown*float64(before) && (after-before)/n > latencySlack {
		return &failure{reasonLatency, fmt.Sprintf("a case takes %s instead of %s", (after / n).Round(100*time.Microsecond), (before / n).Round(100*time.Microsecond))}
	}
	return nil
}

// probe asks the next case of both versions. passed is the new one's result; err is that of its call.
func (t *trial) probe(ctx context.Context) (p probe) {
	c := &t.cases[t.at%len(t.cases)]
	t.at++
	value, took, err := t.answer(ctx, t.v, c)
	var missed *registry.MissedError
	if err != nil && !errors.As(err, &missed) {
		p.err = err
		return p
	}
	p.after = took
	p.value = value
	if t.gate == nil || t.gate.Metric != registry.GateCosine || len(c.Expect.Vector) == 0 {
		p.value = 1
		if err != nil && !t.plain {
			p.value = 0
		}
	}
	if t.v.Kind == registry.Embed { // a language model answers one at a time: callers would wait
		_, p.before, err = t.answer(ctx, t.old, c)
		if err != nil && !errors.As(err, &missed) {
			p.before = 0
		}
	}
	return p
}

type probe struct {
	before, after time.Duration // before is 0 when it was not asked
	value         float64       // of the gate
	err           error
}
