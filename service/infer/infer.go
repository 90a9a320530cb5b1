// Package infer runs the models: the built-in text encoder, and local language models.
//
// The encoder is part of the program and pinned by its digest. A language model, and all native code that
// runs it, lives in a supervised process of its own and can never take this one down; when it is not
// installed, loads or failed, callers are told so at once and have a next-best answer. What a model says is
// data, never an instruction. Nothing here fetches a model: that is the operator's command.
package infer

import (
	"context"
	"embed"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"golang.org/x/sync/errgroup"

	"aran/platform/fault"
	"aran/platform/rpc"
	"aran/platform/store"
	"aran/platform/watch"
	"aran/service/infer/child"
	"aran/service/infer/minilm"
	"aran/service/infer/registry"
)

// Migrations make the tables.
//
//go:embed migrations/*.sql
var Migrations embed.FS

// Deps is what the service needs.
type Deps struct {
	DB     *store.DB
	Server rpc.Server
	Log    *slog.Logger
	Health *watch.Health
	Alone  bool // no other service runs in this process
}

// Statuses of a model.
const (
	Ready   = "ready"
	Loading = "loading"
	Missing = "missing"
	Failed  = "failed"
)

// DefaultName stands for the model that is taken when none is named.
const DefaultName = "default"

// Model is what can be asked for.
type Model struct {
	Name    string
	Version string
	Title   string
	Kind    string
	Digest  string
	Licence string
	Status  string
	Dim     int
	Context int

	Versions []ModelVersion // the active one first
	Phase    string         // of a rollout, or empty
}

// ModelVersion is a version of a model.
type ModelVersion struct {
	Version string
	Digest  string
	Dim     int
	Status  string
	Active  bool
	Percent int // of the calls that name no digest
}

// Service runs models. Safe for concurrent use.
type Service struct {
	cfg       Config
	d         Deps
	public    *rpc.Public
	registry  *registry.Registry
	telemetry *telemetry
	id        string // of this process, as the owner of rollouts
	self      string // the program that runs encoders

	mu     sync.RWMutex
	served map[string]*served
	away   []*away // on servers of others; never changed

	encode        func(ctx context.Context, texts []string) ([]minilm.Embedding, error)
	encoderDigest string
	encoderFailed atomic.Pointer[error]
	heads         headroom

	firstLook time.Duration   // after the start
	watchEach time.Duration   // how often the registry is looked at
	life      context.Context //nolint:containedctx // from Start to Stop
	stop      context.CancelFunc
	done      sync.WaitGroup
}

// How long after the start an installed model is loaded, and how often one that is missing is looked for.
const (
	firstLook   = time.Second
	lookEvery   = 15 * time.Second
	watchEvery  = time.Second
	noteTimeout = 5 * time.Second
)

// New opens the encoder and the registry. No process is started and no model file is read.
func New(cfg Config, d Deps) (*Service, error) {
	encoder, err := minilm.Load()
	if err != nil {
		return nil, fmt.Errorf("built-in encoder: %w", err)
	}
	s, err := build(cfg, d, encoder.Encode, encoder.Digest())
	if err != nil {
		return nil, err
	}
	s.heads.tokens = encoder
	return s, nil
}

func build(cfg Config, d Deps, encode func(context.Context, []string) ([]minilm.Embedding, error), digest string) (*Service, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	reg, err := cfg.registry(d.Log)
	if err != nil {
		return nil, err
	}
	t, err := newTelemetry()
	if err != nil {
		return nil, err
	}
	s := &Service{
		cfg: cfg, d: d, registry: reg, telemetry: t, served: map[string]*served{}, id: store.NewEventID(), self: program(), encode: encode, encoderDigest: digest, firstLook: firstLook, watchEach: watchEvery,
		public: rpc.NewPublic(d.Server, "Models"),
	}
	if err := s.newAway(); err != nil {
		return nil, err
	}
	if err := s.openHeads(); err != nil {
		return nil, fmt.Errorf("built-in head: %w", err)
	}
	s.routes()
	d.Health.Add("infer: encoder", s.encoderReady)
	return s, nil
}

func (s *Service) refusals(operation string) func(context.Context, string) {
	return func(ctx context.Context, reason string) {
		s.telemetry.refused.Add(ctx, 1, metric.WithAttributes(attribute.String("gen_ai.operation.name", operation), attribute.String("reason", reason)))
	}
}

// Public is the REST handler.
func (s *Service) Public() *rpc.Public { return s.public }

// Start serves the models, each in the version that was decided on, and supervises their processes. It waits for
// none of them: they load later, or at the first question.
func (s *Service) Start(ctx context.Context) error {
	s.life, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	for _, name := range s.registry.Names() {
		if err := s.serve(ctx, name); err != nil {
			return err
		}
	}
	for _, a := range s.away {
		s.done.Go(func() { a.watch(s.life) })
	}
	s.done.Go(func() {
		if err := s.registry.Watch(s.life, s.watchEach, s.noticed); err != nil && s.life.Err() == nil {
			s.d.Log.LogAttrs(s.life, slog.LevelError, "models are not watched any more", slog.String("error", err.Error()))
		}
	})
	return nil
}

// serve begins to serve a model, unless it is served already or has no engine.
func (s *Service) serve(ctx context.Context, name string) error {
	if s.lookup(name) != nil {
		return nil
	}
	found, err := s.registry.Model(ctx, name)
	if err != nil {
		return fmt.Errorf("model %s: %w", name, err)
	}
	if !slices.Contains([]string{registry.Builtin, registry.LlamaCpp, registry.Encoder}, found.Engine) {
		return nil
	}
	row, err := serving(ctx, s.d.DB, name)
	if err != nil {
		return err
	}
	if row != nil && row.version != found.Version {
		was, err := s.registry.Model(ctx, name+"@"+row.version)
		if err == nil && (was.Status == registry.BuiltIn || was.Status == registry.Installed && was.Digest == row.digest) {
			found = was
		}
	}
	m := &served{
		s: s, name: name, kind: found.Kind, kick: make(chan struct{}, 1), kept: map[string]*version{}, shadow: make(chan struct{}, 1), aligned: -1,
	}
	s.mu.Lock()
	m.active = s.open(&found)
	s.served[name] = m
	s.mu.Unlock()
	s.done.Go(func() { m.drive(s.life) })
	return nil
}

// noticed is called when a version was chosen, pulled or made known.
func (s *Service) noticed(st registry.State) {
	if err := s.serve(s.life, st.Name); err != nil && s.life.Err() == nil {
		s.d.Log.LogAttrs(s.life, slog.LevelWarn, "a model can't be served", slog.String("model", st.Name), slog.String("error", err.Error()))
	}
	s.kick(st.Name)
}

// kick makes a model compare what serves with what was chosen.
func (s *Service) kick(name string) {
	if m := s.lookup(name); m != nil {
		select {
		case m.kick <- struct{}{}:
		default:
		}
	}
}

// Stop ends the processes of the models. It needs less than a second.
func (s *Service) Stop(ctx context.Context) error {
	if s.stop == nil {
		return nil
	}
	s.stop()
	var g errgroup.Group
	for _, m := range s.all() {
		versions, _, _ := m.versions()
		for _, v := range versions {
			g.Go(func() error { return v.close(ctx) })
		}
	}
	err := g.Wait()
	s.done.Wait()
	return err
}

// changed records what became of a version's process.
func (s *Service) changed(v *version, st child.State) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.life), noteTimeout)
	defer cancel()
	if st.Status == child.Failed {
		v.crash.Store(&st.Detail)
		s.telemetry.restarts.Add(ctx, 1, metric.WithAttributes(attribute.String("gen_ai.request.model", v.Name)))
	}
	if m := s.lookup(v.Name); m == nil || m.current() != v {
		return // a version on trial, or one that is kept: the model is what its active version is
	}
	switch st.Status {
	case child.Ready:
		s.note(ctx, v.event(Ready))
	case child.Failed:
		s.note(ctx, v.event(Failed))
	case child.Missing:
		s.note(ctx, v.event(Missing))
	default:
	}
}

func (s *Service) note(ctx context.Context, e ModelEvent) {
	if err := noteModel(ctx, s.d.DB, e, time.Now()); err != nil && ctx.Err() == nil {
		s.d.Log.LogAttrs(ctx, slog.LevelError, "change of a model was not recorded", slog.String("model", e.Name), slog.String("status", e.Status), slog.String("error", err.Error()))
	}
}

// encoderReady is the service's readiness: a language model may be missing, the encoder not.
func (s *Service) encoderReady(context.Context) error {
	if err := s.encoderFailed.Load(); err != nil {
		return fmt.Errorf("the built-in encoder failed: %w", *err)
	}
	for _, m := range s.all() {
		if v := m.current(); m.kind == registry.Embed && v.child != nil && v.Engine == registry.Builtin {
			if st := v.child.State(); st.Status == child.Failed {
				return fmt.Errorf("the built-in encoder's process failed: %s", st.Detail)
			}
		}
	}
	return nil
}

// resolve returns the name of a model of the kind. Empty and `default` mean the first of that kind.
func (s *Service) resolve(name, kind string) (string, error) {
	for _, known := range s.registry.Names() {
		m, err := s.registry.Manifest(known)
		if err != nil {
			return "", err
		}
		if m.Kind == kind && (name == known || m.Engine != registry.Inside && (name == "" || name == DefaultName)) {
			return known, nil
		}
	}
	m, err := s.registry.Manifest(name)
	if err != nil {
		return "", err
	}
	return "", fault.New(fault.Invalid, "model_wrong_kind", "Model %s can't do this: its kind is %s, needed is %s.", name, m.Kind, kind)
}

// Models lists what is known, by name.
func (s *Service) Models(ctx context.Context) ([]Model, error) {
	list, err := s.registry.List(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]Model, 0, len(list)+len(s.away))
	for i := range list {
		out = append(out, s.model(&list[i]))
	}
	for _, a := range s.away {
		out = append(out, a.model())
	}
	return out, nil
}

// Model returns one, or fault.Missing `model_not_found`.
func (s *Service) Model(ctx context.Context, name string) (Model, error) {
	for _, a := range s.away {
		if a.cfg.Name == name {
			return a.model(), nil
		}
	}
	m, err := s.registry.Model(ctx, name)
	if err != nil {
		return Model{}, err
	}
	return s.model(&m), nil
}

func (s *Service) model(m *registry.Model) Model {
	out := Model{
		Name: m.Name, Version: m.Version, Title: m.Title, Kind: m.Kind, Digest: m.Digest, Licence: m.Licence,
		Status: Missing, Dim: m.Dim, Context: m.Context,
	}
	if m.Engine == registry.Builtin {
		out.Digest = s.encoderDigest
	}
	sm := s.lookup(m.Name)
	if sm == nil {
		if m.Status == registry.Installed || m.Engine == registry.Inside {
			out.Status = Ready // data beside another model
		}
		return out
	}
	versions, percent, phase := sm.versions()
	v := versions[0]
	out.Version, out.Title, out.Digest, out.Licence, out.Dim, out.Context, out.Phase = v.Version, v.Title, v.Digest, v.Licence, v.Dim, v.Context, phase
	if s.cfg.Context > 0 && v.Engine == registry.LlamaCpp {
		out.Context = s.cfg.Context
	}
	out.Status = s.status(v, m)
	for i, v := range versions {
		one := ModelVersion{Version: v.Version, Digest: v.Digest, Dim: v.Dim, Status: s.status(v, m), Active: i == 0}
		switch i {
		case 0:
			one.Percent = 100 - percent
		case 1: // the next one, if there is one
			one.Percent = percent
		}
		out.Versions = append(out.Versions, one)
	}
	return out
}

// status of a version whose model the registry knows as m. One that has just arrived is woken.
func (s *Service) status(v *version, m *registry.Model) string {
	if v.child == nil || v.Engine == registry.Builtin {
		return v.status()
	}
	if m.Version == v.Version && m.Status != registry.Installed {
		return Missing
	}
	if v.child.State().Status == child.Missing { // the engine is not there, or the model has just arrived
		v.child.Wake()
	}
	return v.status()
}
