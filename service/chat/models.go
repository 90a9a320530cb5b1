package chat

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	inferv1 "aran/api/gen/aran/infer/v1"
	"aran/api/gen/aran/infer/v1/inferv1connect"
	"aran/platform/auth"
	"aran/platform/breaker"
	"aran/platform/fault"
	"aran/platform/llm"
)

// defaultName stands for the operator's choice; it always exists.
const defaultName = "default"

// Kinds of infer's models.
const (
	kindGenerate = "generate"
	kindEmbed    = "embed"
)

const (
	maxListed  = 5000             // models of one provider that are kept
	listAgain  = 15 * time.Second // after a list could not be had
	maxNamed   = 20               // models that an error names
	listLimits = 5 * time.Second  // for all lists of one request together
)

// Rung is a step of the ladder.
type Rung string

// The rungs, from the best down.
const (
	Primary    Rung = "primary"
	Alternate  Rung = "alternate"
	Local      Rung = "local"
	Cached     Rung = "cached"
	Extractive Rung = "extractive"
	Apology    Rung = "apology"
)

// target is a model at a provider.
type target struct {
	rung     Rung
	provider *provider
	model    string // empty: the provider's own default, looked up when it is its turn
}

func (t target) String() string { return string(t.rung) + ":" + t.provider.Name() }

// provider is one with its breaker and a list of its models that is fetched when somebody wants it.
type provider struct {
	llm.Provider
	breaker *breaker.Breaker
	model   string // that "default" means
	ttl     time.Duration
	log     *slog.Logger

	mu      sync.Mutex // held while fetching: one at a time
	models  []llm.Model
	fetched time.Time
	failed  time.Time
}

// list returns the provider's models. While it is away, the last list is as good as any; without one, nil.
func (p *provider) list(ctx context.Context) []llm.Model {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if now.Sub(p.fetched) < p.ttl || now.Sub(p.failed) < listAgain {
		return p.models
	}
	models, err := p.Models(ctx)
	if err != nil {
		if ctx.Err() == nil || fault.KindOf(err) != fault.Canceled {
			p.failed = now
		}
		p.log.LogAttrs(ctx, slog.LevelWarn, "models of a provider could not be listed", slog.String("provider", p.Name()), slog.String("error", err.Error()))
		return p.models
	}
	if models == nil {
		models = []llm.Model{}
	}
	p.models, p.fetched, p.failed = models[:min(len(models), maxListed)], now, time.Time{}
	return p.models
}

// byDefault is the model that "default" means here.
func (p *provider) byDefault(ctx context.Context) (string, error) {
	if p.model != "" {
		return p.model, nil
	}
	for _, m := range p.list(ctx) {
		if talks(m.ID) {
			return m.ID, nil
		}
	}
	return "", fault.New(fault.Unavailable, "no_model", "The model provider %q lists no model that could answer.", p.Name())
}

// talks tells language models from others in lists that do not say.
func talks(id string) bool {
	id = strings.ToLower(id)
	return !slices.ContainsFunc([]string{"embed", "whisper", "tts", "dall-e", "image", "moderation", "rerank", "audio", "realtime", "transcribe"},
		func(word string) bool { return strings.Contains(id, word) })
}

// catalogue knows every model that can be asked for.
type catalogue struct {
	providers  []*provider // outside ones, in the operator's order
	local      *provider
	localModel string
	infer      inferv1connect.InferServiceClient
}

func newCatalogue(cfg Config, outside []configured, l *local, infer inferv1connect.InferServiceClient, log *slog.Logger) *catalogue {
	c := &catalogue{localModel: cfg.LocalModel, infer: infer}
	with := func(p llm.Provider, model string, ttl time.Duration) *provider {
		return &provider{Provider: p, model: model, ttl: ttl, log: log, breaker: breaker.New("chat_"+p.Name(), breaker.Default(), log)}
	}
	for _, p := range outside {
		c.providers = append(c.providers, with(p.Provider, p.model, cfg.ModelsTTL))
	}
	if cfg.LocalModel != "" {
		c.local = with(l, cfg.LocalModel, time.Second)
	}
	return c
}

func (c *catalogue) close() {
	for _, p := range c.providers {
		if closer, ok := p.Provider.(interface{ Close() }); ok {
			closer.Close()
		}
	}
}

// permitted reports whether the identity may use a model that was asked for under a name.
func permitted(id auth.Identity, name, model string) bool {
	return len(id.Models) == 0 || slices.Contains(id.Models, model) || slices.Contains(id.Models, name)
}

// resolve gives the models to ask, in order. A caller who names a model is never sent to another company: only
// providers that list this very name, and then the local model, answer. Who names the local model stays here.
func (c *catalogue) resolve(ctx context.Context, id auth.Identity, name string) ([]target, error) {
	if name == defaultName {
		return c.defaults(id), nil
	}
	if c.local != nil && (name == c.localModel || knows(c.local.list(ctx), name)) {
		if !permitted(id, name, name) {
			return nil, c.unknown(ctx, id, name)
		}
		return []target{{Local, c.local, name}}, c.installed(ctx, name)
	}
	if !permitted(id, name, name) {
		return nil, c.unknown(ctx, id, name)
	}
	ctx, cancel := context.WithTimeout(ctx, listLimits)
	defer cancel()
	var sure, unsure []target
	for i, list := range c.lists(ctx) {
		p := c.providers[i]
		switch {
		case knows(list, name):
			sure = append(sure, target{Alternate, p, name})
		case list == nil: // it cannot be asked now: that it does not know the model is not known
			unsure = append(unsure, target{Alternate, p, name})
		}
	}
	if len(sure) == 0 {
		sure = unsure[:min(len(unsure), 1)]
	}
	if len(sure) == 0 {
		return nil, c.unknown(ctx, id, name)
	}
	sure[0].rung = Primary
	return c.withLocal(id, name, sure), nil
}

// installed says what to do when the local model that is asked for by its name was never fetched. A model that is only down
// just now is the ladder's business.
func (c *catalogue) installed(ctx context.Context, name string) error {
	list, err := c.infer.ListModels(ctx, &inferv1.ListModelsRequest{})
	if err != nil {
		return nil //nolint:nilerr // infer is away: the ladder finds out, and has an answer
	}
	for _, m := range list.GetModels() {
		if m.GetName() == name && m.GetStatus() == "missing" {
			return fault.New(fault.Missing, "model_missing", "The local model %s is not installed; `aran model pull %s` fetches it.", name, name)
		}
	}
	return nil
}

func (c *catalogue) defaults(id auth.Identity) []target {
	var out []target
	for _, p := range c.providers {
		if p.model != "" && !permitted(id, defaultName, p.model) || p.model == "" && !permitted(id, defaultName, defaultName) {
			continue
		}
		rung := Alternate
		if len(out) == 0 {
			rung = Primary
		}
		out = append(out, target{rung, p, p.model})
	}
	return c.withLocal(id, defaultName, out)
}

func (c *catalogue) withLocal(id auth.Identity, name string, out []target) []target {
	if c.local != nil && permitted(id, name, c.localModel) {
		out = append(out, target{Local, c.local, c.localModel})
	}
	return out
}

func knows(list []llm.Model, name string) bool {
	return slices.ContainsFunc(list, func(m llm.Model) bool { return m.ID == name })
}

// unknown names what there is.
func (c *catalogue) unknown(ctx context.Context, id auth.Identity, name string) error {
	var names []string
	for _, m := range c.all(ctx, id) {
		names = append(names, m.ID)
	}
	more := ""
	if len(names) > maxNamed {
		names, more = names[:maxNamed], ", … (GET /v1/models lists all)"
	}
	return fault.New(fault.Missing, codeModel, "There is no model %q here. There are: %s%s.", short(name, 100), strings.Join(names, ", "), more)
}

const codeModel = "model_not_found"

// all lists what the identity may ask for: "default" first, then the local models, then the providers'.
func (c *catalogue) all(ctx context.Context, id auth.Identity) []llm.Model {
	ctx, cancel := context.WithTimeout(ctx, listLimits)
	defer cancel()
	out := []llm.Model{{ID: defaultName, Owner: "aran", Title: "The operator's choice"}}
	add := func(m llm.Model) {
		if permitted(id, m.ID, m.ID) && !knows(out, m.ID) {
			out = append(out, m)
		}
	}
	if list, err := c.infer.ListModels(ctx, &inferv1.ListModelsRequest{}); err == nil {
		for _, m := range list.GetModels() {
			if m.GetStatus() == "ready" || m.GetStatus() == "loading" {
				add(llm.Model{ID: m.GetName(), Owner: "aran", Title: m.GetName()})
			}
		}
	}
	for _, list := range c.lists(ctx) {
		for _, m := range list {
			add(m)
		}
	}
	return out
}

// lists asks all providers at once.
func (c *catalogue) lists(ctx context.Context) [][]llm.Model {
	out := make([][]llm.Model, len(c.providers))
	var wg sync.WaitGroup
	for i, p := range c.providers {
		wg.Go(func() { out[i] = p.list(ctx) })
	}
	wg.Wait()
	return out
}

// short bounds a text for a message or a log.
func short(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}
