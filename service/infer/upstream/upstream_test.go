package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"aran/platform/breaker"
	"aran/platform/fault"
	"aran/platform/secret"
)

// server answers each path with what is set for it, and keeps what it was asked.
type server struct {
	t *testing.T
	*httptest.Server
	mu     sync.Mutex
	routes map[string]http.HandlerFunc
	asked  map[string][]json.RawMessage
	auth   string
}

func newServer(t *testing.T) *server {
	s := &server{t: t, routes: map[string]http.HandlerFunc{}, asked: map[string][]json.RawMessage{}}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	return s
}

func (s *server) serve(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	s.mu.Lock()
	h := s.routes[r.URL.Path]
	s.asked[r.URL.Path] = append(s.asked[r.URL.Path], b)
	s.auth = r.Header.Get("Authorization")
	s.mu.Unlock()
	if h == nil {
		http.NotFound(w, r)
		return
	}
	h(w, r)
}

func (s *server) on(path string, h http.HandlerFunc) *server {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.routes[path] = h
	return s
}

// file answers with a documented answer.
func (s *server) file(path, name string) *server {
	s.t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		s.t.Fatal(err)
	}
	return s.on(path, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", map[bool]string{true: "text/event-stream", false: "application/json"}[strings.HasSuffix(name, ".sse")])
		_, _ = w.Write(b)
	})
}

func (s *server) says(path string, status int, body string) *server {
	return s.on(path, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	})
}

func (s *server) last(path string) map[string]any {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	var m map[string]any
	if n := len(s.asked[path]); n == 0 || json.Unmarshal(s.asked[path][n-1], &m) != nil {
		s.t.Errorf("%s was asked %d times, last for %v", path, n, m)
	}
	return m
}

func (s *server) times(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked[path])
}

func (s *server) engine(c Config) *Engine {
	s.t.Helper()
	c.Name, c.URL = "gpu", s.URL
	e, err := New(c, slog.New(slog.DiscardHandler))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(e.Close)
	return e
}

func tei(kind string) Config {
	return Config{Kind: kind, Engine: TEI, Model: "thenlper/gte-base", Revision: "fca14538aa9956a46526bd1d0d11d69e19b5a101", Dim: 3}
}

func isCode(err error, kind fault.Kind, code string) bool {
	f := fault.From(err)
	return err != nil && f != nil && f.Kind == kind && f.Code == code
}

func near(a, b []float32) bool {
	return slices.EqualFunc(a, b, func(x, y float32) bool { return math.Abs(float64(x-y)) < 1e-6 })
}

func TestDocumentedEmbeddings(t *testing.T) {
	for _, c := range []struct {
		name   string
		s      func(s *server) *server
		cfg    Config
		texts  []string
		want   [][]float32
		tokens int
		path   string
		asked  string
	}{
		{
			"TEI", func(s *server) *server {
				s.file("/info", "tei-info.json").file("/embed", "tei-embed.json")
				embed := s.routes["/embed"]
				return s.on("/embed", func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("X-Compute-Tokens", "12")
					embed(w, r)
				})
			}, tei(KindEmbed),
			[]string{"a", "b"},
			[][]float32{{0, 0.4472136, 0.8944272}, {0, 0.4472136, 0.8944272}},
			12, "/embed", `{"inputs":["a","b"],"normalize":true,"truncate":true}`,
		},
		{
			"vLLM", func(s *server) *server {
				return s.says("/v1/models", 200, `{"object":"list","data":[{"id":"intfloat/e5-small"}]}`).file("/v1/embeddings", "vllm-embeddings.json")
			},
			Config{Kind: KindEmbed, Engine: VLLM, Model: "intfloat/e5-small", Revision: "1", Dim: 2},
			[]string{"a", "b"},
			[][]float32{{0.6, 0.8}, {0, -1}},
			8, "/v1/embeddings", `{"encoding_format":"float","input":["a","b"],"model":"intfloat/e5-small"}`,
		},
		{
			"Triton", func(s *server) *server {
				return s.says("/v1/models", 200, `{"object":"list","data":[{"id":"other"},{"id":"intfloat/e5-small"}]}`).file("/v1/embeddings", "vllm-embeddings.json")
			},
			Config{Kind: KindEmbed, Engine: Triton, Model: "intfloat/e5-small", Revision: "1", Dim: 2},
			[]string{"a", "b"},
			[][]float32{{0.6, 0.8}, {0, -1}},
			8, "/v1/embeddings", `{"encoding_format":"float","input":["a","b"],"model":"intfloat/e5-small"}`,
		},
		{
			"Ollama", func(s *server) *server {
				return s.file("/api/tags", "ollama-tags.json").file("/api/embed", "ollama-embed.json")
			},
			Config{Kind: KindEmbed, Engine: Ollama, Model: "all-minilm", Digest: "1b226e2802dbb772b5fc32a58f103ca1804ef7501331012de126ab22f67475ef", Dim: 10},
			[]string{"a"},
			nil, 8, "/api/embed", `{"input":["a"],"model":"all-minilm","truncate":true}`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newServer(t)
			e := c.s(s).engine(c.cfg)
			got, err := e.Embed(t.Context(), c.texts)
			if err != nil {
				t.Fatal(err)
			}
			if len(got.Vectors) != len(c.texts) || got.Tokens != c.tokens {
				t.Fatalf("%+v", got)
			}
			for i, v := range got.Vectors {
				var square float64
				for _, x := range v {
					square += float64(x) * float64(x)
				}
				if math.Abs(square-1) > 1e-5 || c.want != nil && !near(v, c.want[i]) {
					t.Errorf("vector %d: %v, want %v", i, v, c.want)
				}
			}
			if b, err := json.Marshal(s.last(c.path)); err != nil || string(b) != c.asked {
				t.Errorf("asked %s, want %s", b, c.asked)
			}
		})
	}
}

func TestDocumentedRerank(t *testing.T) {
	s := newServer(t).file("/info", "tei-info.json").file("/rerank", "tei-rerank.json")
	got, err := s.engine(tei(KindRerank)).Rerank(t.Context(), "q", []string{"a", "b"})
	if err != nil || !slices.Equal(got, []float64{0.022949383, 0.9987814}) {
		t.Errorf("TEI: %v, %v", got, err)
	}
	if q := s.last("/rerank"); q["query"] != "q" || fmt.Sprint(q["texts"]) != "[a b]" {
		t.Errorf("TEI was asked %v", q)
	}
	s = newServer(t).file("/v1/models", "vllm-models.json").file("/v1/rerank", "vllm-rerank.json")
	e := s.engine(Config{Kind: KindRerank, Engine: VLLM, Model: "BAAI/bge-reranker-base", Revision: "1"})
	got, err = e.Rerank(t.Context(), "What is the capital of France?", []string{"Brazil", "France", "cows"})
	if err != nil || !slices.Equal(got, []float64{0.0005860328674316406, 0.99853515625, 0.0001}) {
		t.Errorf("vLLM: %v, %v", got, err)
	}
	if q := s.last("/v1/rerank"); q["top_n"] != 3.0 || q["model"] != "BAAI/bge-reranker-base" {
		t.Errorf("vLLM was asked %v", q)
	}
}

func TestDocumentedClassify(t *testing.T) {
	s := newServer(t).file("/info", "tei-info.json").file("/predict", "tei-predict.json")
	got, err := s.engine(tei(KindClassify)).Classify(t.Context(), []string{"a", "b"})
	if err != nil || len(got) != 2 || got[0][0] != (Label{"admiration", 0.5}) {
		t.Errorf("TEI: %v, %v", got, err)
	}
	s = newServer(t).says("/v1/models", 200, `{"data":[{"id":"jason9693/Qwen2.5-1.5B-apeach"}]}`).file("/classify", "vllm-classify.json")
	got, err = s.engine(Config{Kind: KindClassify, Engine: VLLM, Model: "jason9693/Qwen2.5-1.5B-apeach", Revision: "1"}).Classify(t.Context(), []string{"a", "b"})
	if err != nil || len(got) != 2 || got[1][0] != (Label{"Spoiled", 0.7355121970176697}) {
		t.Errorf("vLLM: %v, %v", got, err)
	}
}

func TestDocumentedAnswers(t *testing.T) {
	for _, c := range []struct {
		engine, model, file, text string
		want                      Finish
	}{
		{VLLM, "meta-llama/Llama-3.1-8B-Instruct", "vllm-chat.sse", "Hello", Finish{"length", 9, 1}},
		{Triton, "llama-3.1-8b-instruct", "triton-chat.sse", "This is only a test.", Finish{"stop", 42, 7}},
		{Ollama, "llama-3.1-8b-instruct", "triton-chat.sse", "This is only a test.", Finish{"stop", 42, 7}},
	} {
		s := newServer(t).says("/v1/models", 200, fmt.Sprintf(`{"data":[{"id":%q}]}`, c.model)).
			says("/api/tags", 200, fmt.Sprintf(`{"models":[{"name":%q,"digest":"1"}]}`, c.model)).file("/v1/chat/completions", c.file)
		e := s.engine(Config{Kind: KindGenerate, Engine: c.engine, Model: c.model, Revision: "1", Key: secret.New("k")})
		var text strings.Builder
		temperature := 0.5
		got, err := e.Generate(t.Context(), Prompt{Messages: []Message{{"user", "Say this is a test!"}}, MaxTokens: 9, Temperature: &temperature, Stop: []string{"X"}}, func(s string) error {
			text.WriteString(s)
			return nil
		})
		if err != nil || got != c.want || text.String() != c.text {
			t.Errorf("%s: %q, %+v, %v", c.engine, text.String(), got, err)
		}
		if q := s.last("/v1/chat/completions"); q["model"] != c.model || q["max_tokens"] != 9.0 || q["temperature"] != 0.5 || q["stream"] != true || fmt.Sprint(q["stop"]) != "[X]" {
			t.Errorf("%s was asked %v", c.engine, q)
		}
		if s.auth != "Bearer k" {
			t.Errorf("%s: authorization %q", c.engine, s.auth)
		}
	}
}

func TestServerWithAnotherModel(t *testing.T) {
	models := func(id string) string { return fmt.Sprintf(`{"data":[{"id":%q}]}`, id) }
	vllm := Config{Kind: KindEmbed, Engine: VLLM, Model: "e5", Revision: "1", Dim: 2}
	reply := func(model string, vector string) string {
		return fmt.Sprintf(`{"model":%q,"data":[{"index":0,"embedding":%s}]}`, model, vector)
	}
	for name, c := range map[string]struct {
		s   func(s *server) *server
		cfg Config
	}{
		"TEI, another model": {func(s *server) *server {
			return s.says("/info", 200, `{"model_id":"thenlper/gte-large","model_sha":"fca14538aa9956a46526bd1d0d11d69e19b5a101"}`).file("/embed", "tei-embed.json")
		}, tei(KindEmbed)},
		"TEI, another revision": {func(s *server) *server {
			return s.says("/info", 200, `{"model_id":"thenlper/gte-base","model_sha":"0000000000000000000000000000000000000000"}`).file("/embed", "tei-embed.json")
		}, tei(KindEmbed)},
		"vLLM, another list": {func(s *server) *server {
			return s.says("/v1/models", 200, models("e6")).says("/v1/embeddings", 200, reply("e5", "[0,1]"))
		}, vllm},
		"vLLM, an empty list": {func(s *server) *server {
			return s.says("/v1/models", 200, `{"data":[]}`).says("/v1/embeddings", 200, reply("e5", "[0,1]"))
		}, vllm},
		"vLLM, an answer of another": {func(s *server) *server {
			return s.says("/v1/models", 200, models("e5")).says("/v1/embeddings", 200, reply("e6", "[0,1]"))
		}, vllm},
		"vLLM, another dimension": {func(s *server) *server {
			return s.says("/v1/models", 200, models("e5")).says("/v1/embeddings", 200, reply("e5", "[0,1,0]"))
		}, vllm},
		"Ollama, another digest": {func(s *server) *server {
			return s.file("/api/tags", "ollama-tags.json").file("/api/embed", "ollama-embed.json")
		}, Config{Kind: KindEmbed, Engine: Ollama, Model: "all-minilm", Digest: strings.Repeat("0", 64), Dim: 10}},
		"Ollama, not there": {func(s *server) *server {
			return s.file("/api/tags", "ollama-tags.json").file("/api/embed", "ollama-embed.json")
		}, Config{Kind: KindEmbed, Engine: Ollama, Model: "bge-m3", Revision: "1", Dim: 10}},
	} {
		e := c.s(newServer(t)).engine(c.cfg)
		if _, err := e.Embed(t.Context(), []string{"a"}); !isCode(err, fault.Unavailable, codeWrongModel) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestServerThatChangesItsModelLater(t *testing.T) {
	s := newServer(t).file("/info", "tei-info.json").says("/embed", 200, `[[0,1,0]]`)
	e := s.engine(tei(KindEmbed))
	for range 3 {
		if _, err := e.Embed(t.Context(), []string{"a"}); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.times("/info"); n != 1 {
		t.Errorf("the identity was asked for %d times in a moment, want once", n)
	}
	s.says("/info", 200, `{"model_id":"evil/model","model_sha":""}`)
	e.mu.Lock()
	e.checked = time.Now().Add(-2 * checkEvery)
	e.mu.Unlock()
	if _, err := e.Embed(t.Context(), []string{"a"}); !isCode(err, fault.Unavailable, codeWrongModel) {
		t.Errorf("after a change: %v", err)
	}
	if err := e.Check(t.Context()); !isCode(err, fault.Unavailable, codeWrongModel) {
		t.Errorf("check: %v", err)
	}
}

func TestAnswersThatAreNone(t *testing.T) {
	for name, body := range map[string]string{
		"no JSON": "<html>", "another shape": `{"a":1}`, "too few": `[[0,1,0]]`, "too many": `[[0,1,0],[0,1,0],[0,1,0]]`,
		"zeros": `[[0,0,0],[0,1,0]]`, "no number": `[["a",1,0],[0,1,0]]`, "too large a number": `[[1e39,1,0],[0,1,0]]`, "empty": "",
	} {
		e := newServer(t).file("/info", "tei-info.json").says("/embed", 200, body).engine(tei(KindEmbed))
		if got, err := e.Embed(t.Context(), []string{"a", "b"}); !isCode(err, fault.Unavailable, codeNonsense) || got.Vectors != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	for name, body := range map[string]string{"twice": `[{"index":0,"score":1},{"index":0,"score":1}]`, "out of range": `[{"index":0,"score":1},{"index":2,"score":1}]`, "missing": `[{"index":0,"score":1}]`, "negative": `[{"index":-1,"score":1},{"index":0,"score":1}]`, "without": `[{"index":0},{"index":1}]`} {
		e := newServer(t).file("/info", "tei-info.json").says("/rerank", 200, body).engine(tei(KindRerank))
		if got, err := e.Rerank(t.Context(), "q", []string{"a", "b"}); !isCode(err, fault.Unavailable, codeNonsense) {
			t.Errorf("rerank, %s: %v, %v", name, got, err)
		}
	}
	for name, body := range map[string]string{"no label": `[[],[{"label":"a","score":1}]]`, "more than certain": `[[{"label":"a","score":2}],[{"label":"a","score":1}]]`, "too few": `[[{"label":"a","score":1}]]`} {
		e := newServer(t).file("/info", "tei-info.json").says("/predict", 200, body).engine(tei(KindClassify))
		if got, err := e.Classify(t.Context(), []string{"a", "b"}); !isCode(err, fault.Unavailable, codeNonsense) {
			t.Errorf("classify, %s: %v, %v", name, got, err)
		}
	}
}

func TestAnswerWithoutAnEnd(t *testing.T) {
	e := newServer(t).file("/info", "tei-info.json").on("/embed", func(w http.ResponseWriter, _ *http.Request) {
		block := make([]byte, 1<<20)
		for i := range block {
			block[i] = ' '
		}
		for range 1 << 20 { // a terabyte
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	}).engine(tei(KindEmbed))
	if _, err := e.Embed(t.Context(), []string{"a"}); !isCode(err, fault.Unavailable, codeNonsense) {
		t.Errorf("%v", err)
	}
}

func TestErrorsOfServers(t *testing.T) {
	const secretText = "my secret text"
	for _, c := range []struct {
		status int
		kind   fault.Kind
		code   string
	}{
		{400, fault.Invalid, "texts_refused"},
		{401, fault.Unavailable, codeCredentials},
		{403, fault.Unavailable, codeCredentials},
		{404, fault.Unavailable, codeWrongModel},
		{413, fault.TooLarge, "texts_too_large"},
		{422, fault.Invalid, "texts_refused"},
		{424, fault.Unavailable, codeBusy},
		{429, fault.Exhausted, codeBusy},
		{500, fault.Unavailable, codeBusy},
		{503, fault.Unavailable, codeBusy},
		{302, fault.Unavailable, codeBusy},
	} {
		e := newServer(t).file("/info", "tei-info.json").on("/embed", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "7")
			w.Header().Set("Location", "https://elsewhere.example/embed")
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, `{"error":"can't embed `+secretText+`","error_type":"Validation"}`)
		}).engine(tei(KindEmbed))
		_, err := e.Embed(t.Context(), []string{secretText})
		if !isCode(err, c.kind, c.code) {
			t.Errorf("%d: %v", c.status, err)
		}
		if strings.Contains(err.Error(), secretText) {
			t.Errorf("%d: the error quotes the text: %v", c.status, err)
		}
		if c.code == codeBusy && fault.From(err).RetryAfter != 7*time.Second {
			t.Errorf("%d: retry after %s", c.status, fault.From(err).RetryAfter)
		}
	}
	s := newServer(t).file("/info", "tei-info.json")
	s.file("/embed", "tei-error.json")
	overloaded := s.routes["/embed"]
	s.on("/embed", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(429); overloaded(w, r) })
	if _, err := s.engine(tei(KindEmbed)).Embed(t.Context(), []string{"a"}); !isCode(err, fault.Exhausted, codeBusy) || !strings.Contains(err.Error(), "Overloaded") {
		t.Errorf("documented error: %v", err)
	}
}

func TestServerThatIsAway(t *testing.T) {
	s := newServer(t)
	e := s.engine(tei(KindEmbed))
	s.Close()
	for range 5 {
		if _, err := e.Embed(t.Context(), []string{"a"}); !isCode(err, fault.Unavailable, codeAway) {
			t.Fatalf("%v", err)
		}
	}
	_, err := e.Embed(t.Context(), []string{"a"})
	if !isCode(err, fault.Unavailable, breaker.CodeOpen) || fault.From(err).RetryAfter <= 0 {
		t.Errorf("after five failures: %v; want an open breaker", err)
	}
}

func TestServerThatHangs(t *testing.T) {
	free := make(chan struct{})
	defer close(free)
	c := tei(KindEmbed)
	c.Timeout = 30 * time.Millisecond
	e := newServer(t).file("/info", "tei-info.json").on("/embed", func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-free:
		case <-r.Context().Done():
		}
	}).engine(c)
	if _, err := e.Embed(t.Context(), []string{"a"}); !isCode(err, fault.Unavailable, codeSlow) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := e.Embed(ctx, []string{"a"}); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller who left: %v", err)
	}
}

// A caller who leaves, or can't take more, ends the work on the server.
func TestAnswerIsCancelled(t *testing.T) {
	for _, how := range []string{"context", "emit"} {
		ended := make(chan struct{})
		s := newServer(t).says("/v1/models", 200, `{"data":[{"id":"m"}]}`).on("/v1/chat/completions", func(w http.ResponseWriter, r *http.Request) {
			defer close(ended)
			w.Header().Set("Content-Type", "text/event-stream")
			for {
				if _, err := io.WriteString(w, "data: {\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n"); err != nil {
					return
				}
				w.(http.Flusher).Flush()
				select {
				case <-r.Context().Done():
					return
				case <-time.After(time.Millisecond):
				}
			}
		})
		e := s.engine(Config{Kind: KindGenerate, Engine: VLLM, Model: "m", Revision: "1"})
		ctx, cancel := context.WithCancel(t.Context())
		var pieces atomic.Int32
		mine := errors.New("no more")
		_, err := e.Generate(ctx, Prompt{Messages: []Message{{"user", "a"}}}, func(string) error {
			if pieces.Add(1) < 3 {
				return nil
			}
			if how == "emit" {
				return mine
			}
			cancel()
			return nil
		})
		cancel()
		if how == "emit" && !errors.Is(err, mine) || how == "context" && !errors.Is(err, context.Canceled) && fault.KindOf(err) != fault.Canceled {
			t.Errorf("%s: %v", how, err)
		}
		<-ended
	}
}

func TestAnswersThatBreakOff(t *testing.T) {
	models := `{"data":[{"id":"m"}]}`
	piece := func(model string) string {
		return fmt.Sprintf("data: {\"model\":%q,\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n", model)
	}
	stop := "data: {\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n"
	for name, c := range map[string]struct{ models, body string }{
		"in the middle":         {models, piece("m")},
		"by another model":      {models, piece("n") + strings.Replace(stop, `"m"`, `"n"`, 1)},
		"no stream":             {models, "<html>"},
		"with an error":         {models, piece("m") + "data: {\"error\":{\"type\":\"server_error\",\"message\":\"a\"}}\n\n"},
		"of a server of others": {`{"data":[{"id":"n"}]}`, piece("m") + stop},
	} {
		s := newServer(t).says("/v1/models", 200, c.models).on("/v1/chat/completions", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, c.body)
		})
		_, err := s.engine(Config{Kind: KindGenerate, Engine: VLLM, Model: "m", Revision: "1"}).Generate(t.Context(), Prompt{Messages: []Message{{"user", "a"}}}, func(string) error { return nil })
		if fault.KindOf(err) != fault.Unavailable {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBatches(t *testing.T) {
	s := newServer(t).file("/info", "tei-info.json").on("/embed", nil)
	s.on("/embed", func(w http.ResponseWriter, r *http.Request) {
		in, _ := s.last("/embed")["inputs"].([]any)
		vectors := make([][]float32, len(in))
		for i, text := range in {
			n, _ := text.(string)
			vectors[i] = []float32{float32(len(n)), 1, 0}
		}
		_ = json.NewEncoder(w).Encode(vectors)
	})
	c := tei(KindEmbed)
	c.Batch = 3
	texts := []string{"", "a", "aa", "aaa", "aaaa", "aaaaa", "aaaaaa"}
	got, err := s.engine(c).Embed(t.Context(), texts)
	if err != nil || len(got.Vectors) != len(texts) || s.times("/embed") != 3 {
		t.Fatalf("%d vectors in %d requests, %v", len(got.Vectors), s.times("/embed"), err)
	}
	for i, v := range got.Vectors {
		if math.Abs(float64(v[0]/v[1])-float64(i)) > 1e-4 {
			t.Errorf("vector %d is of another text: %v", i, v)
		}
	}
}

func TestTheKeyGoesToTheServerOnly(t *testing.T) {
	s := newServer(t).file("/info", "tei-info.json").says("/embed", 500, `{"error":"Bearer hunter2 is wrong","error_type":"hunter2"}`)
	c := tei(KindEmbed)
	c.Key = secret.New("hunter2")
	_, err := s.engine(c).Embed(t.Context(), []string{"a"})
	if s.auth != "Bearer hunter2" {
		t.Errorf("authorization %q", s.auth)
	}
	if text := fmt.Sprintf("%v %+v %#v", err, c, []Config{c}); strings.Contains(text, "hunter2") {
		t.Errorf("the key shows in %s", text)
	}
}

func TestSettingsThatAreRefused(t *testing.T) {
	good := func() Config { c := tei(KindEmbed); c.Name, c.URL = "gpu", "https://gpu.example:8080"; return c }
	if err := good().Check(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(c *Config){
		"no name":               func(c *Config) { c.Name = "" },
		"unknown engine":        func(c *Config) { c.Engine = "torchserve" },
		"kind it has not":       func(c *Config) { c.Kind = KindGenerate },
		"no model":              func(c *Config) { c.Model = "" },
		"no revision":           func(c *Config) { c.Revision = "" },
		"bad digest":            func(c *Config) { c.Digest = "abc" },
		"no dimension":          func(c *Config) { c.Dim = 0 },
		"plain http":            func(c *Config) { c.URL = "http://gpu.example:8080" },
		"credentials in it":     func(c *Config) { c.URL = "https://a:b@gpu.example" },
		"another scheme":        func(c *Config) { c.URL = "unix:///socket" },
		"query":                 func(c *Config) { c.URL = "https://gpu.example/?a=b" },
		"timeout without bound": func(c *Config) { c.Timeout = 24 * time.Hour },
		"batch without bound":   func(c *Config) { c.Batch = 1 << 20 },
		"key with a line break": func(c *Config) { c.Key = secret.New("a\nb") },
	} {
		c := good()
		change(&c)
		if err := c.Check(); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	c := good()
	c.URL, c.NoTLS = "http://gpu.example:8080", true
	if err := c.Check(); err != nil {
		t.Errorf("plain http, allowed: %v", err)
	}
	c.URL, c.NoTLS = "http://127.0.0.1:8080/v1", false
	if err := c.Check(); err != nil {
		t.Errorf("plain http on loopback: %v", err)
	}
}

// Vectors of two models are never compared: whatever makes another model makes another digest, and nothing else does.
func TestIdentity(t *testing.T) {
	base := tei(KindEmbed)
	for name, c := range map[string]struct {
		change func(c *Config)
		other  bool
	}{
		"model":     {func(c *Config) { c.Model = "thenlper/gte-large" }, true},
		"revision":  {func(c *Config) { c.Revision = "main" }, true},
		"dimension": {func(c *Config) { c.Dim = 4 }, true},
		"engine":    {func(c *Config) { c.Engine = VLLM }, true},
		"digest":    {func(c *Config) { c.Digest = strings.Repeat("a", 64) }, true},
		"address":   {func(c *Config) { c.URL = "https://elsewhere.example" }, false},
		"name":      {func(c *Config) { c.Name = "other" }, false},
	} {
		changed := base
		c.change(&changed)
		if other := changed.Identity() != base.Identity(); other != c.other || len(changed.Identity()) != 64 {
			t.Errorf("another %s: another digest %v, want %v", name, other, c.other)
		}
	}
}
