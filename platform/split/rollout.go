package split

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// Plan says how a new target takes over from an old one. A limit of 0 is not looked at.
type Plan struct {
	Steps       []int         // percent of the calls that the new one gets; rising, the last is 100
	Hold        time.Duration // how long each step lasts at least
	Sample      int           // and how many calls of the new one it needs at least
	Patience    time.Duration // how long each step may last; then the change goes back
	MaxErrors   float64       // share of the new one's calls that may fail, above the share of the old one's
	MaxSlowdown float64       // times the old one's latency: of more than half of the pairs and of the means
	Slack       time.Duration // by so much it may be slower in any case
	MinGate     float64       // mean of the gate metric
}

// Check names what can't be used.
func (p Plan) Check() error {
	switch {
	case len(p.Steps) == 0 || len(p.Steps) > 100 || p.Steps[len(p.Steps)-1] != 100 || p.Steps[0] < 1:
		return fmt.Errorf("steps %v: use percentages from 1 that end with 100", p.Steps)
	case !slices.IsSorted(p.Steps) || len(slices.Compact(slices.Clone(p.Steps))) != len(p.Steps):
		return fmt.Errorf("steps %v: each is to be higher than the one before", p.Steps)
	case p.Hold < 0 || p.Patience < p.Hold || p.Sample < 0 || p.Slack < 0:
		return fmt.Errorf("hold %s, patience %s, sample %d: none is negative, and patience is not below hold", p.Hold, p.Patience, p.Sample)
	case !(p.MaxErrors >= 0 && p.MaxErrors <= 1) || p.MaxSlowdown != 0 && !(p.MaxSlowdown >= 1) || !(p.MinGate >= -1 && p.MinGate <= 1):
		return fmt.Errorf("errors %v, slowdown %v, gate %v: out of range", p.MaxErrors, p.MaxSlowdown, p.MinGate)
	}
	return nil
}

// Verdict is what is to be done.
type Verdict string

// The verdicts.
const (
	Wait Verdict = "wait" // nothing: the step is not over
	Next Verdict = "next" // the next step has begun: shift to its percentage
	Done Verdict = "done" // the new target has taken over
	Back Verdict = "back" // the old target keeps everything
)

// Reasons of a Back.
const (
	ReasonErrors   = "errors"
	ReasonLatency  = "latency"
	ReasonGate     = "gate"
	ReasonPatience = "patience" // too few calls to judge by
	ReasonStopped  = "stopped"  // somebody said so: Stop
)

// Decision is a verdict with what it rests on.
type Decision struct {
	Verdict Verdict
	Percent int    // of the step that holds from now on
	Reason  string // of a Back
	Detail  string // of a Back, for people
}

// Side says whose call it was.
type Side int

// The sides.
const (
	Before Side = iota
	After
)

// Rollout is a change under way. Safe for concurrent use. What was counted counts for its step only.
type Rollout struct {
	name    string
	plan    Plan
	changes metric.Int64Counter

	mu    sync.Mutex
	step  int
	since time.Time
	end   *Decision // of Done and Back, which are final
	seen  window
}

// window is what was seen in a step.
type window struct {
	calls, failed [2]int
	took          [2]time.Duration // of the calls that did not fail
	pairs, slow   int
	paired        [2]time.Duration
	gates         int
	gate          float64
}

// Start begins the first step. The name is a label of a metric, so it must come from a closed set.
func Start(name string, p Plan, now time.Time) (*Rollout, error) {
	if err := p.Check(); err != nil {
		return nil, fmt.Errorf("rollout of %s: %w", name, err)
	}
	changes, err := otel.Meter("aran/platform/split").Int64Counter("aran_rollout_changes_total",
		metric.WithDescription("Steps of rollouts, by what was decided and why."))
	if err != nil {
		otel.Handle(err)
	}
	return &Rollout{name: name, plan: p, changes: changes, since: now}, nil
}

// Percent of the calls that the new target gets now.
func (r *Rollout) Percent() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.percent()
}

func (r *Rollout) percent() int {
	if r.end != nil {
		return r.end.Percent
	}
	return r.plan.Steps[r.step]
}

// Count notes a call that one side answered, or failed to.
func (r *Rollout) Count(side Side, took time.Duration, failed bool) { //nolint:revive // the outcome, no switch
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen.calls[side]++
	if failed {
		r.seen.failed[side]++
		return
	}
	r.seen.took[side] += took
}

// Pair notes how long both sides took for the same work. Once there are enough of them, latency is judged by pairs
// alone: calls that differ in size can't mislead it, nor can a few that waited for a busy machine.
func (r *Rollout) Pair(before, after time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen.pairs++
	if r.plan.MaxSlowdown != 0 && r.plan.slow(before, after) {
		r.seen.slow++
	}
	r.seen.paired[Before] += before
	r.seen.paired[After] += after
}

// Gate notes the gate metric of one answer of the new target.
func (r *Rollout) Gate(value float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen.gates++
	r.seen.gate += value
}

// Lacking is how many calls of the new target, and gate values, this step still needs.
func (r *Rollout) Lacking() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lacking()
}

func (r *Rollout) lacking() int {
	n := r.plan.Sample - r.seen.calls[After]
	if r.plan.MinGate != 0 {
		n = max(n, r.plan.Sample-r.seen.gates)
	}
	return max(0, n)
}

// Stop sends everything back to the old target, unless the change is over.
func (r *Rollout) Stop(detail string) Decision {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.end == nil {
		r.finish(Decision{Verdict: Back, Reason: ReasonStopped, Detail: detail})
	}
	return *r.end
}

// Decide judges what was seen. A Next has begun its step when Decide returns; Done and Back are final.
func (r *Rollout) Decide(now time.Time) Decision {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.end != nil {
		return *r.end
	}
	reason, detail := r.breach()
	lasted := now.Sub(r.since)
	switch {
	case reason != "":
		r.finish(Decision{Verdict: Back, Reason: reason, Detail: detail})
	case lasted >= r.plan.Hold && r.lacking() == 0:
		if r.step == len(r.plan.Steps)-1 {
			r.finish(Decision{Verdict: Done, Percent: 100})
			break
		}
		r.step++
		r.since, r.seen = now, window{}
		r.count(Next, "")
		return Decision{Verdict: Next, Percent: r.percent()}
	case lasted >= r.plan.Patience && r.lacking() > 0:
		r.finish(Decision{Verdict: Back, Reason: ReasonPatience, Detail: fmt.Sprintf("%d calls in %s, want %d", r.seen.calls[After], lasted.Round(time.Millisecond), r.plan.Sample)})
	default:
		return Decision{Verdict: Wait, Percent: r.percent()}
	}
	return *r.end
}

func (r *Rollout) finish(d Decision) {
	r.end = &d
	r.count(d.Verdict, d.Reason)
}

// breach is the first limit that is passed. Failures count as soon as there are more than a full sample may have.
func (r *Rollout) breach() (reason, detail string) {
	p, w := r.plan, &r.seen
	limit := p.MaxErrors
	if w.calls[Before] > 0 {
		limit += float64(w.failed[Before]) / float64(w.calls[Before])
	}
	if float64(w.failed[After]) > limit*float64(max(w.calls[After], p.Sample)) {
		return ReasonErrors, fmt.Sprintf("%d of %d calls failed, at most %.1f %% may", w.failed[After], w.calls[After], 100*limit)
	}
	if p.MinGate != 0 && w.gates > 0 && w.gates >= p.Sample {
		if mean := w.gate / float64(w.gates); !(mean >= p.MinGate) {
			return ReasonGate, fmt.Sprintf("the gate metric is %.4f in the mean of %d, want %.4f", mean, w.gates, p.MinGate)
		}
	}
	if p.MaxSlowdown != 0 {
		if before, after, n := w.slower(p); n > 0 {
			return ReasonLatency, fmt.Sprintf("%s in the mean of %d instead of %s, at most %.1f times may be", after.Round(10*time.Microsecond), n, before.Round(10*time.Microsecond), p.MaxSlowdown)
		}
	}
	return "", ""
}

func (p *Plan) slow(before, after time.Duration) bool {
	return float64(after) > p.MaxSlowdown*float64(before) && after-before > p.Slack
}

// slower returns both means and of how many they are when the new side is too slow, else 0.
func (w *window) slower(p Plan) (before, after time.Duration, n int) {
	if w.pairs > 0 && w.pairs >= p.Sample {
		before, after = w.paired[Before]/time.Duration(w.pairs), w.paired[After]/time.Duration(w.pairs)
		if 2*w.slow <= w.pairs || !p.slow(before, after) {
			return 0, 0, 0
		}
		return before, after, w.pairs
	}
	was, is := w.calls[Before]-w.failed[Before], w.calls[After]-w.failed[After]
	if was == 0 || is == 0 || was < p.Sample || is < p.Sample {
		return 0, 0, 0
	}
	before, after = w.took[Before]/time.Duration(was), w.took[After]/time.Duration(is)
	if !p.slow(before, after) {
		return 0, 0, 0
	}
	return before, after, is
}

func (r *Rollout) count(v Verdict, reason string) {
	r.changes.Add(context.Background(), 1, metric.WithAttributes(attribute.String("rollout", r.name), attribute.String("verdict", string(v)), attribute.String("reason", reason)))
}
