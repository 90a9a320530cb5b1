// Package guard judges text: what may reach a model or an index, and what of an answer may be shown.
//
// A tenant's policy, the policies of the collections that a request names, and the operator's floor say together what is done
// about what is found: the strictest of them holds. Every verdict has reasons and names the versions that it rests on, and every
// decision that is not "allow" is an event. Guard keeps no text but what somebody hands over with a report of a wrong verdict, and
// the values that it gave pseudonyms for, each sealed with the key of whose they are.
package guard

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"aran/api/gen/aran/infer/v1/inferv1connect"
	"aran/platform/auth"
	"aran/platform/rpc"
	"aran/platform/seal"
	"aran/platform/store"
	"aran/platform/watch"
	"aran/service/guard/detect"
	"aran/service/guard/injection"
	"aran/service/guard/judge"
	"aran/service/guard/pii"
	"aran/service/guard/policy"
)

// Migrations make the tables.
//
//go:embed migrations/*.sql
var Migrations embed.FS

// Deps is what the service stands on.
type Deps struct {
	DB     *store.DB
	Box    *seal.Box                         // seals pseudonyms and the texts of reports; without it there are none
	Infer  inferv1connect.InferServiceClient // the classifier on embeddings; without it that layer is named as missing
	Server rpc.Server
	Log    *slog.Logger
	Health *watch.Health
}

// Service judges. Safe for concurrent use.
type Service struct {
	cfg       Config
	db        *store.DB
	box       *seal.Box
	log       *slog.Logger
	injection *injection.Detector
	server    rpc.Server
	public    *rpc.Public
	verdicts  metric.Int64Counter
	vault     *vault
	policies  *shelf
	history   *history
	answers   *answerChecks
	judge     *judge.Judge // nil: no model is asked

	stop  context.CancelFunc
	loops sync.WaitGroup
}

// New compiles the rules.
func New(cfg Config, d Deps) (*Service, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	cfg.Policy = cfg.Policy.Over(policy.Default())
	found, err := injection.New(newHead(d), cfg.rules())
	if err != nil {
		return nil, err
	}
	s := &Service{cfg: cfg, db: d.DB, box: d.Box, log: d.Log, injection: found, server: d.Server, vault: newVault(cfg, d), answers: newAnswerChecks()}
	meter := otel.Meter("aran/service/guard")
	if s.verdicts, err = meter.Int64Counter("aran_guard_verdicts"); err != nil {
		return nil, err
	}
	if cfg.Judge.Provider != "" {
		if s.judge, err = judge.New(cfg.Judge, d.Log); err != nil {
			return nil, fmt.Errorf("guard.%w", err)
		}
	}
	s.policies = newShelf(cfg, s.readTenant)
	if s.history, err = newHistory(cfg, meter, s.writeHistory); err != nil {
		return nil, err
	}
	s.public = s.routes()
	d.Health.Add("guard: database", s.db.Ping)
	return s, nil
}

// Start begins to write the history, and to forget what is old.
func (s *Service) Start(ctx context.Context) error {
	loop, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	s.vault.start(ctx)
	s.loops.Go(func() { s.writeLoop(loop) })
	s.loops.Go(func() { s.tidyLoop(loop) })
	return nil
}

// Stop writes what of the history is not written yet.
func (s *Service) Stop(ctx context.Context) error {
	if s.stop == nil {
		return nil
	}
	s.stop()
	s.loops.Wait()
	return errors.Join(s.history.flush(ctx), s.vault.close(ctx))
}

// Job is what is judged, and under which policies.
type Job struct {
	Texts       []string
	Origin      detect.Origin
	Collections []string // the strictest of their policies and the tenant's holds
	Policy      string   // a policy that holds as well: support, or support@7 for one of its versions
	// Conversation reads the texts, and what it read limits its tools. Empty: nobody does.
	Conversation string
	Sources      []string // where the texts come from: one for each, one for all, or none
	Dry          bool     // asks what would be: Policy stands in the place of its active version, and nothing is recorded
}

// Result is the verdict on one text.
type Result struct {
	Verdict  string
	Score    float64            // probability of an attack, or the highest score of what policy acts on
	Layers   map[string]float64 // scores of the layers that looked for instructions
	Findings []detect.Finding
	Redacted string // with redactions applied; set when the verdict is Redact
	Policy   string // what was applied, with versions: default@3+support@7
	Why      string // one sentence

	attack      float64 // probability of an attack alone
	trial       string  // verdict of the policy on trial; empty: there is none
	trialPolicy string
	collections []string
}

// rank orders verdicts: the highest wins.
func rank(v string) int { return policy.Rank(v) }

// Scan judges texts of one origin, on their way in. Decisions are recorded before it returns.
func (s *Service) Scan(ctx context.Context, texts []string, origin detect.Origin, collections ...string) ([]Result, error) {
	return s.Judge(ctx, Job{Texts: texts, Origin: origin, Collections: collections})
}

// Judge judges the texts of a job. Decisions are recorded before it returns, unless the job is dry.
func (s *Service) Judge(ctx context.Context, job Job) ([]Result, error) {
	book, err := s.rulebook(ctx, job)
	if err != nil {
		return nil, err
	}
	out := make([]Result, len(job.Texts))
	for i, t := range job.Texts {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		out[i] = s.result(ctx, t, job.Origin, book)
		out[i].collections = job.Collections
	}
	if job.Dry {
		return out, nil
	}
	if err := s.read(ctx, job, book, out); err != nil {
		return nil, err
	}
	return out, s.record(ctx, job.Texts, job.Origin, out)
}

// result judges one text under a rulebook, and under the one on trial.
func (s *Service) result(ctx context.Context, text string, origin detect.Origin, book *rulebook) Result {
	now := time.Now()
	if origin == detect.Output {
		return s.leaves(text, book, now)
	}
	seen := s.observe(ctx, text, origin, book)
	r := s.decide(text, seen, book, now)
	if t := book.trial; t != nil {
		if !alike(book.policy, t.policy) {
			seen = s.observe(ctx, text, origin, t)
		}
		r.trial, r.trialPolicy = s.decide(text, seen, t, now).Verdict, t.name
	}
	return r
}

// alike reports whether two policies look for the same things, so that one look serves both.
func alike(a, b policy.Policy) bool {
	return slices.Equal(a.Layers, b.Layers) && slices.Equal(a.PII.Packs, b.PII.Packs) && a.PII.Names == b.PII.Names && slices.Equal(a.AllowHosts, b.AllowHosts) &&
		reflect.DeepEqual(a.Boundaries, b.Boundaries)
}

// observation is what was found in one text, before anything is decided.
type observation struct {
	origin   detect.Origin
	score    float64 // probability that it is an attack
	layers   map[string]float64
	findings []detect.Finding
	again    func(text string) observation // looks at another text in the same way
}

func (s *Service) observe(ctx context.Context, text string, origin detect.Origin, book *rulebook) observation {
	o := s.asked(ctx, text, s.attack(ctx, text, origin, book.policy), book.policy)
	o.again = func(text string) observation { return s.attack(ctx, text, origin, book.policy) }
	o.findings = append(o.findings, s.private(text, book.policy)...)
	o.findings = append(o.findings, book.limits(policy.OnInput).Find(text, 0)...)
	return o
}

// attack asks the layers that the policy names.
func (s *Service) attack(ctx context.Context, text string, origin detect.Origin, p policy.Policy) observation {
	found := s.injection.JudgeBy(ctx, text, origin, p.Layers)
	return observation{origin: origin, score: found.Score, layers: found.Layers, findings: found.Findings}
}

// private finds personal data and secrets.
func (*Service) private(text string, p policy.Policy) []detect.Finding {
	return pii.Options{Packs: p.PII.Packs, Names: p.PII.Names}.Find(text)
}

// record keeps every decision that is not "allow" as an event, in one transaction with its count and its place in the history.
// Of the others the history is told what is worth keeping, without waiting.
func (s *Service) record(ctx context.Context, texts []string, origin detect.Origin, results []Result) error {
	var decisions []decision
	id := auth.From(ctx)
	for i, r := range results {
		s.verdicts.Add(ctx, 1, metric.WithAttributes(attribute.String("origin", string(origin)), attribute.String("verdict", r.Verdict)))
		if r.Verdict == Allow && !s.history.worth(r) {
			s.history.count(id.Tenant, origin)
			continue
		}
		sum := sha256.Sum256([]byte(texts[i]))
		digest := hex.EncodeToString(sum[:])
		rec := newRecord(r, origin, digest, rpc.RequestID(ctx), id.Tenant)
		if r.Verdict == Allow {
			s.history.add(ctx, rec)
			continue
		}
		data := DecisionEvent{RequestID: rpc.RequestID(ctx), Origin: string(origin), Score: r.Score, TextDigest: digest, Policy: r.Policy, Kinds: []string{}, Rules: []string{}}
		for _, f := range r.Findings {
			if !slices.Contains(data.Kinds, f.Kind) {
				data.Kinds = append(data.Kinds, f.Kind)
			}
			if !slices.Contains(data.Rules, f.Rule) {
				data.Rules = append(data.Rules, f.Rule)
			}
		}
		typ := map[string]string{Block: TypeBlocked, Redact: TypeRedacted, Flag: TypeFlagged}[r.Verdict]
		decisions = append(decisions, decision{rec, store.Event{ID: rec.ID, Type: typ, Tenant: id.Tenant, Actor: id.Subject, Subject: digest, Data: data}})
	}
	if len(decisions) == 0 {
		return nil
	}
	return s.keep(ctx, decisions)
}
