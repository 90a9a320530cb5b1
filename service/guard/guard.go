// Package guard judges text: what may reach a model or an index, and what of an answer may be shown.
//
// Every verdict has reasons, and every decision that is not "allow" is an event. Guard keeps no text. Its
// first layer is rules with weights; their combined score orders findings and is not a calibrated probability.
package guard

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"log/slog"
	"slices"
	"strings"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"aran/platform/auth"
	"aran/platform/rpc"
	"aran/platform/store"
	"aran/platform/watch"
	"aran/service/guard/detect"
	"aran/service/guard/injection"
	"aran/service/guard/pii"
)

// Migrations make the tables.
//
//go:embed migrations/*.sql
var Migrations embed.FS

// Deps is what the service stands on.
type Deps struct {
	DB     *store.DB
	Server rpc.Server
	Log    *slog.Logger
	Health *watch.Health
}

// Service judges. Safe for concurrent use.
type Service struct {
	cfg       Config
	db        *store.DB
	injection *injection.Detector
	server    rpc.Server
	public    *rpc.Public
	verdicts  metric.Int64Counter
	answers   *answerChecks
}

// New compiles the rules.
func New(cfg Config, d Deps) (*Service, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	found, err := injection.Builtin()
	if err != nil {
		return nil, err
	}
	s := &Service{cfg: cfg, db: d.DB, injection: found, server: d.Server, answers: newAnswerChecks()}
	if s.verdicts, err = otel.Meter("aran/service/guard").Int64Counter("aran_guard_verdicts"); err != nil {
		return nil, err
	}
	s.public = s.routes()
	d.Health.Add("guard: database", s.db.Ping)
	return s, nil
}

// Start has nothing to launch.
func (s *Service) Start(context.Context) error { return nil }

// Stop has nothing to stop.
func (s *Service) Stop(context.Context) error { return nil }

// Result is the verdict on one text.
type Result struct {
	Verdict  string
	Score    float64
	Findings []detect.Finding
	Redacted string // with redactions applied; set when the verdict is Redact
}

// rank orders verdicts: the highest wins.
func rank(v string) int { return slices.Index([]string{Allow, Flag, Redact, Block}, v) }

// Scan judges texts of one origin, on their way in. Decisions are recorded before it returns.
func (s *Service) Scan(ctx context.Context, texts []string, origin detect.Origin) ([]Result, error) {
	out := make([]Result, len(texts))
	for i, t := range texts {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if origin != detect.Output {
			out[i] = s.input(t, origin)
			continue
		}
		var err error
		if out[i], err = s.output(ctx, t); err != nil {
			return nil, err
		}
	}
	return out, s.record(ctx, texts, origin, out)
}

func (s *Service) input(text string, origin detect.Origin) Result {
	found := s.injection.Judge(text, origin)
	r := Result{Verdict: Allow, Score: found.Score, Findings: found.Findings}
	threshold := s.cfg.UserThreshold
	if origin != detect.User {
		threshold = s.cfg.DocumentThreshold
	}
	switch {
	case r.Score >= threshold:
		r.Verdict = Block
	case r.Score >= s.cfg.FlagThreshold:
		r.Verdict = Flag
	}
	private := pii.Find(text)
	r.Findings = append(r.Findings, private...)
	if origin == detect.User {
		s.apply(&r, text, private)
	}
	return r
}

// output judges a whole text on its way out.
func (s *Service) output(ctx context.Context, text string) (Result, error) {
	rules, err := s.answerRules(ctx, nil)
	if err != nil {
		return Result{}, err
	}
	r := newReader(rules, s.answers.marks.Marks(nil), nil, nobody{}, "")
	r.read(text, true)
	out := Result{Verdict: r.verdict, Score: r.score, Findings: r.findings}
	if r.verdict == Redact {
		out.Redacted = r.released.String()
	}
	return out, nil
}

func (s *Service) apply(r *Result, text string, found []detect.Finding) {
	s.settle(r, text, found, func(kind string) string {
		return byClass(kind, s.cfg.InputSecrets, s.cfg.InputNumbers, s.cfg.InputContacts, Allow)
	})
}

// byClass picks the policy for a kind of finding.
func byClass(kind, secrets, numbers, contacts, links string) string {
	switch {
	case kind == "secret":
		return secrets
	case kind == "link":
		return links
	case kind == "pii.email" || kind == "pii.phone":
		return contacts
	case strings.HasPrefix(kind, "pii."):
		return numbers
	}
	return Allow
}

// settle raises the verdict by the policy for each finding, and redacts.
func (s *Service) settle(r *Result, text string, found []detect.Finding, policy func(kind string) string) {
	var b strings.Builder
	last := 0
	for _, f := range found {
		p := policy(f.Kind)
		if p != Allow {
			r.Score = max(r.Score, f.Score)
		}
		if rank(p) > rank(r.Verdict) {
			r.Verdict = p
		}
		if p == Redact {
			b.WriteString(text[last:f.Start])
			b.WriteString("[removed: " + strings.TrimPrefix(f.Kind, "pii.") + "]")
			last = f.End
		}
	}
	if last > 0 {
		b.WriteString(text[last:])
		r.Redacted = b.String()
	}
}

// record keeps every decision that is not "allow" as an event.
func (s *Service) record(ctx context.Context, texts []string, origin detect.Origin, results []Result) error {
	var events []store.Event
	id := auth.From(ctx)
	for i, r := range results {
		s.verdicts.Add(ctx, 1, metric.WithAttributes(attribute.String("origin", string(origin)), attribute.String("verdict", r.Verdict)))
		if r.Verdict == Allow {
			continue
		}
		sum := sha256.Sum256([]byte(texts[i]))
		data := DecisionEvent{RequestID: rpc.RequestID(ctx), Origin: string(origin), Score: r.Score, TextDigest: hex.EncodeToString(sum[:]), Kinds: []string{}, Rules: []string{}}
		for _, f := range r.Findings {
			if !slices.Contains(data.Kinds, f.Kind) {
				data.Kinds = append(data.Kinds, f.Kind)
			}
			if !slices.Contains(data.Rules, f.Rule) {
				data.Rules = append(data.Rules, f.Rule)
			}
		}
		typ := map[string]string{Block: TypeBlocked, Redact: TypeRedacted, Flag: TypeFlagged}[r.Verdict]
		events = append(events, store.Event{Type: typ, Tenant: id.Tenant, Actor: id.Subject, Subject: data.TextDigest, Data: data})
	}
	if len(events) == 0 {
		return nil
	}
	return s.keep(ctx, string(origin), results, events)
}
