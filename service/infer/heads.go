package infer

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"sync"

	"aran/platform/auth"
	"aran/platform/fault"
	"aran/service/infer/heads"
	"aran/service/infer/minilm"
	"aran/service/infer/queue"
	"aran/service/infer/registry"
)

// Ranking is how well documents answer a query, in their order, and what said so.
type Ranking struct {
	Scores  []float64
	Model   string
	Digest  string
	Encoder string // digest
}

// Classes are the labels of texts, in their order, and what gave them.
type Classes struct {
	Texts   []Class
	Model   string
	Digest  string
	Encoder string // digest
}

// Class is a text's labels, the likeliest first.
type Class struct {
	Labels    []heads.Label
	Truncated bool
}

// tokenEncoder is the built-in encoder, as far as reranking needs it.
type tokenEncoder interface {
	heads.Encoder
	Sequences(ctx context.Context, texts []string) ([]minilm.Sequence, error)
}

// headroom is where heads are kept that were read.
type headroom struct {
	builtin *heads.Head // reranks
	// injection tells instructions in a text, for the guard
	injection *heads.Head
	tokens    tokenEncoder
	gate      *queue.Gate // of reranking

	mu   sync.Mutex
	read map[string]*heads.Head // by digest of the model in the registry
}

// maxHeads are kept; when there are more, all are read again.
const maxHeads = 16

func (s *Service) openHeads() (err error) {
	s.heads.read = map[string]*heads.Head{}
	s.heads.gate = queue.NewGate(queue.Options{
		What: "passages are reranked", AtOnce: s.cfg.embedAtOnce(), Calls: s.cfg.EmbedQueue, Wait: s.cfg.EmbedWait, Refused: s.refusals("rerank"),
	})
	if s.heads.builtin, err = heads.Builtin(); err != nil {
		return err
	}
	s.heads.injection, err = heads.Injection()
	return err
}

// head finds a head by its model's name; empty and `default` stand for the first of the kind, which for reranking
// is the one inside the program. All of its file is compared with the manifest before it is read.
func (s *Service) head(ctx context.Context, name, kind string) (*heads.Head, string, error) {
	switch {
	case kind == registry.Rerank && (name == "" || name == DefaultName || name == heads.RerankName):
		return s.heads.builtin, heads.RerankName, nil
	case kind == registry.Classify && name == heads.InjectionName:
		return s.heads.injection, heads.InjectionName, nil
	}
	name, err := s.resolve(name, kind)
	if err != nil {
		return nil, "", err
	}
	m, err := s.registry.Model(ctx, name)
	if err != nil {
		return nil, "", err
	}
	if m.Kind != kind || m.Engine != registry.Head {
		return nil, "", fault.New(fault.Unsupported, "model_not_served", "Version %s of model %s is no %s head.", m.Version, name, kind)
	}
	if m.Status != registry.Installed {
		return nil, "", fault.New(fault.Unavailable, "model_missing", "Model %s is not installed; `aran model pull %[1]s` fetches it.", name)
	}
	s.heads.mu.Lock()
	defer s.heads.mu.Unlock()
	if h := s.heads.read[m.Digest]; h != nil {
		return h, name, nil
	}
	if err := s.registry.Verify(ctx, name+"@"+m.Version); err != nil {
		return nil, "", err
	}
	h, err := heads.Open(filepath.Join(m.Dir, filepath.FromSlash(m.Weights)))
	if err == nil && (h.Kind != kind || h.Encoder != m.Encoder || !slices.Equal(h.Labels, m.Labels)) {
		err = errors.New("kind, encoder or labels are not the manifest's")
	}
	if err != nil {
		return nil, "", fault.New(fault.Unavailable, "model_damaged", "Model %s can't be used: %s.", name, err.Error()).Because(err)
	}
	if len(s.heads.read) >= maxHeads {
		clear(s.heads.read)
	}
	s.heads.read[m.Digest] = h
	return h, name, nil
}

// otherEncoder says that a head can't be used with the encoders that are here: its numbers would mean nothing.
func otherEncoder(name string, h *heads.Head) error {
	return fault.New(fault.Conflict, "head_encoder_mismatch", "Head %s belongs to the encoder %.16s…, which is not served here; pull the head for the encoder that is.", name, h.Encoder)
}

// Rerank scores documents, which come in the order in which they were found. A head that belongs to another encoder
// than the built-in one is refused with fault.Conflict `head_encoder_mismatch`.
func (s *Service) Rerank(ctx context.Context, model, query string, documents []string) (out Ranking, err error) {
	if a := s.elsewhere(model, "", registry.Rerank); a != nil {
		return a.rerank(ctx, query, documents)
	}
	h, name, err := s.head(ctx, model, registry.Rerank)
	if err != nil {
		return Ranking{}, err
	}
	if s.heads.tokens == nil || h.Encoder != s.encoderDigest {
		return Ranking{}, otherEncoder(name, h)
	}
	ctx, call := s.telemetry.begin(ctx, "rerank", name)
	defer func() { call.end(ctx, err) }()
	leave, err := s.heads.gate.Enter(ctx, auth.From(ctx).Tenant)
	if err != nil {
		return Ranking{}, err
	}
	defer leave()
	all, err := s.heads.tokens.Sequences(ctx, append([]string{query}, documents...))
	if err != nil {
		if ctx.Err() != nil {
			return Ranking{}, ctx.Err()
		}
		return Ranking{}, fault.New(fault.Internal, "encoder_failed", "The encoder failed.").Because(err)
	}
	tokens := 0
	for i := range all {
		tokens += all[i].Tokens
	}
	call.tokens(ctx, tokens, 0)
	scores, err := h.Score(s.heads.tokens, &all[0], all[1:])
	if err != nil {
		return Ranking{}, err
	}
	return Ranking{Scores: scores, Model: name, Digest: h.Digest(), Encoder: h.Encoder}, nil
}

// Classify gives each text's labels. A head whose encoder is not served here is refused with fault.Conflict
// `head_encoder_mismatch`.
func (s *Service) Classify(ctx context.Context, model string, texts []string) (out Classes, err error) {
	if a := s.elsewhere(model, "", registry.Classify); a != nil {
		return a.classify(ctx, texts)
	}
	h, name, err := s.head(ctx, model, registry.Classify)
	if err != nil {
		return Classes{}, err
	}
	ctx, call := s.telemetry.begin(ctx, "classify", name)
	defer func() { call.end(ctx, err) }()
	e, err := s.Embed(ctx, EmbedCall{Digest: h.Encoder, Texts: texts})
	if err != nil {
		if f, ok := errors.AsType[*fault.Error](err); ok && f.Code == "digest_not_served" {
			return Classes{}, otherEncoder(name, h)
		}
		return Classes{}, err
	}
	out = Classes{Model: name, Digest: h.Digest(), Encoder: h.Encoder, Texts: make([]Class, len(texts))}
	for i, v := range e.Vectors {
		labels, err := h.Classify(v.Vector)
		if err != nil {
			return Classes{}, err
		}
		out.Texts[i] = Class{labels, v.Truncated}
	}
	return out, nil
}
