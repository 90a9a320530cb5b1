package guard

import (
	"context"
	"encoding/json"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"

	"aran/platform/store"
	"aran/service/guard/detect"
)

// Record is what is kept of a text that was judged: what was found and what came of it, never the text.
type Record struct {
	ID          string // of the event, when the verdict is not allow
	Tenant      string
	At          time.Time
	Request     string
	Origin      detect.Origin
	Digest      string  // SHA-256 of the text, hex
	Score       float64 // probability of an attack
	Verdict     string
	Policy      string
	Collections []string
	Found       []Found
	Trial       string // what the policy on trial would have made of it; empty: there was none
	TrialPolicy string
}

// Found is a kind of finding by a rule.
type Found struct {
	Kind  string  `json:"k"`
	Rule  string  `json:"r"`
	Score float64 `json:"s"`
	N     int     `json:"n"`
}

const (
	maxFound      = 32
	waitingMost   = 8192 // records that wait to be written; of more, the newest are dropped and counted
	writeEvery    = time.Second
	writeAt       = 512
	tidyEvery     = 10 * time.Minute
	dropsName     = "aran_guard_history_dropped"
	maxCounts     = 4096
	dayCountsKept = 400 // days
)

// decision is a verdict that is not allow: its record, and the event that says so.
type decision struct {
	record Record
	event  store.Event
}

func newRecord(r Result, origin detect.Origin, digest, request, tenant string) Record {
	out := Record{
		ID: store.NewEventID(), Tenant: tenant, At: time.Now(), Request: request, Origin: origin, Digest: digest, Score: round(r.attack), Verdict: r.Verdict,
		Policy: r.Policy, Collections: r.collections, Trial: r.trial, TrialPolicy: r.trialPolicy,
	}
	for _, f := range r.Findings {
		i := slices.IndexFunc(out.Found, func(x Found) bool { return x.Kind == f.Kind && x.Rule == f.Rule })
		switch {
		case i >= 0:
			out.Found[i].N++
			out.Found[i].Score = max(out.Found[i].Score, f.Score)
		case len(out.Found) < maxFound:
			out.Found = append(out.Found, Found{f.Kind, f.Rule, round(f.Score), 1})
		}
	}
	return out
}

func round(x float64) float64 { return math.Round(x*1e4) / 1e4 }

// observation is what of a record a policy can be tried on: everything but places in the text.
func (r Record) observation() observation {
	o := observation{origin: r.Origin, score: r.Score}
	for _, f := range r.Found {
		o.findings = append(o.findings, detect.Finding{Kind: f.Kind, Rule: f.Rule, Score: f.Score})
	}
	return o
}

// countKey is a line of the days' counts.
type countKey struct {
	day            int64
	tenant, origin string
	verdict        string
}

// history collects what need not be written before an answer: records of texts that were allowed, and counts.
type history struct {
	days  int
	floor float64
	write func(ctx context.Context, list []Record, counts map[countKey]int64) error
	drops metric.Int64Counter
	full  chan struct{}

	mu     sync.Mutex
	list   []Record
	counts map[countKey]int64
}

func newHistory(cfg Config, meter metric.Meter, write func(context.Context, []Record, map[countKey]int64) error) (*history, error) {
	drops, err := meter.Int64Counter(dropsName)
	return &history{days: cfg.HistoryDays, floor: cfg.HistoryScore, write: write, drops: drops, full: make(chan struct{}, 1), counts: map[countKey]int64{}}, err
}

// worth reports whether a text that was allowed is kept: something was found, or another policy would do more.
func (h *history) worth(r Result) bool {
	return h.days > 0 && (len(r.Findings) > 0 || r.attack >= h.floor || r.trial != "" && r.trial != Allow)
}

func (h *history) count(tenant string, origin detect.Origin) {
	h.mu.Lock()
	defer h.mu.Unlock()
	k := countKey{today(), tenant, string(origin), Allow}
	if _, ok := h.counts[k]; ok || len(h.counts) < maxCounts {
		h.counts[k]++
	}
}

func (h *history) add(ctx context.Context, r Record) {
	h.count(r.Tenant, r.Origin)
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.list) >= waitingMost {
		h.drops.Add(ctx, 1)
		return
	}
	h.list = append(h.list, r)
	if len(h.list) >= writeAt {
		select {
		case h.full <- struct{}{}:
		default:
		}
	}
}

// flush writes what waits. What could not be written waits on.
func (h *history) flush(ctx context.Context) error {
	h.mu.Lock()
	list, counts := h.list, h.counts
	h.list, h.counts = nil, map[countKey]int64{}
	h.mu.Unlock()
	if len(list) == 0 && len(counts) == 0 {
		return nil
	}
	err := h.write(ctx, list, counts)
	if err != nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		for k, n := range counts {
			h.counts[k] += n
		}
		room := max(0, waitingMost-len(h.list))
		if lost := len(list) - room; lost > 0 {
			h.drops.Add(ctx, int64(lost))
			list = list[:room]
		}
		h.list = append(list, h.list...)
	}
	return err
}

func today() int64 { return time.Now().UnixMicro() / microsPerDay }

func (s *Service) writeLoop(ctx context.Context) {
	tick := time.NewTicker(writeEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-s.history.full:
		}
		if err := s.history.flush(ctx); err != nil && ctx.Err() == nil {
			s.log.LogAttrs(ctx, slog.LevelWarn, "history not written; it waits", slog.String("error", err.Error()))
		}
	}
}

func (s *Service) tidyLoop(ctx context.Context) {
	tick := time.NewTicker(tidyEvery)
	defer tick.Stop()
	for {
		if err := s.tidy(ctx); err != nil && ctx.Err() == nil {
			s.log.LogAttrs(ctx, slog.LevelWarn, "old verdicts not forgotten", slog.String("error", err.Error()))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Difference is how verdicts under another policy differ from those that were given.
type Difference struct {
	Policy   string
	Since    time.Time
	Compared int64            // verdicts that were compared
	Judged   int64            // texts that were judged in these days, with those of which nothing was kept
	Stricter int64            // of the compared ones
	Milder   int64            // of the compared ones
	Changes  []Change         // by what changed, most frequent first
	Rules    map[string]int64 // of those that changed, by rule
	Days     map[string]int64 // of those that changed, by day (UTC)
	Examples []Example        // the newest
	Floor    float64          // texts that were allowed with a lower score and without a finding are not among the compared
}

// Change is a verdict that would be another one.
type Change struct {
	Origin   string
	From, To string
	N        int64
}

// Example is a text whose verdict would be another one.
type Example struct {
	Record string
	At     time.Time
	Req    string
	Origin string
	Digest string
	From   string
	To     string
	Score  float64
	Found  []Found
}

const maxExamples = 50

func (d *Difference) add(r Record, to string) {
	d.Compared++
	if to == r.Verdict {
		return
	}
	if rank(to) > rank(r.Verdict) {
		d.Stricter++
	} else {
		d.Milder++
	}
	same := func(c Change) bool { return c.Origin == string(r.Origin) && c.From == r.Verdict && c.To == to }
	if i := slices.IndexFunc(d.Changes, same); i >= 0 {
		d.Changes[i].N++
	} else {
		d.Changes = append(d.Changes, Change{string(r.Origin), r.Verdict, to, 1})
	}
	for _, f := range r.Found {
		d.Rules[f.Rule]++
	}
	d.Days[r.At.UTC().Format(time.DateOnly)]++
	if len(d.Examples) < maxExamples {
		d.Examples = append(d.Examples, Example{r.ID, r.At, r.Request, string(r.Origin), r.Digest, r.Verdict, to, r.Score, r.Found})
	}
}

func (s *Service) difference(ctx context.Context, tenant, name string, since time.Time, again func(Record) (string, bool)) (*Difference, error) {
	if err := s.history.flush(ctx); err != nil {
		return nil, err
	}
	d := &Difference{Policy: name, Since: since, Rules: map[string]int64{}, Days: map[string]int64{}, Floor: s.cfg.HistoryScore}
	err := s.records(ctx, tenant, since, s.cfg.HistoryRows, func(r Record) {
		if to, ok := again(r); ok {
			d.add(r, to)
		}
	})
	if err != nil {
		return nil, err
	}
	if d.Judged, err = s.judged(ctx, tenant, since); err != nil {
		return nil, err
	}
	slices.SortStableFunc(d.Changes, func(a, b Change) int { return int(b.N - a.N) })
	return d, nil
}

func encode(v any) (string, error) {
	b, err := json.Marshal(v)
	return string(b), err
}
