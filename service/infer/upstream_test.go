package infer

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	inferv1 "aran/api/gen/aran/infer/v1"
	"aran/platform/fault"
	"aran/service/infer/upstream"
)

// gpu is a server of others: TEI for vectors, vLLM for answers. What it runs can be changed.
type gpu struct {
	*httptest.Server
	model atomic.Value // string
	asked atomic.Value // the last texts
	hold  chan struct{}
	ended chan struct{}
}

func newGPU(t *testing.T) *gpu {
	g := &gpu{hold: make(chan struct{}), ended: make(chan struct{}, 10)}
	g.model.Store("some/model")
	mux := http.NewServeMux()
	mux.HandleFunc("GET /info", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, `{"model_id":%q,"model_sha":"r1"}`, g.model.Load())
	})
	mux.HandleFunc("POST /embed", func(w http.ResponseWriter, r *http.Request) {
		var q struct{ Inputs []string }
		if json.NewDecoder(r.Body).Decode(&q) != nil {
			return
		}
		g.asked.Store(strings.Join(q.Inputs, "|"))
		vectors := make([][]float64, len(q.Inputs))
		for i, s := range q.Inputs {
			vectors[i] = []float64{3 * float64(len(s)), 4 * float64(len(s))}
		}
		w.Header().Set("X-Compute-Tokens", "10")
		_ = json.NewEncoder(w).Encode(vectors)
	})
	mux.HandleFunc("POST /rerank", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `[{"index":1,"score":0.9},{"index":0,"score":0.1}]`)
	})
	mux.HandleFunc("POST /predict", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `[[{"label":"good","score":0.9}]]`)
	})
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, `{"data":[{"id":%q}]}`, g.model.Load())
	})
	mux.HandleFunc("POST /v1/chat/completions", func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = fmt.Fprintf(w, "data: {\"model\":%q,\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello\"}}]}\n\n", g.model.Load())
		w.(http.Flusher).Flush() //nolint:forcetypeassert // of the test server
		if strings.Contains(string(b), "wait") {
			select {
			case <-r.Context().Done():
			case <-g.hold:
			}
			g.ended <- struct{}{}
			return
		}
		_, _ = fmt.Fprintf(w, "data: {\"model\":%q,\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1}}\n\ndata: [DONE]\n\n", g.model.Load())
	})
	g.Server = httptest.NewServer(mux)
	t.Cleanup(func() { close(g.hold); g.Close() })
	return g
}

func (g *gpu) settings(t *testing.T) Config {
	c := settings(t)
	one := func(name, kind, engine string) upstream.Config {
		return upstream.Config{Name: name, Kind: kind, Engine: engine, URL: g.URL, Model: "some/model", Revision: "r1", Licence: "MIT", Timeout: 10 * time.Second}
	}
	embed := one("gpu-embed", "embed", upstream.TEI)
	embed.Dim, embed.QueryPrefix, embed.PassagePrefix = 2, "query: ", "passage: "
	c.Upstreams = []upstream.Config{embed, one("gpu-rank", "rerank", upstream.TEI), one("gpu-class", "classify", upstream.TEI), one("gpu-chat", "generate", upstream.VLLM)}
	return c
}

func TestModelsOnServers(t *testing.T) {
	g := newGPU(t)
	w := newWorld(t, g.settings(t), database(t), fake)
	r, err := w.client("chat").Embed(t.Context(), &inferv1.EmbedRequest{Model: "gpu-embed", Texts: []string{"a", "bb"}})
	if err != nil {
		t.Fatal(err)
	}
	if v := r.GetVectors(); r.GetModel() != "gpu-embed" || r.GetVersion() != "r1" || len(r.GetDigest()) != 64 || r.GetDim() != 2 || len(v) != 2 || v[0].GetValues()[0] != 0.6 || v[1].GetValues()[1] != 0.8 || v[0].GetTokens()+v[1].GetTokens() != 10 {
		t.Errorf("%v", r)
	}
	if got := g.asked.Load(); got != "passage: a|passage: bb" {
		t.Errorf("asked for %q", got)
	}
	digest := r.GetDigest()
	if _, err := w.s.Embed(t.Context(), EmbedCall{Digest: digest, Texts: []string{"a"}, Query: true}); err != nil || g.asked.Load() != "query: a" {
		t.Errorf("by its digest: %v, %v", g.asked.Load(), err)
	}
	_, err = w.client("chat").Embed(t.Context(), &inferv1.EmbedRequest{Model: "gpu-embed", Digest: "encoder-digest", Texts: []string{"a"}})
	if f := fault.From(err); f == nil || f.Code != "digest_not_served" {
		t.Errorf("with another model's digest: %v", err)
	}
	if r, err := w.client("chat").Embed(t.Context(), &inferv1.EmbedRequest{Texts: []string{"a"}}); err != nil || r.GetModel() != "all-minilm-l6-v2" {
		t.Errorf("the default is %s (%v)", r.GetModel(), err)
	}

	text, last, err := w.generate(t.Context(), "Say hello.", func(r *inferv1.GenerateRequest) { r.Model = "gpu-chat" })
	if err != nil || text != "Hello" || last.GetFinishReason() != "stop" || last.GetPromptTokens() != 3 || last.GetCompletionTokens() != 1 || last.GetVersion() != "r1" || len(last.GetDigest()) != 64 {
		t.Errorf("%q, %v, %v", text, last, err)
	}
	if got, err := w.s.Rerank(t.Context(), "gpu-rank", "q", []string{"a", "b"}); err != nil || got.Scores[1] != 0.9 || got.Scores[0] != 0.1 || got.Model != "gpu-rank" || len(got.Digest) != 64 {
		t.Errorf("rerank: %v, %v", got, err)
	}
	if got, err := w.s.Classify(t.Context(), "gpu-class", []string{"a"}); err != nil || len(got.Texts) != 1 || got.Texts[0].Labels[0].Score != 0.9 || got.Model != "gpu-class" {
		t.Errorf("classify: %v, %v", got, err)
	}
	for model, kind := range map[string]string{"gpu-rank": "rerank", "gpu-chat": "generate"} {
		_, err := w.client("chat").Embed(t.Context(), &inferv1.EmbedRequest{Model: model, Texts: []string{"a"}})
		if f := fault.From(err); f == nil || f.Code != "model_wrong_kind" || !strings.Contains(f.Detail, "its kind is "+kind) {
			t.Errorf("%s for embeddings: %v", model, err)
		}
	}

	list, err := w.client("chat").ListModels(t.Context(), &inferv1.ListModelsRequest{})
	if err != nil || len(list.GetModels()) != 10 {
		t.Fatalf("%d models, %v", len(list.GetModels()), err)
	}
	waitFor(t, "the event", func() bool {
		return slices.Contains(w.events(), ModelEvent{Name: "gpu-embed", Version: "r1", Digest: digest, Status: Ready})
	})
	detail, err := w.s.detail(t.Context(), "gpu-embed")
	if err != nil || detail.Body.Title != "some/model on tei" || detail.Body.Status != Ready || detail.Body.Licence != "MIT" {
		t.Errorf("%+v, %v", detail, err)
	}
}

func TestServerThatRunsSomethingElse(t *testing.T) {
	g := newGPU(t)
	g.model.Store("evil/model")
	w := newWorld(t, g.settings(t), database(t), fake)
	_, err := w.client("chat").Embed(t.Context(), &inferv1.EmbedRequest{Model: "gpu-embed", Texts: []string{"a"}})
	if f := fault.From(err); f == nil || f.Kind != fault.Unavailable || f.Code != "upstream_wrong_model" {
		t.Errorf("vectors of another model: %v", err)
	}
	if text, _, err := w.generate(t.Context(), "a", func(r *inferv1.GenerateRequest) { r.Model = "gpu-chat" }); fault.From(err) == nil || fault.From(err).Code != "upstream_wrong_model" || text != "" {
		t.Errorf("an answer of another model: %q, %v", text, err)
	}
	if got := w.status("gpu-embed"); got != Failed {
		t.Errorf("status %q", got)
	}
	if g.asked.Load() != nil {
		t.Errorf("it was sent %v", g.asked.Load())
	}
	if _, err := w.s.Embed(t.Context(), EmbedCall{Texts: []string{"a"}}); err != nil {
		t.Errorf("the built-in encoder: %v", err)
	}
}

func TestDefaultOnAServer(t *testing.T) {
	g := newGPU(t)
	cfg := g.settings(t)
	cfg.Upstreams[0].Default, cfg.Upstreams[3].Default = true, true
	w := newWorld(t, cfg, database(t), fake)
	for _, model := range []string{"", "default"} {
		if r, err := w.s.Embed(t.Context(), EmbedCall{Model: model, Texts: []string{"a"}}); err != nil || r.Model != "gpu-embed" {
			t.Errorf("%q is %s, %v", model, r.Model, err)
		}
	}
	text, _, err := w.generate(t.Context(), "a", func(r *inferv1.GenerateRequest) { r.Model = "default" })
	if err != nil || text != "Hello" {
		t.Errorf("the default says %q, %v", text, err)
	}
	// What was made with another model is still compared with that model.
	if r, err := w.s.Embed(t.Context(), EmbedCall{Digest: "encoder-digest", Texts: []string{"a"}}); err != nil || r.Model != "all-minilm-l6-v2" {
		t.Errorf("by the encoder's digest: %s, %v", r.Model, err)
	}
}

func TestCallerWhoLeavesAServer(t *testing.T) {
	g := newGPU(t)
	w := newWorld(t, g.settings(t), database(t), fake)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := w.s.Generate(ctx, Prompt{Model: "gpu-chat", Messages: []Message{{Role: "user", Content: "wait"}}}, func(string) error {
		cancel()
		return nil
	})
	if err == nil {
		t.Error("an answer without an end")
	}
	select {
	case <-g.ended:
	case <-time.After(10 * time.Second):
		t.Error("the server's work went on")
	}
	if got := w.status("gpu-chat"); got != Ready {
		t.Errorf("a caller who left made it %s", got)
	}
}

func TestServersInSettings(t *testing.T) {
	g := newGPU(t)
	for name, change := range map[string]func(c *Config){
		"a name twice": func(c *Config) { c.Upstreams[1].Name = "gpu-embed" },
		"two defaults": func(c *Config) {
			c.Upstreams[0].Default = true
			c.Upstreams[1].Kind, c.Upstreams[1].Dim, c.Upstreams[1].Default = "embed", 2, true
		},
		"a name of ours":        func(c *Config) { c.Upstreams[0].Name = "all-minilm-l6-v2" },
		"a name of a manifest":  func(c *Config) { c.Upstreams[0].Name = "tiny" },
		"no dimension":          func(c *Config) { c.Upstreams[0].Dim = 0 },
		"in clear over the net": func(c *Config) { c.Upstreams[0].URL = "http://192.0.2.1:8080" },
	} {
		cfg := g.settings(t)
		change(&cfg)
		if _, err := build(cfg, Deps{Health: nil}, fake, "x"); err == nil || !strings.Contains(err.Error(), "infer.upstreams") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSpread(t *testing.T) {
	w := newWorld(t, newGPU(t).settings(t), database(t), fake)
	out, err := w.s.Embed(t.Context(), EmbedCall{Model: "gpu-embed", Texts: []string{"", "aaaa", "", "a"}})
	if err != nil {
		t.Fatal(err)
	}
	sum := 0
	for _, v := range out.Vectors {
		if v.Tokens < 0 {
			t.Errorf("%d tokens", v.Tokens)
		}
		sum += v.Tokens
	}
	if sum != 10 || out.Vectors[1].Tokens != 8 {
		t.Errorf("%+v", out.Vectors)
	}
}
