// Package upstream runs models on servers that somebody else looks after: vLLM, Text Embeddings Inference (TEI),
// Triton's OpenAI front end, and Ollama, behind the contract of the platform's own models.
//
// It owns their wire formats, and it believes none of them: every answer is bounded, a vector has the stated
// dimension and is brought to unit length, and a server that reports another model, or another revision of it, than
// the settings name is not used. The digest of such a model is made of what the settings state, so that vectors of
// two models are never compared. It does not choose, fall back or wait in a queue: that is its caller's business.
package upstream

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"aran/platform/breaker"
	"aran/platform/llm"
	"aran/platform/outward"
	"aran/platform/secret"
)

// The engines.
const (
	VLLM   = "vllm"
	TEI    = "tei"
	Triton = "triton"
	Ollama = "ollama"
)

// The kinds of models.
const (
	KindEmbed    = "embed"
	KindRerank   = "rerank"
	KindClassify = "classify"
	KindGenerate = "generate"
)

// offers is what each engine can do.
var offers = map[string][]string{ //nolint:gochecknoglobals // a table that nobody changes
	VLLM:   {KindEmbed, KindRerank, KindClassify, KindGenerate},
	TEI:    {KindEmbed, KindRerank, KindClassify},
	Triton: {KindEmbed, KindGenerate},
	Ollama: {KindEmbed, KindGenerate},
}

// Config is one model on one server.
type Config struct {
	Name          string        `yaml:"name"`     // what callers ask for
	Kind          string        `yaml:"kind"`     // embed, rerank, classify, generate
	Engine        string        `yaml:"engine"`   // vllm, tei, triton, ollama
	URL           string        `yaml:"url"`      // without /v1: https://gpu.example:8000
	Model         string        `yaml:"model"`    // as the server calls it
	Revision      string        `yaml:"revision"` // commit or release; TEI reports it, and it must be the same
	Digest        string        `yaml:"digest"`   // SHA-256; Ollama reports it, and it must be the same
	Licence       string        `yaml:"licence"`
	Key           secret.String `yaml:"key"` // bearer token; env:NAME or file:PATH
	Dim           int           `yaml:"dim"`
	Context       int           `yaml:"context"`
	Timeout       time.Duration `yaml:"timeout"`           // of one request; 0s: 30s. For an answer in pieces: between two of them
	Batch         int           `yaml:"batch"`             // texts in one request; 0: 32
	AtOnce        int           `yaml:"at_once"`           // requests at once; 0: 8
	QueryPrefix   string        `yaml:"query_prefix"`      // stands in front of each text that asks, as some models want it: "query: "
	PassagePrefix string        `yaml:"passage_prefix"`    // in front of each text that is to be found
	Default       bool          `yaml:"default"`           // the model of its kind for callers who name none
	NoTLS         bool          `yaml:"unsafe_plain_http"` // texts and the key travel in clear to another machine
}

// Bounds of the settings.
const (
	defaultTimeout = 30 * time.Second
	defaultBatch   = 32 // TEI's max_client_batch_size
	defaultAtOnce  = 8
	maxTimeout     = 30 * time.Minute
	maxDim         = 1 << 16
)

var (
	namePattern   = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)
	modelPattern  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/:@+-]{0,199}$`)
	digestPattern = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// Check names the first setting that can't be used.
func (c Config) Check() error {
	kinds, known := offers[c.Engine]
	switch {
	case !namePattern.MatchString(c.Name):
		return fmt.Errorf("name %q: use up to 64 of a-z, 0-9, dot, dash and underscore", c.Name)
	case !known:
		return fmt.Errorf("engine %q: use %s, %s, %s or %s", c.Engine, VLLM, TEI, Triton, Ollama)
	case !slices.Contains(kinds, c.Kind):
		return fmt.Errorf("kind %q: engine %s offers %s", c.Kind, c.Engine, strings.Join(kinds, ", "))
	case !modelPattern.MatchString(c.Model):
		return fmt.Errorf("model %q: name it as the server does", c.Model)
	case c.Digest != "" && !digestPattern.MatchString(c.Digest):
		return fmt.Errorf("digest %q: use 64 lower-case hexadecimal digits", c.Digest)
	case c.Revision != "" && !modelPattern.MatchString(c.Revision):
		return fmt.Errorf("revision %q: name a commit or a release", c.Revision)
	case c.Digest == "" && c.Revision == "":
		return fmt.Errorf("revision: say which version of %s the server runs; it becomes part of the model's digest", c.Model)
	case c.Kind == KindEmbed && (c.Dim < 1 || c.Dim > maxDim):
		return fmt.Errorf("dim %d: say how many numbers a vector has, up to %d", c.Dim, maxDim)
	case len(c.QueryPrefix)+len(c.PassagePrefix) > 0 && c.Kind != KindEmbed || len(c.QueryPrefix) > 1000 || len(c.PassagePrefix) > 1000:
		return fmt.Errorf("query_prefix, passage_prefix: up to 1000 bytes, for kind %s", KindEmbed)
	case c.Context < 0 || c.Context > 1<<24:
		return fmt.Errorf("context %d: use up to %d", c.Context, 1<<24)
	case c.Timeout < 0 || c.Timeout > maxTimeout:
		return fmt.Errorf("timeout %s: use up to %s", c.Timeout, maxTimeout)
	case c.Batch < 0 || c.Batch > 1024 || c.AtOnce < 0 || c.AtOnce > 1024:
		return fmt.Errorf("batch %d, at_once %d: use up to 1024", c.Batch, c.AtOnce)
	case !c.Key.Visible():
		return fmt.Errorf("key: it holds spaces or other characters that no key has; is there a line break at its end?")
	}
	_, err := c.base()
	return err
}

// base is the server's address without a path at its end.
func (c Config) base() (string, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", fmt.Errorf("url %q: use https://host[:port][/path]", c.URL)
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", fmt.Errorf("url %q: no user, query or fragment; a key belongs in key", u.Redacted())
	}
	if u.Scheme == "http" && !c.NoTLS && !outward.Loopback(u.Hostname()) {
		return "", fmt.Errorf("url %q: texts would travel in clear over the network; use https, or allow it with unsafe_plain_http", u.Redacted())
	}
	return strings.TrimSuffix(strings.TrimSuffix(u.String(), "/"), "/v1"), nil
}

// Identity is the digest of the model: the stated one, else SHA-256 over what was stated. The address is not part of
// it: the same model may move. The engine is: two of them round differently.
func (c Config) Identity() string {
	if c.Digest != "" && c.QueryPrefix+c.PassagePrefix == "" {
		return c.Digest
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "aran upstream 1\n%s\n%s\n%s\n%s\n%d\n%q\n%q\n", c.Engine, c.Model, c.Revision, c.Digest, c.Dim, c.QueryPrefix, c.PassagePrefix))
	return hex.EncodeToString(sum[:])
}

// Engine is a model on a server. Safe for concurrent use.
type Engine struct {
	cfg     Config
	base    string
	http    *http.Client
	chat    *llm.OpenAIClient // kind generate
	breaker *breaker.Breaker
	log     *slog.Logger

	mu      sync.Mutex // guards what follows
	checked time.Time  // when the server's identity was right last
}

// checkEvery is how long a server's identity is believed. Where its answers name the model, each of them is checked
// as well.
const checkEvery = 10 * time.Second

// New makes an engine. Nothing is sent.
func New(cfg Config, log *slog.Logger) (*Engine, error) {
	if err := cfg.Check(); err != nil {
		return nil, fmt.Errorf("upstream %q: %w", cfg.Name, err)
	}
	base, err := cfg.base()
	if err != nil {
		return nil, fmt.Errorf("upstream %q: %w", cfg.Name, err)
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = defaultTimeout
	}
	if cfg.Batch == 0 {
		cfg.Batch = defaultBatch
	}
	if cfg.AtOnce == 0 {
		cfg.AtOnce = defaultAtOnce
	}
	e := &Engine{cfg: cfg, base: base, http: newClient(cfg), breaker: breaker.New("model "+cfg.Name, breaker.Config{}, log), log: log}
	if cfg.Kind == KindGenerate {
		limits := llm.DefaultLimits()
		limits.FirstByte, limits.Idle, limits.Retries = cfg.Timeout, cfg.Timeout, 0
		e.chat, err = llm.NewOpenAI(llm.Options{Name: cfg.Name, BaseURL: base + "/v1", Key: cfg.Key, Limits: limits, InsecurePlainHTTP: cfg.NoTLS})
		if err != nil {
			return nil, fmt.Errorf("upstream %q: %w", cfg.Name, err)
		}
	}
	return e, nil
}

// Config is what the engine was made of, with the defaults.
func (e *Engine) Config() Config { return e.cfg }

// Close drops idle connections.
func (e *Engine) Close() {
	e.http.CloseIdleConnections()
	if e.chat != nil {
		e.chat.Close()
	}
}

// guarded runs one exchange with the server: not while the breaker is open, and not with another model than the
// settings name.
func (e *Engine) guarded(ctx context.Context, exchange func(ctx context.Context) error) error {
	return e.breaker.Do(ctx, func(ctx context.Context) error {
		if err := e.identify(ctx); err != nil {
			return err
		}
		return exchange(ctx)
	})
}

// Check asks the server what it runs. It returns nil, or the fault that a call would get.
func (e *Engine) Check(ctx context.Context) error {
	return e.breaker.Do(ctx, func(ctx context.Context) error {
		e.doubt()
		return e.identify(ctx)
	})
}

// doubt makes the next call ask again.
func (e *Engine) doubt() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.checked = time.Time{}
}

func (e *Engine) identify(ctx context.Context) error {
	e.mu.Lock()
	fresh := !e.checked.IsZero() && time.Since(e.checked) < checkEvery
	e.mu.Unlock()
	if fresh {
		return nil
	}
	began := time.Now()
	if err := e.identity(ctx); err != nil {
		e.doubt()
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.checked = began
	return nil
}
