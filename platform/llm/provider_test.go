package llm_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"aran/platform/fault"
	"aran/platform/llm"
	"aran/platform/llm/llmtest"
	"aran/platform/secret"
)

const key = "sk-test-0123456789abcdefghijklmnop"

func quick() llm.Limits {
	l := llm.DefaultLimits()
	l.Retries = 0
	return l
}

func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.URL
}

func openAI(t *testing.T, h http.Handler, l llm.Limits) *llm.OpenAIClient {
	t.Helper()
	p, err := llm.NewOpenAI(llm.Options{Name: "openai", BaseURL: serve(t, h) + "/v1", Key: secret.New(key), Limits: l})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func anthropic(t *testing.T, h http.Handler, l llm.Limits) *llm.AnthropicClient {
	t.Helper()
	p, err := llm.NewAnthropic(llm.Options{Name: "anthropic", BaseURL: serve(t, h), Key: secret.New(key), Limits: l})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func scripted(s ...llmtest.Script) *llmtest.Server {
	srv := llmtest.NewServer(key, "other", llmtest.Model)
	srv.Next(s...)
	return srv
}

func TestOpenAI(t *testing.T) {
	llmtest.Run(t, func(t *testing.T, s llmtest.Script) llm.Provider { return openAI(t, scripted(s), quick()) })
}

func TestAnthropic(t *testing.T) {
	llmtest.Run(t, func(t *testing.T, s llmtest.Script) llm.Provider { return anthropic(t, scripted(s), quick()) })
}

// both runs a test on the two formats.
func both(t *testing.T, l llm.Limits, h func() http.Handler, check func(t *testing.T, p llm.Provider)) {
	t.Run("openai", func(t *testing.T) { check(t, openAI(t, h(), l)) })
	t.Run("anthropic", func(t *testing.T) { check(t, anthropic(t, h(), l)) })
}

func TestAWrongKeyIsOurTroubleAndStaysSecret(t *testing.T) {
	both(t, quick(), func() http.Handler { return llmtest.NewServer("another key") }, func(t *testing.T, p llm.Provider) {
		_, err := p.Stream(t.Context(), llmtest.Ask("hello"))
		f := fault.From(err)
		if f == nil || f.Kind != fault.Unavailable || f.Code != "provider_credentials" {
			t.Fatalf("error %v, want unavailable, provider_credentials", err)
		}
		if strings.Contains(err.Error(), key) || strings.Contains(err.Error(), key[:8]) {
			t.Errorf("the error tells the key: %v", err)
		}
	})
}

func TestAProvidersWordsNeverTellTheKey(t *testing.T) {
	s := llmtest.Script{Status: 400, ErrorType: "invalid_request_error", ErrorCode: key, Message: "bad value near " + key + " or " + key[:8] + "…"}
	both(t, quick(), func() http.Handler { return scripted(s) }, func(t *testing.T, p llm.Provider) {
		_, err := p.Stream(t.Context(), llmtest.Ask("hello"))
		f := fault.From(err)
		if f == nil || f.Kind != fault.Invalid || !strings.Contains(f.Detail, "bad value") {
			t.Fatalf("error %v, want invalid with the provider's words", err)
		}
		if strings.Contains(err.Error()+f.Code, key[:8]) {
			t.Errorf("the error tells the key: %v", err)
		}
	})
}

func TestStatusBecomesKind(t *testing.T) {
	for _, c := range []struct {
		name   string
		script llmtest.Script
		kind   fault.Kind
		code   string
	}{
		{"overloaded", llmtest.Script{Status: 529, ErrorType: "overloaded_error"}, fault.Unavailable, "provider_overloaded"},
		{"no money left", llmtest.Script{Status: 429, ErrorType: "insufficient_quota", ErrorCode: "insufficient_quota"}, fault.Unavailable, "provider_quota"},
		{"too long", llmtest.Script{Status: 400, ErrorType: "invalid_request_error", ErrorCode: "context_length_exceeded", Message: "too long"}, fault.Invalid, "context_length_exceeded"},
		{"too large", llmtest.Script{Status: 413, ErrorType: "request_too_large", Message: "too large"}, fault.TooLarge, "request_too_large"},
		{"forbidden", llmtest.Script{Status: 403, ErrorType: "permission_error"}, fault.Unavailable, "provider_credentials"},
		{"moved", llmtest.Script{Status: 301}, fault.Unavailable, "provider_misconfigured"},
	} {
		t.Run(c.name, func(t *testing.T) {
			both(t, quick(), func() http.Handler { return scripted(c.script) }, func(t *testing.T, p llm.Provider) {
				_, err := p.Stream(t.Context(), llmtest.Ask("hello"))
				if f := fault.From(err); f == nil || f.Kind != c.kind || f.Code != c.code {
					t.Errorf("error %v (%+v), want %v %s", err, f, c.kind, c.code)
				}
			})
		})
	}
}

func TestRetryAfterIsPassedOn(t *testing.T) {
	s := llmtest.Script{Status: 429, ErrorType: "rate_limit_error", Message: "slow down", After: 7 * time.Second}
	both(t, quick(), func() http.Handler { return scripted(s) }, func(t *testing.T, p llm.Provider) {
		_, err := p.Stream(t.Context(), llmtest.Ask("hello"))
		if f := fault.From(err); f == nil || f.RetryAfter != 7*time.Second {
			t.Errorf("fault %+v, want to retry after 7s", f)
		}
	})
}

func TestAFailureThatMayPassIsRetriedOnce(t *testing.T) {
	l := llm.DefaultLimits()
	srv := scripted(llmtest.Fail(503), llmtest.Say("there you are"))
	st, err := openAI(t, srv, l).Stream(t.Context(), llmtest.Ask("hello"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = st.Close() }()
	if text, _, err := llmtest.Read(st); text != "there you are" || err != nil {
		t.Errorf("read %q, %v", text, err)
	}
	if n := len(srv.Requests()); n != 2 {
		t.Errorf("%d requests, want 2", n)
	}
}

func TestWhatTheRequestCausedIsNotRetried(t *testing.T) {
	srv := scripted(llmtest.Script{Status: 400, Message: "no"}, llmtest.Say("never"))
	_, err := openAI(t, srv, llm.DefaultLimits()).Stream(t.Context(), llmtest.Ask("hello"))
	if fault.KindOf(err) != fault.Invalid || len(srv.Requests()) != 1 {
		t.Errorf("error %v after %d requests, want invalid after 1", err, len(srv.Requests()))
	}
}

func TestTimeouts(t *testing.T) {
	first, idle := quick(), quick()
	first.FirstByte = 50 * time.Millisecond
	idle.Idle = 50 * time.Millisecond
	for _, c := range []struct {
		name   string
		limits llm.Limits
		script llmtest.Script
	}{
		{"no first event", first, llmtest.Script{End: llmtest.Hang}},
		{"silence after the first event", idle, llmtest.Script{Pieces: []string{"one "}, End: llmtest.Hang}},
	} {
		t.Run(c.name, func(t *testing.T) {
			both(t, c.limits, func() http.Handler { return scripted(c.script) }, func(t *testing.T, p llm.Provider) {
				st, err := p.Stream(t.Context(), llmtest.Ask("hello"))
				if err == nil {
					defer func() { _ = st.Close() }()
					_, _, err = llmtest.Read(st)
				}
				if f := fault.From(err); f == nil || f.Kind != fault.Unavailable || f.Code != "provider_timeout" {
					t.Errorf("error %v, want unavailable, provider_timeout", err)
				}
			})
		})
	}
}

func TestAnAnswerIsBounded(t *testing.T) {
	total, event := quick(), quick()
	total.Answer = 2000
	event.Event = 500
	long := llmtest.Script{Pieces: []string{strings.Repeat("x", 1000), strings.Repeat("y", 2000)}}
	for name, l := range map[string]llm.Limits{"the whole": total, "one event": event} {
		t.Run(name, func(t *testing.T) {
			both(t, l, func() http.Handler { return scripted(long) }, func(t *testing.T, p llm.Provider) {
				st, err := p.Stream(t.Context(), llmtest.Ask("hello"))
				if err == nil {
					defer func() { _ = st.Close() }()
					_, _, err = llmtest.Read(st)
				}
				if f := fault.From(err); f == nil || f.Code != "provider_answer" {
					t.Errorf("error %v, want provider_answer", err)
				}
			})
		})
	}
}

func TestARedirectIsNotFollowed(t *testing.T) {
	reached := false
	elsewhere := serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	away := func() http.Handler { return http.RedirectHandler(elsewhere, http.StatusTemporaryRedirect) }
	both(t, quick(), away, func(t *testing.T, p llm.Provider) {
		if _, err := p.Stream(t.Context(), llmtest.Ask("hello")); fault.KindOf(err) != fault.Unavailable || reached {
			t.Errorf("error %v, reached %t", err, reached)
		}
	})
}

func TestAPageIsNoAnswer(t *testing.T) {
	page := func() http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>welcome</html>") })
	}
	both(t, quick(), page, func(t *testing.T, p llm.Provider) {
		if _, err := p.Stream(t.Context(), llmtest.Ask("hello")); fault.KindOf(err) != fault.Unavailable {
			t.Errorf("error %v, want unavailable", err)
		}
		if _, err := p.Models(t.Context()); fault.KindOf(err) != fault.Unavailable {
			t.Errorf("models: error %v, want unavailable", err)
		}
	})
}

func TestNobodyListens(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	srv.Close()
	p, err := llm.NewOpenAI(llm.Options{Name: "openai", BaseURL: srv.URL, Limits: quick()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Stream(t.Context(), llmtest.Ask("hello")); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("error %v, want unavailable", err)
	}
}

func TestTheProviderStopsWhenTheReaderLeaves(t *testing.T) {
	gone := make(chan struct{})
	srv := llmtest.NewServer("", llmtest.Model)
	srv.Next(llmtest.Script{Pieces: []string{"one "}, End: llmtest.Hang})
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(gone)
		srv.ServeHTTP(w, r)
	})
	ctx, cancel := context.WithCancel(t.Context())
	st, err := openAI(t, h, quick()).Stream(ctx, llmtest.Ask("hello"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = st.Close() }()
	cancel()
	select {
	case <-gone:
	case <-time.After(5 * time.Second):
		t.Error("the provider still generates")
	}
}

func TestToolCallsAndReasoning(t *testing.T) {
	s := llmtest.Script{
		Reasoning: []string{"let me ", "look"}, Pieces: []string{"I will look."},
		Calls: []llmtest.Call{{ID: "call_1", Name: "look", Arguments: `{"at":"a"}`}, {ID: "call_2", Name: "look", Arguments: `{"at":"b"}`}},
	}
	both(t, quick(), func() http.Handler { return scripted(s) }, func(t *testing.T, p llm.Provider) {
		st, err := p.Stream(t.Context(), llmtest.Ask("hello"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = st.Close() }()
		var reasoning, text string
		calls := map[int]llmtest.Call{}
		var last llm.Event
		for {
			e, err := st.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			reasoning, text, last = reasoning+e.Reasoning, text+e.Text, e
			if e.Call != nil {
				c := calls[e.Call.Index]
				c.ID, c.Name, c.Arguments = c.ID+e.Call.ID, c.Name+e.Call.Name, c.Arguments+e.Call.Arguments
				calls[e.Call.Index] = c
			}
		}
		if reasoning != "let me look" || text != "I will look." || last.Finish != llm.ToolCalls {
			t.Errorf("reasoning %q, text %q, finish %q", reasoning, text, last.Finish)
		}
		for i, want := range s.Calls {
			if calls[i] != want {
				t.Errorf("call %d: %+v, want %+v", i, calls[i], want)
			}
		}
	})
}

func TestToolCallsOfServersThatDoNotCount(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for _, c := range []string{
			`{"tool_calls":[{"id":"a","function":{"name":"f","arguments":"{}"}}]}`,
			`{"tool_calls":[{"index":0,"id":"b","function":{"name":"g","arguments":"{"}}]}`,
			`{"tool_calls":[{"index":0,"id":"","function":{"arguments":"}"}}]}`,
		} {
			_, _ = io.WriteString(w, `data: {"choices":[{"index":0,"delta":`+c+"}]}\n\n")
		}
		_, _ = io.WriteString(w, `data: {"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}`+"\n\n")
	})
	st, err := openAI(t, h, quick()).Stream(t.Context(), llmtest.Ask("hello"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = st.Close() }()
	got := map[int]string{}
	for {
		e, err := st.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e.Call != nil {
			got[e.Call.Index] += e.Call.Name + e.Call.Arguments
		}
	}
	// the second and third belong together: the same index, and no new id
	if len(got) != 2 || got[0] != "f{}" || got[1] != "g{}" {
		t.Errorf("calls %v", got)
	}
}

func TestAddressesAndKeysThatAreRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		o    llm.Options
	}{
		{"no scheme", llm.Options{BaseURL: "api.example.com/v1"}},
		{"a user in the URL", llm.Options{BaseURL: "https://me:pw@api.example.com/v1"}},
		{"plain http to another machine", llm.Options{BaseURL: "http://192.0.2.7/v1"}},
		{"a line break in the key", llm.Options{BaseURL: "https://api.example.com", Key: secret.New("sk-1\n")}},
	} {
		if _, err := llm.NewOpenAI(c.o); err == nil {
			t.Errorf("%s: no error", c.name)
		} else if strings.Contains(err.Error(), "pw") || strings.Contains(err.Error(), "sk-1") {
			t.Errorf("%s: the error tells a secret: %v", c.name, err)
		}
	}
	if _, err := llm.NewOpenAI(llm.Options{BaseURL: "http://192.0.2.7/v1", InsecurePlainHTTP: true}); err != nil {
		t.Errorf("allowed plain http: %v", err)
	}
}

func TestOllamaHost(t *testing.T) {
	for in, want := range map[string]string{
		"":                           "http://127.0.0.1:11434/v1",
		"example.com":                "http://example.com:11434/v1",
		"example.com:1234":           "http://example.com:1234/v1",
		":1234":                      "http://127.0.0.1:1234/v1",
		"0.0.0.0":                    "http://127.0.0.1:11434/v1",
		"0.0.0.0:8080":               "http://127.0.0.1:8080/v1",
		"http://example.com":         "http://example.com:80/v1",
		"https://example.com":        "https://example.com:443/v1",
		"https://example.com/ollama": "https://example.com:443/ollama/v1",
		"[::1]":                      "http://[::1]:11434/v1",
		"[::]:1234":                  "http://[::1]:1234/v1",
		`"127.0.0.1:11434"`:          "http://127.0.0.1:11434/v1",
		"http://127.0.0.1:11434/":    "http://127.0.0.1:11434/v1",
	} {
		if got, err := llm.ParseOllamaHost(in); got != want || err != nil {
			t.Errorf("%q: %q, %v, want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"ftp://example.com", "a b", "http://a b"} {
		if got, err := llm.ParseOllamaHost(in); err == nil {
			t.Errorf("%q: %q, want an error", in, got)
		}
	}
}
