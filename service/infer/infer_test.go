package infer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	inferv1 "aran/api/gen/aran/infer/v1"
	"aran/api/gen/aran/infer/v1/inferv1connect"
	"aran/platform/auth"
	"aran/platform/fault"
	"aran/platform/rpc"
	"aran/platform/rpc/rpctest"
	"aran/platform/store"
	"aran/platform/watch"
	"aran/service/infer/child/childtest"
	"aran/service/infer/minilm"
)

// The test binary is the engine of the local models.
func TestMain(m *testing.M) {
	childtest.Main()
	m.Run()
}

// world is a service with its database and somebody who calls it.
type world struct {
	t         *testing.T
	s         *Service
	db        *store.DB
	cfg       Config
	authority *rpctest.Authority
	health    *watch.Health
}

// fake encodes a text as its length.
func fake(_ context.Context, texts []string) ([]minilm.Embedding, error) {
	out := make([]minilm.Embedding, len(texts))
	for i, t := range texts {
		out[i] = minilm.Embedding{Vector: []float32{float32(len(t))}, Tokens: len(t)}
	}
	return out, nil
}

func database(t *testing.T) *store.DB {
	t.Helper()
	migrations := os.DirFS("migrations")
	db, err := store.Open(t.Context(), store.Options{Service: "infer", Path: filepath.Join(t.TempDir(), "infer.db"), Migrations: migrations, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// settings know the model `tiny`, which is not installed yet.
func settings(t *testing.T) Config {
	t.Helper()
	const weights = childtest.Good
	dir := t.TempDir()
	gguf, so := []byte("GGUF\x03\x00\x00\x00"+strings.Repeat("\x00", 16)+weights), []byte("\x7fELF")
	c := Default()
	c.ModelsDir, c.ManifestsDir, c.FilesDir = filepath.Join(dir, "models"), filepath.Join(dir, "manifests"), filepath.Join(dir, "files")
	c.Sources, c.Engine, c.Nice, c.Preload = []string{"file"}, os.Args[0], 0, false
	manifest := fmt.Sprintf(`{"name":"tiny","version":"1","title":"Tiny","kind":"generate","engine":"llama.cpp","licence":"MIT","context":64,
		"defaults":{"temperature":0.5,"max_tokens":100},"weights":%q,"libraries":"lib","files":[
		{"path":%[1]q,"size":%d,"sha256":%q},{"path":"lib/a.so","size":%d,"sha256":%q}]}`, weights, len(gguf), sum(gguf), len(so), sum(so))
	for name, b := range map[string][]byte{"manifests/tiny.json": []byte(manifest), "files/" + weights: gguf, "files/a.so": so} {
		name = filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, b, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func (w *world) pull() {
	w.t.Helper()
	reg, err := w.cfg.Registry()
	if err == nil {
		err = reg.Pull(w.t.Context(), "tiny", nil)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func newWorld(t *testing.T, cfg Config, db *store.DB, encode func(context.Context, []string) ([]minilm.Embedding, error)) *world {
	t.Helper()
	w := &world{t: t, db: db, cfg: cfg, authority: rpctest.NewAuthority(t), health: &watch.Health{}}
	s, err := build(cfg, Deps{DB: db, Server: w.authority.Server("infer", "chat"), Log: slog.New(slog.DiscardHandler), Health: w.health}, encode, "encoder-digest")
	if err != nil {
		t.Fatal(err)
	}
	w.s = s
	s.firstLook, s.watchEach = 10*time.Millisecond, 100*time.Millisecond
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.stop)
	return w
}

// stop ends the service; it may be called twice.
func (w *world) stop() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.t.Context()), 5*time.Second)
	defer cancel()
	begin := time.Now()
	if err := w.s.Stop(ctx); err != nil {
		w.t.Errorf("stop: %v", err)
	}
	if took := time.Since(begin); took > 4*time.Second {
		w.t.Errorf("stop took %v", took)
	}
}

func identity() auth.Identity {
	return auth.Identity{Tenant: "t1", Subject: "user:1", Scopes: []string{auth.ScopeModels}}
}

// client calls the Internal handler as a service.
func (w *world) client(caller string) inferv1connect.InferServiceClient {
	h := &http.Client{Transport: rpc.InProcess(caller, w.s.Internal())}
	return inferv1connect.NewInferServiceClient(h, "http://infer", rpc.ClientOptions("infer", w.authority.Source(caller, identity()))...)
}

// generate asks over the contract and returns the text and the last message.
func (w *world) generate(ctx context.Context, text string, change func(*inferv1.GenerateRequest)) (string, *inferv1.GenerateResponse, error) {
	r := &inferv1.GenerateRequest{Model: "tiny", Messages: []*inferv1.Message{{Role: "user", Content: text}}}
	if change != nil {
		change(r)
	}
	stream, err := w.client("chat").Generate(ctx, r)
	if err != nil {
		return "", nil, err
	}
	defer stream.Close() //nolint:errcheck // what counts is in Err
	var all strings.Builder
	var last *inferv1.GenerateResponse
	for stream.Receive() {
		last = stream.Msg()
		all.WriteString(last.GetText())
	}
	return all.String(), last, stream.Err()
}

func (w *world) events() (out []ModelEvent) {
	w.t.Helper()
	pending, err := w.db.Pending(w.t.Context(), 100)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, p := range pending {
		var e struct {
			Tenant  string `json:"arantenant"`
			Subject string
			Data    ModelEvent
		}
		if err := json.Unmarshal(p.Payload, &e); err != nil || p.Type != ModelChanged || e.Subject != e.Data.Name || e.Tenant != "system" {
			w.t.Fatalf("%s %s: %v", p.Type, p.Payload, err)
		}
		out = append(out, e.Data)
	}
	return out
}

func (w *world) status(name string) string {
	w.t.Helper()
	m, err := w.s.Model(w.t.Context(), name)
	if err != nil {
		w.t.Fatal(err)
	}
	return m.Status
}

func waitFor(t *testing.T, what string, there func() bool) {
	t.Helper()
	waitLong(t, 20*time.Second, 5*time.Millisecond, what, there)
}

func waitLong(t *testing.T, most, each time.Duration, what string, there func() bool) {
	t.Helper()
	tick := time.NewTicker(each)
	defer tick.Stop()
	end := time.After(most)
	for !there() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("waited too long for %s", what)
		}
	}
}

func TestEmbed(t *testing.T) {
	w := newWorld(t, settings(t), database(t), fake)
	texts := make([]string, 200)
	for i := range texts {
		texts[i] = strings.Repeat("a", i+1)
	}
	for _, model := range []string{"", "default", "all-minilm-l6-v2"} {
		r, err := w.client("chat").Embed(t.Context(), &inferv1.EmbedRequest{Model: model, Texts: texts})
		if err != nil {
			t.Fatal(err)
		}
		if r.GetModel() != "all-minilm-l6-v2" || r.GetDigest() != "encoder-digest" || r.GetDim() != minilm.Dim || len(r.GetVectors()) != len(texts) {
			t.Errorf("%q: %s %s %d, %d vectors", model, r.GetModel(), r.GetDigest(), r.GetDim(), len(r.GetVectors()))
		}
		for i, v := range r.GetVectors() {
			if v.GetValues()[0] != float32(i+1) {
				t.Fatalf("vector %d is of another text", i)
			}
		}
	}
}

func TestBuiltInEncoder(t *testing.T) {
	e, err := minilm.Load()
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, settings(t), database(t), e.Encode)
	got, err := w.s.Embed(t.Context(), EmbedCall{Texts: []string{"The audit log holds every decision."}})
	if err != nil || len(got.Vectors) != 1 || len(got.Vectors[0].Vector) != minilm.Dim {
		t.Errorf("%d vectors, %v", len(got.Vectors), err)
	}
}

func TestUnknownAndUnfitModels(t *testing.T) {
	w := newWorld(t, settings(t), database(t), fake)
	_, err := w.client("chat").Embed(t.Context(), &inferv1.EmbedRequest{Model: "gpt-9", Texts: []string{"a"}})
	if f := fault.From(err); f == nil || f.Kind != fault.Missing || f.Code != "model_not_found" || !strings.Contains(f.Detail, "all-minilm-l6-v2") {
		t.Errorf("unknown: %v", err)
	}
	_, err = w.client("chat").Embed(t.Context(), &inferv1.EmbedRequest{Model: "tiny", Texts: []string{"a"}})
	if f := fault.From(err); f == nil || f.Code != "model_wrong_kind" {
		t.Errorf("a language model for embeddings: %v", err)
	}
	if _, _, err := w.generate(t.Context(), "a", func(r *inferv1.GenerateRequest) { r.Model = "all-minilm-l6-v2" }); fault.From(err) == nil || fault.From(err).Code != "model_wrong_kind" {
		t.Errorf("an encoder for an answer: %v", err)
	}
}

func TestRequestsThatBreakARule(t *testing.T) {
	w := newWorld(t, settings(t), database(t), fake)
	if _, err := w.client("chat").Embed(t.Context(), &inferv1.EmbedRequest{}); fault.KindOf(err) != fault.Invalid {
		t.Errorf("no texts: %v", err)
	}
	_, _, err := w.generate(t.Context(), "a", func(r *inferv1.GenerateRequest) { r.Messages[0].Role = "root" })
	if fault.KindOf(err) != fault.Invalid {
		t.Errorf("unknown role: %v", err)
	}
}

func TestOnlyListedServicesMayCall(t *testing.T) {
	w := newWorld(t, settings(t), database(t), fake)
	for _, caller := range []string{"gateway", "audit"} {
		if _, err := w.client(caller).ListModels(t.Context(), &inferv1.ListModelsRequest{}); err == nil {
			t.Errorf("%q was let in", caller)
		}
	}
}

func TestOverloadIsShed(t *testing.T) {
	entered, finish := make(chan struct{}, 8), make(chan struct{})
	cfg := settings(t)
	cfg.EmbedAtOnce, cfg.EmbedQueue = 1, 1
	w := newWorld(t, cfg, database(t), func(ctx context.Context, texts []string) ([]minilm.Embedding, error) {
		entered <- struct{}{}
		<-finish
		return fake(ctx, texts)
	})
	results := make(chan error, 2)
	for range 2 {
		go func() {
			_, err := w.s.Embed(context.WithoutCancel(t.Context()), EmbedCall{Texts: []string{"a"}})
			results <- err
		}()
	}
	<-entered
	waitFor(t, "one that waits", func() bool { return w.s.lookup("all-minilm-l6-v2").current().embeds.Present() == 2 })
	_, err := w.client("chat").Embed(t.Context(), &inferv1.EmbedRequest{Texts: []string{"a"}})
	if f := fault.From(err); f == nil || f.Kind != fault.Exhausted || f.RetryAfter <= 0 {
		t.Errorf("one more than fits: %v; want Exhausted with RetryAfter", err)
	}
	close(finish)
	for range 2 {
		if err := <-results; err != nil {
			t.Errorf("one that fits: %v", err)
		}
	}
	if _, err := w.s.Embed(t.Context(), EmbedCall{Texts: []string{"a"}}); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestLongRequestLetsAShortOneThrough(t *testing.T) {
	cfg := settings(t)
	cfg.EmbedAtOnce = 1
	var mu sync.Mutex
	var order []string
	started, short := make(chan struct{}), make(chan error, 1)
	var once sync.Once
	w := newWorld(t, cfg, database(t), func(ctx context.Context, texts []string) ([]minilm.Embedding, error) {
		mu.Lock()
		order = append(order, strings.Join(texts, " "))
		mu.Unlock()
		return fake(ctx, texts)
	})
	inner := w.s.encode
	w.s.encode = func(ctx context.Context, texts []string) ([]minilm.Embedding, error) {
		if texts[0] == "long" {
			once.Do(func() {
				close(started)
				waitFor(t, "the short one to wait", func() bool { return w.s.lookup("all-minilm-l6-v2").current().embeds.Present() == 2 })
			})
		}
		return inner(ctx, texts)
	}
	go func() {
		<-started
		_, err := w.s.Embed(context.WithoutCancel(t.Context()), EmbedCall{Texts: []string{"short"}})
		short <- err
	}()
	long := make([]string, 4*embedBatch/textCost(text{text: "long"}))
	for i := range long {
		long[i] = "long"
	}
	if _, err := w.s.Embed(t.Context(), EmbedCall{Texts: long}); err != nil {
		t.Fatal(err)
	}
	if err := <-short; err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	at := slices.IndexFunc(order, func(batch string) bool { return strings.Contains(batch, "short") })
	if len(order) < 4 || at != 1 {
		t.Errorf("the short request was in batch %d of %d", at, len(order))
	}
}

func TestEncoderThatFails(t *testing.T) {
	w := newWorld(t, settings(t), database(t), func(context.Context, []string) ([]minilm.Embedding, error) {
		return nil, errors.New("weights at 0xdead do not match")
	})
	w.health.Open()
	if ok, _ := w.health.Ready(t.Context()); !ok {
		t.Error("not ready before anything failed")
	}
	_, err := w.client("chat").Embed(t.Context(), &inferv1.EmbedRequest{Texts: []string{"a"}})
	if f := fault.From(err); f == nil || f.Kind != fault.Internal || strings.Contains(f.Detail, "0xdead") {
		t.Errorf("%v", err)
	}
	if ok, _ := w.health.Ready(t.Context()); ok || w.status("all-minilm-l6-v2") != Failed {
		t.Error("the failure is not to be seen from outside")
	}
}

func TestModelsOverREST(t *testing.T) {
	w := newWorld(t, settings(t), database(t), fake)
	id := identity()
	var list struct{ Models []modelBody }
	a := w.authority.Gateway(w.s.Public(), "infer", &id, "GET", "/api/v1/models", nil)
	a.JSON(t, &list)
	if a.Status != 200 || len(list.Models) != 6 || list.Models[0].Name != "all-minilm-l6-v2" || list.Models[0].Status != Ready || list.Models[0].Digest != "encoder-digest" {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	var one modelBody
	a = w.authority.Gateway(w.s.Public(), "infer", &id, "GET", "/api/v1/models/tiny", nil)
	a.JSON(t, &one)
	if a.Status != 200 || one.Status != Missing || one.Context != 64 || len(one.Digest) != 64 || one.Licence != "MIT" {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	a = w.authority.Gateway(w.s.Public(), "infer", &id, "GET", "/api/v1/models/gpt-9", nil)
	if a.Status != 404 || !strings.Contains(string(a.Body), "model_not_found") || !strings.Contains(string(a.Body), "smollm2-135m-instruct") {
		t.Errorf("unknown: %d %s", a.Status, a.Body)
	}
	id.Scopes = []string{auth.ScopeChat}
	for _, path := range []string{"/api/v1/models", "/api/v1/models/tiny"} {
		if a := w.authority.Gateway(w.s.Public(), "infer", &id, "GET", path, nil); a.Status != 403 {
			t.Errorf("%s without the scope: %d", path, a.Status)
		}
		if a := w.authority.Gateway(w.s.Public(), "infer", nil, "GET", path, nil); a.Status != 401 {
			t.Errorf("%s without an identity: %d", path, a.Status)
		}
	}
}

func TestConfig(t *testing.T) {
	if err := Default().Check(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	for key, change := range map[string]func(*Config){
		"infer.sources":        func(c *Config) { c.Sources = []string{"ftp"} },
		"infer.threads":        func(c *Config) { c.Threads = -1 },
		"infer.memory_mb":      func(c *Config) { c.MemoryMB = 1 },
		"infer.nice":           func(c *Config) { c.Nice = -5 },
		"infer.max_tokens":     func(c *Config) { c.MaxTokens = 0 },
		"infer.generate_queue": func(c *Config) { c.GenerateQueue = -1 },
		"infer.stall_timeout":  func(c *Config) { c.Stall = 0 },
		"infer.embed_wait":     func(c *Config) { c.EmbedWait = 0 },
	} {
		c := Default()
		change(&c)
		if err := c.Check(); err == nil || !strings.HasPrefix(err.Error(), key+" ") || !strings.Contains(err.Error(), "use ") {
			t.Errorf("%s: %v", key, err)
		}
	}
	c := Default()
	c.ManifestsDir = "/nowhere"
	if _, err := c.Registry(); err == nil || !strings.Contains(err.Error(), "infer.manifests_dir") {
		t.Errorf("%v", err)
	}
}

func readAll(t *testing.T, answer string) (string, Finish, error) {
	t.Helper()
	var text strings.Builder
	f, err := readAnswer(strings.NewReader(answer), func(s string) error {
		text.WriteString(s)
		return nil
	})
	return text.String(), f, err
}

func TestReadAnswer(t *testing.T) {
	good := "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"},\"finish_reason\":null}]}\n\ndata: {\"choices\":[{\"delta\":{},\"finish_reason\":\"length\"}]}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1}}\n\ndata: [DONE]\n\n"
	if text, f, err := readAll(t, good); err != nil || text != "Hi" || f != (Finish{Reason: "length", Prompt: 3, Completion: 1}) {
		t.Errorf("%q %+v %v", text, f, err)
	}
	for name, bad := range map[string]string{
		"nothing":              "",
		"cut off":              good[:60],
		"no reason":            "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\ndata: [DONE]\n\n",
		"an error in between":  "data: {\"error\":{\"message\":\"x\"}}\n\n" + good,
		"something else":       "data: hello\n\n",
		"an event that swells": "data: " + strings.Repeat("a", maxChunk+1) + "\n\n",
	} {
		if _, _, err := readAll(t, bad); err == nil {
			t.Errorf("%s was taken for an answer", name)
		}
	}
	failing := errors.New("caller left")
	if _, err := readAnswer(strings.NewReader(good), func(string) error { return failing }); !errors.Is(err, failing) {
		t.Errorf("%v", err)
	}
}

// FuzzReadAnswer: what a model process sends never makes more text than it may, and never a reason of its own.
func FuzzReadAnswer(f *testing.F) {
	f.Add([]byte("data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"},\"finish_reason\":\"stop\"}]}\n\n"))
	f.Add([]byte("data: {\"usage\":{\"prompt_tokens\":-1}}\n\ndata: [DONE]\n\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		n := 0
		got, err := readAnswer(strings.NewReader(string(b)), func(s string) error {
			n += len(s)
			return nil
		})
		if n > maxAnswer || err == nil && (got.Reason != "stop" && got.Reason != "length" || got.Prompt < 0 || got.Completion < 0) {
			t.Errorf("%d bytes, %+v, %v", n, got, err)
		}
	})
}
