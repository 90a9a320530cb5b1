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
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

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
}

// Service runs models. Safe for concurrent use.
type Service struct {
	cfg       Config
	d         Deps
	public    *rpc.Public
	registry  *registry.Registry
	telemetry *telemetry
	local     map[string]*localModel

	encode        func(ctx context.Context, texts []string) ([]minilm.Embedding, error)
	encoderDigest string
	encoderFailed atomic.Pointer[error]
	embedGate     *gate

	firstLook time.Duration // after the start
	stop      context.CancelFunc
	done      sync.WaitGroup
}

// localModel is a language model with a process of its own.
type localModel struct {
	manifest *registry.Manifest
	digest   string
	child    *child.Child
	gate     *gate
}

// How long after the start an installed model is loaded, and how often one that is missing is looked for.
const (
	firstLook   = time.Second
	lookEvery   = 15 * time.Second
	noteTimeout = 5 * time.Second
)

// New opens the encoder and the registry. No process is started and no model file is read.
func New(cfg Config, d Deps) (*Service, error) {
	encoder, err := minilm.Load()
	if err != nil {
		return nil, fmt.Errorf("built-in encoder: %w", err)
	}
	return build(cfg, d, encoder.Encode, encoder.Digest())
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
		cfg: cfg, d: d, registry: reg, telemetry: t, local: map[string]*localModel{}, encode: encode, encoderDigest: digest, firstLook: firstLook,
		embedGate: newGate("texts are embedded", cfg.embedAtOnce(), cfg.EmbedQueue, cfg.EmbedWait),
		public:    rpc.NewPublic(d.Server, "Models"),
	}
	s.embedGate.refused = s.refusals("embeddings")
	for _, name := range reg.Names() {
		m, err := reg.Manifest(name)
		if err != nil {
			return nil, err
		}
		if m.Engine == registry.LlamaCpp {
			s.local[name] = s.newLocal(&m)
		}
	}
	s.routes()
	d.Health.Add("infer: encoder", s.encoderReady)
	return s, nil
}

func (s *Service) refusals(operation string) func(context.Context) {
	return func(ctx context.Context) {
		s.telemetry.refused.Add(ctx, 1, metric.WithAttributes(attribute.String("gen_ai.operation.name", operation)))
	}
}

func (s *Service) newLocal(m *registry.Manifest) *localModel {
	size := s.cfg.Context
	if size == 0 {
		size = m.Context
	}
	l := &localModel{manifest: m, digest: m.Digest(), gate: newGate("questions are asked", 1, s.cfg.GenerateQueue, s.cfg.GenerateWait)}
	l.gate.refused = s.refusals("chat")
	l.child = child.New(child.Options{
		Name: m.Name, Program: s.cfg.engine(),
		Memory: int64(s.cfg.MemoryMB) << 20, Nice: s.cfg.Nice, IdleStop: s.cfg.IdleStop, Log: s.d.Log,
		Pack:    func(ctx context.Context) (child.Pack, error) { return s.pack(ctx, m.Name) },
		Changed: func(st child.State) { s.changed(l, st) },
	})
	return l
}

// Public is the REST handler.
func (s *Service) Public() *rpc.Public { return s.public }

// Start supervises the local models. It waits for none of them: they load later, or at the first question.
func (s *Service) Start(ctx context.Context) error {
	loop, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	for _, l := range s.local {
		l.child.Start(ctx)
	}
	s.done.Go(func() { s.look(loop) })
	return nil
}

// Stop ends the local models' processes. It needs less than a second.
func (s *Service) Stop(ctx context.Context) error {
	if s.stop != nil {
		s.stop()
	}
	var errs []error
	for _, l := range s.local {
		errs = append(errs, l.child.Stop(ctx))
	}
	s.done.Wait()
	return errors.Join(errs...)
}

// look records what the models are, loads those that are there, and finds those that arrive.
func (s *Service) look(ctx context.Context) {
	for _, name := range s.registry.Names() {
		if m, err := s.registry.Manifest(name); err == nil && m.Engine == registry.Builtin {
			s.note(ctx, ModelEvent{Name: m.Name, Version: m.Version, Digest: s.encoderDigest, Status: Ready})
		}
	}
	wait := time.NewTimer(s.firstLook)
	defer wait.Stop()
	for first := true; ; first = false {
		select {
		case <-wait.C:
		case <-ctx.Done():
			return
		}
		for name, l := range s.local {
			m, err := s.registry.Model(ctx, name)
			if err != nil {
				continue // ctx ended
			}
			status := l.child.State().Status
			switch there := m.Status == registry.Installed; {
			case !there && (status == child.Waiting || status == child.Missing):
				s.note(ctx, l.event(Missing))
			case there && (status == child.Missing || first && s.cfg.Preload && status == child.Waiting):
				l.child.Wake()
			}
		}
		wait.Reset(lookEvery)
	}
}

// pack is what a child runs. All of its files are read and compared with the manifest each time.
func (s *Service) pack(ctx context.Context, name string) (child.Pack, error) {
	m, err := s.registry.Model(ctx, name)
	if err != nil {
		return child.Pack{}, err
	}
	switch m.Status {
	case registry.Installed:
	case registry.Unsupported:
		return child.Pack{}, &child.MissingError{Reason: fmt.Sprintf("Model %s runs on %s only.", name, strings.Join(m.Platforms, ", "))}
	default:
		return child.Pack{}, &child.MissingError{Reason: fmt.Sprintf("Model %s is not installed; `aran model pull %[1]s` fetches it.", name)}
	}
	if info, err := os.Stat(s.cfg.engine()); err != nil || info.IsDir() {
		return child.Pack{}, &child.MissingError{Reason: fmt.Sprintf("The engine of model %s, aran-llama, is not beside aran; build it, or set infer.engine.", name)}
	}
	if err := s.registry.Verify(ctx, name); err != nil {
		return child.Pack{}, err
	}
	return child.Pack{Model: filepath.Join(m.Dir, filepath.FromSlash(m.Weights)), Lib: filepath.Join(m.Dir, filepath.FromSlash(m.Libraries))}, nil
}

// changed records what became of a local model.
func (s *Service) changed(l *localModel, st child.State) {
	ctx, cancel := context.WithTimeout(context.Background(), noteTimeout)
	defer cancel()
	switch st.Status {
	case child.Ready:
		s.note(ctx, l.event(Ready))
	case child.Failed:
		s.telemetry.restarts.Add(ctx, 1, metric.WithAttributes(attribute.String("gen_ai.request.model", l.manifest.Name)))
		s.note(ctx, l.event(Failed))
	case child.Missing:
		s.note(ctx, l.event(Missing))
	default:
	}
}

func (l *localModel) event(status string) ModelEvent {
	return ModelEvent{Name: l.manifest.Name, Version: l.manifest.Version, Digest: l.digest, Status: status}
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
	return nil
}

// resolve returns the name of a model of the kind. Empty and `default` mean the first of that kind.
func (s *Service) resolve(name, kind string) (string, error) {
	for _, known := range s.registry.Names() {
		m, err := s.registry.Manifest(known)
		if err != nil {
			return "", err
		}
		if m.Kind == kind && (name == known || name == "" || name == DefaultName) {
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
	out := make([]Model, len(list))
	for i := range list {
		out[i] = s.model(&list[i])
	}
	return out, nil
}

// Model returns one, or fault.Missing `model_not_found`.
func (s *Service) Model(ctx context.Context, name string) (Model, error) {
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
	l := s.local[m.Name]
	if l == nil {
		out.Digest, out.Status = s.encoderDigest, Ready
		if s.encoderFailed.Load() != nil {
			out.Status = Failed
		}
		return out
	}
	if s.cfg.Context > 0 {
		out.Context = s.cfg.Context
	}
	if m.Status != registry.Installed {
		return out
	}
	switch l.child.State().Status {
	case child.Ready, child.Asleep:
		out.Status = Ready
	case child.Failed:
		out.Status = Failed
	case child.Missing: // the engine is not there, or the model has just arrived
		l.child.Wake()
	default:
		out.Status = Loading
	}
	return out
}
