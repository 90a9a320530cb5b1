package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// words is a model that says the prompt's last message back, word by word.
func words(ctx context.Context, r request, emit func(string) error) (outcome, error) {
	fields := strings.SplitAfter(r.Messages[len(r.Messages)-1].Content, " ")
	for i, w := range fields {
		if err := ctx.Err(); err != nil {
			return outcome{}, err
		}
		if r.MaxTokens > 0 && i == r.MaxTokens {
			return outcome{Finish: "length", Prompt: 7, Completion: i}, nil
		}
		if err := emit(w); err != nil {
			return outcome{}, err
		}
	}
	return outcome{Finish: "stop", Prompt: 7, Completion: len(fields)}, nil
}

type generator func(ctx context.Context, r request, emit func(string) error) (outcome, error)

// listen serves on a Unix socket and returns a client for it.
func listen(t *testing.T, g generator) (*server, *http.Client) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := new(net.ListenConfig).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(1, slog.New(slog.DiscardHandler))
	if g != nil {
		s.open(running{info: modelInfo{Name: "tiny", Context: 64}, generate: g})
	}
	h := &http.Server{Handler: s.handler(), ReadHeaderTimeout: time.Second}
	done := make(chan error, 1)
	go func() { done <- h.Serve(l) }()
	c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	t.Cleanup(func() {
		c.CloseIdleConnections()
		if err := h.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return s, c
}

func call(t *testing.T, ctx context.Context, c *http.Client, method, path, body string) *http.Response { //nolint:revive // t first, as in the standard library's helpers
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, "http://llama"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := resp.Body.Close(); err != nil {
			t.Error(err)
		}
	})
	return resp
}

func answer[T any](t *testing.T, r *http.Response) (v T) {
	t.Helper()
	if err := json.NewDecoder(r.Body).Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

const ask = `{"messages":[{"role":"user","content":"one two three"}]}`

func TestWholeAnswer(t *testing.T) {
	_, c := listen(t, words)
	r := call(t, t.Context(), c, "POST", "/v1/chat/completions", `{"max_tokens":2,"messages":[{"role":"user","content":[{"type":"text","text":"one two "},{"type":"text","text":"three"}]}]}`)
	a := answer[chatAnswer](t, r)
	if r.StatusCode != 200 || a.Object != "chat.completion" || *a.Choices[0].Message.Content != "one two " || *a.Choices[0].FinishReason != "length" {
		t.Errorf("status %d, answer %+v", r.StatusCode, a)
	}
	if *a.Usage != (chatUsage{7, 2, 9}) {
		t.Errorf("usage %+v", *a.Usage)
	}
}

func TestStreamedAnswer(t *testing.T) {
	_, c := listen(t, words)
	r := call(t, t.Context(), c, "POST", "/v1/chat/completions", `{"stream":true,"stream_options":{"include_usage":true},`+ask[1:])
	if ct := r.Header.Get("Content-Type"); ct != "text/event-stream" {
		t.Errorf("content type %q", ct)
	}
	var text, finish strings.Builder
	var usage *chatUsage
	done := false
	for lines := bufio.NewScanner(r.Body); lines.Scan(); {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		if done = data == "[DONE]"; done {
			continue
		}
		var a chatAnswer
		if err := json.Unmarshal([]byte(data), &a); err != nil {
			t.Fatal(err)
		}
		for _, choice := range a.Choices {
			if choice.Delta.Content != nil {
				text.WriteString(*choice.Delta.Content)
			}
			if choice.FinishReason != nil {
				finish.WriteString(*choice.FinishReason)
			}
		}
		if a.Usage != nil {
			usage = a.Usage
		}
	}
	if text.String() != "one two three" || finish.String() != "stop" || usage == nil || usage.TotalTokens != 10 || !done {
		t.Errorf("text %q, finish %q, usage %v, done %v", text.String(), finish.String(), usage, done)
	}
}

func TestRefusals(t *testing.T) {
	_, c := listen(t, words)
	for _, k := range []struct{ name, body, want string }{
		{"not JSON", `{`, "not a chat completion"},
		{"no messages", `{"messages":[]}`, "messages: 0"},
		{"unknown role", `{"messages":[{"role":"root","content":"a"}]}`, "messages[0].role"},
		{"an image", `{"messages":[{"role":"user","content":[{"type":"image_url"}]}]}`, "text only"},
		{"several answers", `{"n":2,` + ask[1:], "n 2"},
		{"tools", `{"tools":[{"type":"function"}],` + ask[1:], "tools"},
		{"JSON mode", `{"response_format":{"type":"json_object"},` + ask[1:], "response_format"},
		{"no tokens", `{"max_tokens":0,` + ask[1:], "max_tokens 0"},
		{"too hot", `{"temperature":2.5,` + ask[1:], "temperature 2.5"},
		{"nothing to choose from", `{"top_p":0,` + ask[1:], "top_p 0"},
		{"an empty stop word", `{"stop":[""],` + ask[1:], "stop[0]"},
		{"too many stop words", `{"stop":["a","a","a","a","a","a","a","a","a","a","a","a","a","a","a","a","a"],` + ask[1:], "stop: 17"},
	} {
		r := call(t, t.Context(), c, "POST", "/v1/chat/completions", k.body)
		e := answer[apiError](t, r)
		if r.StatusCode != 400 || !strings.Contains(e.Error.Message, k.want) {
			t.Errorf("%s: %d %q, want 400 with %q", k.name, r.StatusCode, e.Error.Message, k.want)
		}
	}
	r := call(t, t.Context(), c, "POST", "/v1/chat/completions", `{"messages":[{"role":"user","content":"`+strings.Repeat("a", maxBody)+`"}]}`)
	if r.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("a body over the limit: %d, want 413", r.StatusCode)
	}
}

func TestPromptThatIsTooLong(t *testing.T) {
	_, c := listen(t, func(context.Context, request, func(string) error) (outcome, error) {
		return outcome{}, tooLongError{tokens: 99, context: 64}
	})
	r := call(t, t.Context(), c, "POST", "/v1/chat/completions", `{"stream":true,`+ask[1:])
	e := answer[apiError](t, r)
	if r.StatusCode != 400 || e.Error.Type != "exceed_context_size_error" || e.Error.Prompt != 99 || e.Error.Context != 64 {
		t.Errorf("%d %+v", r.StatusCode, e)
	}
}

func TestFailureSaysNothingOfItsCause(t *testing.T) {
	_, c := listen(t, func(context.Context, request, func(string) error) (outcome, error) {
		return outcome{}, errors.New("tensor 0xdeadbeef")
	})
	r := call(t, t.Context(), c, "POST", "/v1/chat/completions", ask)
	b, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != 500 || strings.Contains(string(b), "deadbeef") {
		t.Errorf("%d %s %v", r.StatusCode, b, err)
	}
}

func TestBeforeTheModelIsLoaded(t *testing.T) {
	s, c := listen(t, nil)
	for _, p := range []string{"/health", "/v1/models", "/props"} {
		if r := call(t, t.Context(), c, "GET", p, ""); r.StatusCode != 503 || r.Header.Get("Retry-After") == "" {
			t.Errorf("%s while loading: %d, Retry-After %q", p, r.StatusCode, r.Header.Get("Retry-After"))
		}
	}
	s.open(running{info: modelInfo{Name: "tiny"}, generate: words})
	for _, p := range []string{"/health", "/v1/models", "/props"} {
		if r := call(t, t.Context(), c, "GET", p, ""); r.StatusCode != 200 {
			t.Errorf("%s with a model: %d", p, r.StatusCode)
		}
	}
}

func TestQueueIsBounded(t *testing.T) {
	started, finish := make(chan struct{}, 4), make(chan struct{})
	_, c := listen(t, func(ctx context.Context, r request, emit func(string) error) (outcome, error) {
		started <- struct{}{}
		select {
		case <-finish:
		case <-ctx.Done():
			return outcome{}, ctx.Err()
		}
		return words(ctx, r, emit)
	})
	codes := make(chan int, 2)
	for range 2 { // one is answered, one waits
		go func() { codes <- call(t, t.Context(), c, "POST", "/v1/chat/completions", ask).StatusCode }()
		<-started // the fake serves both at once; what counts is how many are inside
	}
	r := call(t, t.Context(), c, "POST", "/v1/chat/completions", ask)
	if r.StatusCode != 503 || r.Header.Get("Retry-After") == "" {
		t.Errorf("one more than fits: %d, want 503 with Retry-After", r.StatusCode)
	}
	close(finish)
	for range 2 {
		if code := <-codes; code != 200 {
			t.Errorf("one that fits: %d", code)
		}
	}
	if r := call(t, t.Context(), c, "POST", "/v1/chat/completions", ask); r.StatusCode != 200 {
		t.Errorf("after the queue drained: %d", r.StatusCode)
	}
}

func TestCallerWhoLeavesStopsTheModel(t *testing.T) {
	stopped := make(chan struct{}, 1)
	_, c := listen(t, func(ctx context.Context, _ request, emit func(string) error) (outcome, error) {
		if err := emit("first"); err != nil {
			return outcome{}, err
		}
		<-ctx.Done()
		stopped <- struct{}{}
		return outcome{}, ctx.Err()
	})
	ctx, leave := context.WithCancel(t.Context())
	r := call(t, ctx, c, "POST", "/v1/chat/completions", `{"stream":true,`+ask[1:])
	if _, err := bufio.NewReader(r.Body).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	leave()
	select {
	case <-stopped:
	case <-time.After(5 * time.Second):
		t.Error("the model went on")
	}
}

func TestPanicIsAnError(t *testing.T) {
	_, c := listen(t, func(context.Context, request, func(string) error) (outcome, error) { panic("secret detail") })
	r := call(t, t.Context(), c, "POST", "/v1/chat/completions", ask)
	if e := answer[apiError](t, r); r.StatusCode != 500 || strings.Contains(e.Error.Message, "secret") {
		t.Errorf("%d %+v", r.StatusCode, e)
	}
}

func TestFlags(t *testing.T) {
	good := []string{"--lib", "l", "--model", "m", "--socket", "s"}
	if o, err := parse(good, io.Discard); err != nil || o.engine.Threads != 1 || o.engine.Context != 2048 {
		t.Errorf("%+v, %v", o, err)
	}
	for _, bad := range [][]string{{}, {"--lib", "l"}, append(good, "--threads", "0"), append(good, "--ctx", "-1"), append(good, "--queue", "-1"), append(good, "--nonsense")} {
		if _, err := parse(bad, io.Discard); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestMissingLibraryIsAnError(t *testing.T) {
	dir := t.TempDir()
	never, end := io.Pipe()
	defer end.Close() //nolint:errcheck // never fails
	err := start(t.Context(), []string{"--lib", dir, "--model", filepath.Join(dir, "m.gguf"), "--socket", filepath.Join(dir, "s")}, never, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "load llama.cpp") {
		t.Errorf("%v, want an error that says what could not be loaded", err)
	}
}

// FuzzChatRequest: whatever is sent, a request that passes keeps the bounds.
func FuzzChatRequest(f *testing.F) {
	f.Add([]byte(ask))
	f.Add([]byte(`{"messages":[{"role":"user","content":[{"type":"text","text":"a"}]}],"stop":"x","seed":-1,"temperature":0,"top_p":1}`))
	f.Add([]byte(`{"max_tokens":-1,"stop":["a","b"],"messages":[{"role":"system","content":null}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		r, _, err := parseChat(body)
		if err != nil {
			return
		}
		if len(r.Messages) == 0 || len(r.Messages) > maxMessages || r.MaxTokens < 0 || r.Temperature < 0 || r.Temperature > 2 || r.TopP <= 0 || r.TopP > 1 || len(r.Stop) > maxStops {
			t.Errorf("passed: %+v", r)
		}
	})
}
