package llm

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"time"
)

// AnthropicBase is where Anthropic itself answers.
const AnthropicBase = "https://api.anthropic.com"

// anthropicMaxTokens is asked for when the client set no limit: this API wants one.
const anthropicMaxTokens = 8192

// AnthropicClient speaks Anthropic's Messages API.
type AnthropicClient struct{ *client }

// NewAnthropic makes a provider. The base URL does not include the version.
func NewAnthropic(o Options) (*AnthropicClient, error) {
	c, err := newClient(o, AnthropicBase)
	if err != nil {
		return nil, err
	}
	key := o.Key.Reveal()
	c.header = func(h http.Header, r *Request) {
		version := AnthropicVersion
		if r != nil && r.Format == Anthropic {
			if v := r.Headers["anthropic-version"]; v != "" {
				version = v
			}
			if b := r.Headers["anthropic-beta"]; b != "" {
				h.Set("Anthropic-Beta", b)
			}
		}
		h.Set("Anthropic-Version", version)
		switch {
		case key == "":
		case version < anthropicBearer:
			h.Set("X-Api-Key", key)
		default:
			h.Set("Authorization", "Bearer "+key)
		}
	}
	c.parse = parseAnthropicError
	return &AnthropicClient{client: c}, nil
}

// Name is the configured one.
func (p *AnthropicClient) Name() string { return p.name }

// Models lists them (GET /v1/models), at most five pages.
func (p *AnthropicClient) Models(ctx context.Context) ([]Model, error) {
	var out []Model
	after := ""
	for range 5 {
		var page struct {
			Data []struct {
				ID      string    `json:"id"`
				Title   string    `json:"display_name"`
				Created time.Time `json:"created_at"`
			} `json:"data"`
			HasMore bool   `json:"has_more"`
			LastID  string `json:"last_id"`
		}
		path := "/v1/models?limit=1000"
		if after != "" {
			path += "&after_id=" + url.QueryEscape(after)
		}
		if err := p.get(ctx, path, &page); err != nil {
			return nil, err
		}
		for _, m := range page.Data {
			if modelName(m.ID) {
				out = append(out, Model{ID: m.ID, Owner: "anthropic", Created: max(m.Created.Unix(), 0), Title: clean(m.Title, 200)})
			}
		}
		if !page.HasMore || page.LastID == "" || page.LastID == after {
			break
		}
		after = page.LastID
	}
	return out, nil
}

// Stream asks for an answer.
func (p *AnthropicClient) Stream(ctx context.Context, r Request) (Stream, error) {
	body, err := encodeMessages(&r, anthropicMaxTokens)
	if err != nil {
		return nil, err
	}
	ev, err := p.open(ctx, "/v1/messages", body, &r)
	if err != nil {
		return nil, err
	}
	s := &messageStream{events: ev, calls: map[int]int{}}
	e, err := s.read() // the stream may begin with an error
	if err != nil {
		_ = s.Close()
		return nil, err
	}
	s.ahead = &e
	return s, nil
}

func parseAnthropicError(body []byte) apiError {
	var e struct {
		Error struct {
			Type    string `json:"type"`
			Message string `json:"message"`
			Details struct {
				Code string `json:"error_code"`
			} `json:"details"`
		} `json:"error"`
	}
	if json.Unmarshal(body, &e) != nil {
		return apiError{}
	}
	return apiError{Type: e.Error.Type, Code: e.Error.Details.Code, Message: e.Error.Message}
}

type messageEvent struct {
	Type    string `json:"type"`
	Index   int    `json:"index"`
	Message struct {
		Model string          `json:"model"`
		Usage json.RawMessage `json:"usage"`
	} `json:"message"`
	Block struct {
		Type     string          `json:"type"`
		ID       string          `json:"id"`
		Name     string          `json:"name"`
		Text     string          `json:"text"`
		Thinking string          `json:"thinking"`
		Input    json.RawMessage `json:"input"`
	} `json:"content_block"`
	Delta struct {
		Type         string `json:"type"`
		Text         string `json:"text"`
		Thinking     string `json:"thinking"`
		Signature    string `json:"signature"`
		PartialJSON  string `json:"partial_json"`
		StopReason   string `json:"stop_reason"`
		StopSequence string `json:"stop_sequence"`
	} `json:"delta"`
	Usage json.RawMessage `json:"usage"`
}

// messageStream reads Anthropic's events. Blocks of kinds that we do not know (results of tools that run at
// the provider) are left out.
type messageStream struct {
	*events
	ahead *Event
	calls map[int]int // index of a content block → number of the tool call
	usage map[string]json.RawMessage
	last  Event
	ended bool
}

func (s *messageStream) Next() (Event, error) {
	if e := s.ahead; e != nil {
		s.ahead = nil
		return *e, nil
	}
	return s.read()
}

func (s *messageStream) read() (Event, error) {
	for {
		if s.ended {
			return Event{}, io.EOF
		}
		_, data, err := s.next()
		if errors.Is(err, io.EOF) {
			return Event{}, s.cut()
		}
		if err != nil {
			return Event{}, err
		}
		var m messageEvent
		if err := json.Unmarshal(data, &m); err != nil {
			return Event{}, unsupportedAnswer(s.c.name, err.Error())
		}
		e, err := s.event(&m, data)
		if err != nil {
			return Event{}, err
		}
		if e != (pieces{}) {
			return e.event(s), nil
		}
	}
}

// pieces is an Event without its maps, so that an empty one can be told.
type pieces struct {
	text, reasoning, signature string
	call                       *CallDelta
	end                        bool
}

func (p pieces) event(s *messageStream) Event {
	if p.end {
		return s.last
	}
	return Event{Text: p.text, Reasoning: p.reasoning, Signature: p.signature, Call: p.call}
}

func (s *messageStream) event(m *messageEvent, data []byte) (pieces, error) {
	switch m.Type {
	case "message_start":
		s.last.Model = clean(m.Message.Model, 200)
		s.count(m.Message.Usage)
	case "content_block_start":
		switch m.Block.Type {
		case "text":
			return pieces{text: m.Block.Text}, nil
		case "thinking":
			return pieces{reasoning: m.Block.Thinking}, nil
		case "tool_use":
			if len(s.calls) >= maxTools {
				return pieces{}, unsupportedAnswer(s.c.name, "too many tool calls")
			}
			s.calls[m.Index] = len(s.calls)
			call := &CallDelta{Index: s.calls[m.Index], ID: m.Block.ID, Name: m.Block.Name}
			if in := string(m.Block.Input); in != "{}" && in != "null" {
				call.Arguments = in
			}
			return pieces{call: call}, nil
		}
	case "content_block_delta":
		switch m.Delta.Type {
		case "text_delta":
			return pieces{text: m.Delta.Text}, nil
		case "thinking_delta":
			return pieces{reasoning: m.Delta.Thinking}, nil
		case "signature_delta":
			return pieces{signature: m.Delta.Signature}, nil
		case "input_json_delta":
			if n, ours := s.calls[m.Index]; ours && m.Delta.PartialJSON != "" {
				return pieces{call: &CallDelta{Index: n, Arguments: m.Delta.PartialJSON}}, nil
			}
		}
	case "message_delta":
		s.count(m.Usage)
		if m.Delta.StopReason != "" {
			s.last.Finish, s.last.FinishRaw, s.last.StopSequence = anthropicFinish(m.Delta.StopReason), m.Delta.StopReason, m.Delta.StopSequence
		}
	case "message_stop":
		if s.last.Finish == "" {
			return pieces{}, s.cut()
		}
		s.ended = true
		return pieces{end: true}, nil
	case "error":
		return pieces{}, s.c.failed(parseAnthropicError(data))
	}
	return pieces{}, nil
}

// count merges usage: the numbers of message_delta replace those of message_start.
func (s *messageStream) count(raw json.RawMessage) {
	var u map[string]json.RawMessage
	if json.Unmarshal(raw, &u) != nil || len(raw) > 4096 {
		return
	}
	if s.usage == nil {
		s.usage = map[string]json.RawMessage{}
	}
	for k, v := range u {
		if string(v) != "null" {
			s.usage[k] = v
		}
	}
	number := func(key string) int {
		var n int
		if json.Unmarshal(s.usage[key], &n) != nil {
			return 0
		}
		return max(n, 0)
	}
	merged, err := encode(s.usage)
	if err != nil {
		return
	}
	s.last.Usage = Usage{
		Input:  number("input_tokens") + number("cache_read_input_tokens") + number("cache_creation_input_tokens"),
		Output: number("output_tokens"), Format: Anthropic, Raw: merged,
	}
}

func anthropicFinish(s string) Finish {
	switch s {
	case "max_tokens", "model_context_window_exceeded":
		return Length
	case "tool_use":
		return ToolCalls
	case "refusal":
		return ContentFilter
	default:
		return Stop
	}
}
