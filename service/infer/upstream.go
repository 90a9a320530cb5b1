package infer

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"aran/platform/auth"
	"aran/platform/fault"
	"aran/service/infer/minilm"
	"aran/service/infer/queue"
	"aran/service/infer/registry"
	"aran/service/infer/upstream"
)

// away is a model on a server that somebody else looks after.
type away struct {
	s      *Service
	cfg    upstream.Config
	digest string
	engine *upstream.Engine
	gate   *queue.Gate
	failed atomic.Bool // the last look, or call, says that the server does not do what it should
}

// checkAwayEvery is how often a server is asked what it runs, also when nobody calls.
const checkAwayEvery = 30 * time.Second

// checkUpstreams checks the settings of all servers, and that no two models share a name or are both the default.
func (c Config) checkUpstreams() error {
	names, defaults := map[string]bool{}, map[string]string{}
	for i, u := range c.Upstreams {
		if err := u.Check(); err != nil {
			return fmt.Errorf("infer.upstreams %d: %w", i+1, err)
		}
		if names[u.Name] {
			return fmt.Errorf("infer.upstreams %d: name %q stands there twice", i+1, u.Name)
		}
		names[u.Name] = true
		if other := defaults[u.Kind]; u.Default && other != "" {
			return fmt.Errorf("infer.upstreams %d: %q is the default of kind %s already", i+1, other, u.Kind)
		}
		if u.Default {
			defaults[u.Kind] = u.Name
		}
	}
	return nil
}

// newAway makes the models of the settings. None may take a name of the registry.
func (s *Service) newAway() error {
	for _, cfg := range s.cfg.Upstreams {
		if _, err := s.registry.Manifest(cfg.Name); err == nil || fault.From(err).Code != "model_not_found" {
			return fmt.Errorf("infer.upstreams: there is a model %q already", cfg.Name)
		}
		e, err := upstream.New(cfg, s.d.Log)
		if err != nil {
			return fmt.Errorf("infer.upstreams: %w", err)
		}
		cfg = e.Config()
		what, operation, wait, calls := "texts are embedded", "embeddings", s.cfg.EmbedWait, s.cfg.EmbedQueue
		if cfg.Kind == registry.Generate {
			what, operation, wait, calls = "questions are asked", "chat", s.cfg.GenerateWait, s.cfg.GenerateQueue
		}
		s.away = append(s.away, &away{
			s: s, cfg: cfg, digest: cfg.Identity(), engine: e,
			gate: queue.NewGate(queue.Options{What: what, AtOnce: cfg.AtOnce, Calls: calls, Wait: wait, Refused: s.refusals(operation)}),
		})
	}
	return nil
}

// elsewhere finds the model of a kind that a caller means, if it is on a server: by its name; without a name (or by
// `default`) by its digest, or because it is the default.
func (s *Service) elsewhere(name, digest, kind string) *away {
	unnamed := name == "" || name == DefaultName
	for _, a := range s.away {
		switch {
		case name == a.cfg.Name,
			unnamed && digest != "" && digest == a.digest && a.cfg.Kind == kind,
			unnamed && digest == "" && a.cfg.Default && a.cfg.Kind == kind:
			return a
		}
	}
	return nil
}

// enter checks that the model can do what is asked, and waits for its turn.
func (a *away) enter(ctx context.Context, kind string) (leave func(), err error) {
	if a.cfg.Kind != kind {
		return nil, fault.New(fault.Invalid, "model_wrong_kind", "Model %s can't do this: its kind is %s, needed is %s.", a.cfg.Name, a.cfg.Kind, kind)
	}
	return a.gate.Enter(ctx, auth.From(ctx).Tenant)
}

// embed makes vectors. When the digest is another one, the error is fault.Missing `digest_not_served`.
func (a *away) embed(ctx context.Context, c EmbedCall) (out Embeddings, err error) {
	ctx, call := a.s.telemetry.begin(ctx, "embeddings", a.cfg.Name)
	defer func() { call.end(ctx, err) }()
	call.span.SetAttributes(attribute.Int("aran.infer.texts", len(c.Texts)))
	if c.Digest != "" && c.Digest != a.digest {
		return Embeddings{}, fault.New(fault.Missing, "digest_not_served", "Model %s has no version here with the digest %.16s….", a.cfg.Name, c.Digest)
	}
	leave, err := a.enter(ctx, registry.Embed)
	if err != nil {
		return Embeddings{}, err
	}
	defer leave()
	embed := a.engine.Embed
	if c.Query {
		embed = a.engine.EmbedQueries
	}
	got, err := embed(ctx, c.Texts)
	a.note(ctx, err)
	if err != nil {
		return Embeddings{}, err
	}
	out = Embeddings{Model: a.cfg.Name, Version: a.version(), Digest: a.digest, Dim: a.cfg.Dim, Vectors: make([]minilm.Embedding, len(got.Vectors))}
	for i, v := range got.Vectors {
		out.Vectors[i].Vector = v
	}
	spread(out.Vectors, c.Texts, got.Tokens)
	call.tokens(ctx, got.Tokens, 0)
	return out, nil
}

// spread shares out the tokens of a request by the length of its texts: servers count them together.
func spread(vectors []minilm.Embedding, texts []string, tokens int) {
	bytes := 0
	for _, t := range texts {
		bytes += len(t)
	}
	for i, t := range texts {
		n := tokens
		if i < len(texts)-1 {
			n = int(int64(tokens) * int64(len(t)) / int64(max(1, bytes)))
		}
		vectors[i].Tokens = n
		tokens, bytes = tokens-n, bytes-len(t)
	}
}

// generate answers in pieces; see Service.Generate.
func (a *away) generate(ctx context.Context, p Prompt, emit func(text string) error) (f Finish, err error) {
	ctx, call := a.s.telemetry.begin(ctx, "chat", a.cfg.Name)
	defer func() { call.end(ctx, err) }()
	leave, err := a.enter(ctx, registry.Generate)
	if err != nil {
		return Finish{}, err
	}
	defer leave()
	q := upstream.Prompt{MaxTokens: p.MaxTokens, Temperature: p.Temperature, TopP: p.TopP, Stop: p.Stop, Seed: p.Seed}
	if q.MaxTokens == 0 || q.MaxTokens > a.s.cfg.MaxTokens {
		q.MaxTokens = a.s.cfg.MaxTokens
	}
	for _, m := range p.Messages {
		q.Messages = append(q.Messages, upstream.Message(m))
	}
	got, err := a.engine.Generate(ctx, q, func(text string) error {
		call.piece(ctx)
		return emit(text)
	})
	a.note(ctx, err)
	if err != nil {
		return Finish{}, err
	}
	call.span.SetAttributes(attribute.StringSlice("gen_ai.response.finish_reasons", []string{got.Reason}))
	call.tokens(ctx, got.Prompt, got.Completion)
	return Finish{Reason: got.Reason, Prompt: got.Prompt, Completion: got.Completion, Version: a.version(), Digest: a.digest}, nil
}

// rerank scores documents against a query, in their order; higher is better.
func (a *away) rerank(ctx context.Context, query string, documents []string) (scores []float64, err error) {
	ctx, call := a.s.telemetry.begin(ctx, "rerank", a.cfg.Name)
	defer func() { call.end(ctx, err) }()
	leave, err := a.enter(ctx, registry.Rerank)
	if err != nil {
		return nil, err
	}
	defer leave()
	scores, err = a.engine.Rerank(ctx, query, documents)
	a.note(ctx, err)
	return scores, err
}

// classify returns the labels of each text, the most likely first.
func (a *away) classify(ctx context.Context, texts []string) (labels [][]upstream.Label, err error) {
	ctx, call := a.s.telemetry.begin(ctx, "classify", a.cfg.Name)
	defer func() { call.end(ctx, err) }()
	leave, err := a.enter(ctx, registry.Classify)
	if err != nil {
		return nil, err
	}
	defer leave()
	labels, err = a.engine.Classify(ctx, texts)
	a.note(ctx, err)
	return labels, err
}

// note keeps whether the server is of use, and records a change.
func (a *away) note(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	failed := err != nil && fault.KindOf(err) == fault.Unavailable
	if err != nil && !failed || a.failed.Swap(failed) == failed {
		return // the caller's own doing, or no change
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), noteTimeout)
	defer cancel()
	a.s.note(ctx, a.event())
}

func (a *away) event() ModelEvent {
	return ModelEvent{Name: a.cfg.Name, Version: a.version(), Digest: a.digest, Status: a.status()}
}

func (a *away) status() string {
	if a.failed.Load() {
		return Failed
	}
	return Ready
}

// version is the stated revision, or the beginning of the stated digest.
func (a *away) version() string {
	if a.cfg.Revision != "" {
		return a.cfg.Revision
	}
	return a.cfg.Digest[:16]
}

func (a *away) model() Model {
	return Model{
		Name: a.cfg.Name, Version: a.version(), Title: a.cfg.Model + " on " + a.cfg.Engine, Kind: a.cfg.Kind, Digest: a.digest, Licence: a.cfg.Licence,
		Status: a.status(), Dim: a.cfg.Dim, Context: a.cfg.Context,
		Versions: []ModelVersion{{Version: a.version(), Digest: a.digest, Dim: a.cfg.Dim, Status: a.status(), Active: true, Percent: 100}},
	}
}

// watch asks the server what it runs, until life ends.
func (a *away) watch(life context.Context) {
	tick := time.NewTicker(checkAwayEvery)
	defer tick.Stop()
	defer a.engine.Close()
	for first := true; ; first = false {
		err := a.engine.Check(life)
		if life.Err() != nil {
			return
		}
		if err != nil && first {
			a.s.d.Log.LogAttrs(life, slog.LevelWarn, "the server of a model is of no use for now", slog.String("model", a.cfg.Name), slog.String("error", err.Error()))
		}
		a.note(life, err)
		if first && err == nil {
			a.s.note(life, a.event())
		}
		select {
		case <-tick.C:
		case <-life.Done():
			return
		}
	}
}
