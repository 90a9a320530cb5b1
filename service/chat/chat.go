// Package chat answers questions with language models, over the APIs of OpenAI and Anthropic.
//
// It finds passages of the caller's documents, has every untrusted text judged before it reaches a model and
// every answer before it reaches the caller, and goes down a ladder of models to an extract of the documents
// and at last to an honest apology; the answer says which rung it came from. No text reaches a model that the
// guard has not seen, no answer is whole before its event is on disk, and what a model or a document says is
// data, never an instruction to this service. It stores no conversation.
package chat

import (
	"context"
	"embed"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"aran/api/gen/aran/guard/v1/guardv1connect"
	"aran/api/gen/aran/infer/v1/inferv1connect"
	"aran/api/gen/aran/search/v1/searchv1connect"
	"aran/platform/rpc"
	"aran/platform/store"
	"aran/platform/watch"
)

// Migrations make the tables.
//
//go:embed migrations/*.sql
var Migrations embed.FS

// Deps is what the service stands on.
type Deps struct {
	DB     *store.DB
	Guard  guardv1connect.GuardServiceClient
	Search searchv1connect.SearchServiceClient
	Infer  inferv1connect.InferServiceClient
	Server rpc.Server
	Log    *slog.Logger
	Health *watch.Health
}

// Service answers. Safe for concurrent use.
type Service struct {
	cfg       Config
	d         Deps
	models    *catalogue
	telemetry *telemetry
	slots     chan struct{} // one for each answer in the making
	public    *rpc.Public

	stop context.CancelFunc
	done sync.WaitGroup
}

// How often answers are looked for that nobody makes any more, and how long after the last moment at which
// one could still be alive.
const (
	sweepEvery  = time.Minute
	sweepMargin = 2 * time.Minute
)

// New opens the service. No provider is asked for anything.
func New(cfg Config, d Deps) (*Service, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	providers, err := cfg.providers()
	if err != nil {
		return nil, err
	}
	t, err := newTelemetry()
	if err != nil {
		return nil, fmt.Errorf("chat: %w", err)
	}
	s := &Service{cfg: cfg, d: d, telemetry: t, slots: make(chan struct{}, cfg.MaxConcurrent)}
	s.models = newCatalogue(cfg, providers, newLocal(cfg, d.Infer), d.Infer, d.Log)
	s.public = s.routes()
	d.Health.Add("chat: database", d.DB.Ping)
	return s, nil
}

// Public serves the model APIs.
func (s *Service) Public() *rpc.Public { return s.public }

// Start launches the sweep of answers that an earlier process did not outlive.
func (s *Service) Start(ctx context.Context) error {
	ctx, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	s.done.Go(func() {
		t := time.NewTicker(sweepEvery)
		defer t.Stop()
		for {
			s.sweep(ctx, time.Now())
			select {
			case <-ctx.Done():
				return
			case <-t.C:
			}
		}
	})
	return nil
}

// Stop ends the sweep and drops idle connections. Answers in the making end with their requests.
func (s *Service) Stop(context.Context) error {
	if s.stop != nil {
		s.stop()
	}
	s.done.Wait()
	s.models.close()
	return nil
}

// sweep records answers as lost whose process is gone. Any replica may do it: a row is closed once.
func (s *Service) sweep(ctx context.Context, now time.Time) {
	calls, err := s.stale(ctx, now.Add(-s.cfg.Timeout-sweepMargin))
	for _, c := range calls {
		if err != nil {
			break
		}
		err = s.lose(ctx, c, store.Event{
			Type: TypeAnswered, Tenant: c.tenant, Actor: c.actor, Subject: c.request,
			Data: AnsweredEvent{
				RequestID: c.request, RequestedModel: c.model, QuestionDigest: c.question, Finish: finishLost,
				Guard: Judged{Verdict: verdictAllow}, LatencyMS: now.Sub(c.opened).Milliseconds(),
			},
		})
	}
	if err != nil && ctx.Err() == nil {
		s.d.Log.LogAttrs(ctx, slog.LevelError, "lost answers were not recorded", slog.String("error", err.Error()))
	}
}

// enter takes a slot for an answer; false when there is none.
func (s *Service) enter() (leave func(), ok bool) {
	select {
	case s.slots <- struct{}{}:
		return func() { <-s.slots }, true
	default:
		return nil, false
	}
}
