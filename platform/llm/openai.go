package llm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// OpenAIBase is where OpenAI itself answers.
const OpenAIBase = "https://api.openai.com/v1"

const ollamaPort = "11434"

// OpenAIClient speaks Chat Completions to OpenAI and to what is compatible: Ollama, llama.cpp, vLLM.
type OpenAIClient struct {
	*client
	style chatStyle
}

// NewOpenAI makes a provider. The base URL includes the version (…/v1).
func NewOpenAI(o Options) (*OpenAIClient, error) {
	c, err := newClient(o, OpenAIBase)
	if err != nil {
		return nil, err
	}
	key := o.Key.Reveal()
	c.header = func(h http.Header, _ *Request) {
		if key != "" {
			h.Set("Authorization", "Bearer "+key)
		}
	}
	c.parse = parseOpenAIError
	p := &OpenAIClient{client: c, style: chatStyle{maxTokensKey: "max_tokens", sampling: true}}
	if c.base == OpenAIBase { // its newer models refuse the old name, and temperatures
		p.style = chatStyle{maxTokensKey: "max_completion_tokens"}
	}
	return p, nil
}

// ParseOllamaHost turns the forms of OLLAMA_HOST (host, host:port, :port, with or without a scheme and path,
// an address to listen on) into the base URL of Ollama's OpenAI-compatible API.
func ParseOllamaHost(s string) (string, error) {
	s = strings.Trim(strings.TrimSpace(s), `"'`)
	scheme, rest, explicit := strings.Cut(s, "://")
	if !explicit {
		scheme, rest = "http", s
	}
	port := ollamaPort
	switch {
	case scheme == "http" && explicit:
		port = "80"
	case scheme == "https":
		port = "443"
	case scheme != "http":
		return "", fmt.Errorf("OLLAMA_HOST %q: the scheme must be http or https", s)
	}
	hostport, path, _ := strings.Cut(rest, "/")
	host, p, err := net.SplitHostPort(hostport)
	if err != nil { // no port
		host = strings.Trim(hostport, "[]")
	} else if p != "" {
		port = p
	}
	if ip, err := netip.ParseAddr(host); host == "" || (err == nil && ip.IsUnspecified()) {
		host = "127.0.0.1" // where a server listens on all addresses, a client on this machine calls loopback
		if err == nil && ip.Is6() {
			host = "::1"
		}
	}
	u := url.URL{Scheme: scheme, Host: net.JoinHostPort(host, port), Path: "/v1"}
	if path = strings.Trim(path, "/"); path != "" {
		u.Path = "/" + path + "/v1"
	}
	if _, err := url.Parse(u.String()); err != nil || strings.ContainsAny(host, " /?#@") {
		return "", fmt.Errorf("OLLAMA_HOST %q: must be host, host:port or a URL", s)
	}
	return u.String(), nil
}

// Name is the configured one.
func (p *OpenAIClient) Name() string { return p.name }

// Models lists them (GET /models).
func (p *OpenAIClient) Models(ctx context.Context) ([]Model, error) {
	var list struct {
		Data []struct {
			ID      string `json:"id"`
			Created int64  `json:"created"`
			OwnedBy string `json:"owned_by"`
		} `json:"data"`
	}
	if err := p.get(ctx, "/models", &list); err != nil {
		return nil, err
	}
	var out []Model
	for _, m := range list.Data {
		if modelName(m.ID) {
			out = append(out, Model{ID: m.ID, Owner: clean(m.OwnedBy, 100), Created: m.Created, Title: m.ID})
		}
	}
	return out, nil
}

// modelName leaves out what would not fit a URL, a log or a metric.
func modelName(id string) bool {
	return id != "" && len(id) <= 200 && !strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r == 0x7f || r > 0x2fff })
}

// Stream asks for an answer.
func (p *OpenAIClient) Stream(ctx context.Context, r Request) (Stream, error) {
	body, err := encodeChat(&r, p.style)
	if err != nil {
		return nil, err
	}
	ev, err := p.open(ctx, "/chat/completions", body, &r)
	if err != nil {
		return nil, err
	}
	s := &chatStream{events: ev}
	if err := s.first(); err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

func parseOpenAIError(body []byte) apiError {
	var e struct {
		Error json.RawMessage `json:"error"`
		// vLLM before 0.10 and some proxies: no envelope
		Message string `json:"message"`
	}
	if json.Unmarshal(body, &e) != nil {
		return apiError{}
	}
	if e.Error == nil {
		return apiError{Message: e.Message}
	}
	var words string
	if json.Unmarshal(e.Error, &words) == nil { // Ollama's own API
		return apiError{Message: words}
	}
	return openAIError(e.Error)
}

func openAIError(raw json.RawMessage) apiError {
	var in struct {
		Type    string `json:"type"`
		Code    any    `json:"code"` // a string, a number or null
		Message string `json:"message"`
	}
	if json.Unmarshal(raw, &in) != nil {
		return apiError{Message: "unknown error"}
	}
	out := apiError{Type: in.Type, Message: in.Message}
	if s, ok := in.Code.(string); ok {
		out.Code = s
	}
	return out
}

type chatChunk struct {
	Model   string `json:"model"`
	Choices []struct {
		Index int `json:"index"`
		Delta struct {
			Content   *string `json:"content"`
			Refusal   *string `json:"refusal"`
			Reasoning *string `json:"reasoning"`         // Ollama, OpenRouter
			Thoughts  *string `json:"reasoning_content"` // DeepSeek, vLLM, llama.cpp
			ToolCalls []struct {
				Index    *int   `json:"index"`
				ID       string `json:"id"`
				Function struct {
					Name      string `json:"name"`
					Arguments string `json:"arguments"`
				} `json:"function"`
			} `json:"tool_calls"`
		} `json:"delta"`
		FinishReason *string `json:"finish_reason"`
	} `json:"choices"`
	Usage             json.RawMessage `json:"usage"`
	Error             json.RawMessage `json:"error"`
	SystemFingerprint json.RawMessage `json:"system_fingerprint"`
	ServiceTier       json.RawMessage `json:"service_tier"`
}

// chatStream reads chat.completion.chunk events. The finish reason comes before the usage: it is kept until
// both are there.
type chatStream struct {
	*events
	queue []Event
	calls []chatCall
	last  Event
	ended bool
}

// first makes sure that the stream does not begin with an error.
func (s *chatStream) first() error {
	e, err := s.Next()
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err == nil {
		s.queue = append([]Event{e}, s.queue...)
	}
	return nil
}

func (s *chatStream) Next() (Event, error) {
	for {
		if len(s.queue) > 0 {
			e := s.queue[0]
			s.queue = s.queue[1:]
			return e, nil
		}
		if s.ended {
			return Event{}, io.EOF
		}
		_, data, err := s.next()
		if errors.Is(err, io.EOF) || (err == nil && string(data) == "[DONE]") {
			if s.last.Finish == "" {
				return Event{}, s.cut()
			}
			s.ended = true
			return s.last, nil
		}
		if err != nil {
			return Event{}, err
		}
		if err := s.chunk(data); err != nil {
			return Event{}, err
		}
	}
}

func (s *chatStream) chunk(data []byte) error {
	var c chatChunk
	if err := json.Unmarshal(data, &c); err != nil {
		return unsupportedAnswer(s.c.name, err.Error())
	}
	if len(c.Error) > 0 && string(c.Error) != "null" {
		return s.c.failed(parseOpenAIError(data))
	}
	if c.Model != "" {
		s.last.Model = clean(c.Model, 200)
	}
	s.keep("system_fingerprint", c.SystemFingerprint)
	s.keep("service_tier", c.ServiceTier)
	if len(c.Usage) > 0 && string(c.Usage) != "null" {
		var u struct {
			Prompt     int `json:"prompt_tokens"`
			Completion int `json:"completion_tokens"`
		}
		if json.Unmarshal(c.Usage, &u) == nil {
			s.last.Usage = Usage{Input: max(u.Prompt, 0), Output: max(u.Completion, 0), Format: OpenAI, Raw: c.Usage}
		}
	}
	for _, ch := range c.Choices {
		if ch.Index != 0 {
			continue
		}
		d := ch.Delta
		s.push(Event{Reasoning: str(d.Thoughts) + str(d.Reasoning)})
		s.push(Event{Text: str(d.Content) + str(d.Refusal)})
		for _, t := range d.ToolCalls {
			index := s.callIndex(t.Index, t.ID)
			if index >= maxTools {
				return unsupportedAnswer(s.c.name, "too many tool calls")
			}
			s.queue = append(s.queue, Event{Call: &CallDelta{Index: index, ID: t.ID, Name: t.Function.Name, Arguments: t.Function.Arguments}})
		}
		if f := str(ch.FinishReason); f != "" {
			s.last.Finish, s.last.FinishRaw = openAIFinish(f), f
		}
	}
	return nil
}

// callIndex numbers tool calls. Some servers leave the index out, or give every call index 0: a new id is
// then a new call.
func (s *chatStream) callIndex(index *int, id string) int {
	key := len(s.calls) - 1
	if index != nil {
		for i, c := range slices.Backward(s.calls) {
			if c.index == *index && (id == "" || id == c.id) {
				return i
			}
		}
	} else if key >= 0 && (id == "" || id == s.calls[key].id) {
		return key
	}
	c := chatCall{id: id}
	if index != nil {
		c.index = *index
	}
	s.calls = append(s.calls, c)
	return len(s.calls) - 1
}

type chatCall struct {
	index int
	id    string
}

func (s *chatStream) push(e Event) {
	if e.Text != "" || e.Reasoning != "" {
		s.queue = append(s.queue, e)
	}
}

func (s *chatStream) keep(key string, raw json.RawMessage) {
	if len(raw) == 0 || len(raw) > 256 || string(raw) == "null" {
		return
	}
	if s.last.Extra == nil {
		s.last.Extra = map[string]json.RawMessage{}
	}
	s.last.Extra[key] = raw
}

func str(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func openAIFinish(s string) Finish {
	switch s {
	case "length":
		return Length
	case "tool_calls", "function_call":
		return ToolCalls
	case "content_filter":
		return ContentFilter
	default:
		return Stop
	}
}
