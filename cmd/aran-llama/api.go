package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
)

// chatRequest is the part of OpenAI's chat completions that a local model can serve. Further fields are
// skipped, except those that would change what the caller gets back.
type chatRequest struct {
	Messages            []chatMessage   `json:"messages"`
	MaxTokens           *int            `json:"max_tokens"`
	MaxCompletionTokens *int            `json:"max_completion_tokens"`
	Temperature         *float64        `json:"temperature"`
	TopP                *float64        `json:"top_p"`
	Seed                *int64          `json:"seed"`
	Stop                oneOrMore       `json:"stop"`
	Stream              bool            `json:"stream"`
	StreamOptions       streamOptions   `json:"stream_options"`
	N                   *int            `json:"n"`
	Tools               json.RawMessage `json:"tools"`
	ResponseFormat      json.RawMessage `json:"response_format"`
}

type streamOptions struct {
	IncludeUsage bool `json:"include_usage"`
}

type chatMessage struct {
	Role    string  `json:"role"`
	Content content `json:"content"`
}

// content is a text, or a list of text parts.
type content string

// UnmarshalJSON reads either form.
func (c *content) UnmarshalJSON(b []byte) error {
	var text string
	if json.Unmarshal(b, &text) == nil {
		*c = content(text)
		return nil
	}
	var parts []struct{ Type, Text string }
	if err := json.Unmarshal(b, &parts); err != nil {
		return errors.New("content is neither a text nor a list of parts")
	}
	var all strings.Builder
	for _, p := range parts {
		if p.Type != "text" {
			return fmt.Errorf("content part of type %.20q: this model reads text only", p.Type)
		}
		all.WriteString(p.Text)
	}
	*c = content(all.String())
	return nil
}

// oneOrMore is a text or a list of texts.
type oneOrMore []string

// UnmarshalJSON reads either form.
func (o *oneOrMore) UnmarshalJSON(b []byte) error {
	var one *string
	if json.Unmarshal(b, &one) == nil {
		*o = nil
		if one != nil {
			*o = oneOrMore{*one}
		}
		return nil
	}
	var list []string
	if err := json.Unmarshal(b, &list); err != nil {
		return errors.New("stop is neither a text nor a list of texts")
	}
	*o = list
	return nil
}

// Bounds of a request, and what is taken when it does not say. SmolLM2's authors advise 0.2 and 0.9.
const (
	maxBody            = 4 << 20
	maxMessages        = 512
	maxStops           = 16
	maxStop            = 256
	defaultTemperature = 0.2
	defaultTopP        = 0.9
)

// parseChat checks a request. Its errors are for the caller.
func parseChat(body []byte) (request, chatRequest, error) {
	var c chatRequest
	if err := json.Unmarshal(body, &c); err != nil {
		return request{}, c, fmt.Errorf("the body is not a chat completion request: %w", err)
	}
	if err := c.unsupported(); err != nil {
		return request{}, c, err
	}
	r := request{Temperature: defaultTemperature, TopP: defaultTopP, Stop: c.Stop}
	if len(c.Messages) == 0 || len(c.Messages) > maxMessages {
		return r, c, fmt.Errorf("messages: %d, want 1 to %d", len(c.Messages), maxMessages)
	}
	for i, m := range c.Messages {
		switch m.Role {
		case "system", "user", "assistant":
		default:
			return r, c, fmt.Errorf("messages[%d].role %.20q: use system, user or assistant", i, m.Role)
		}
		r.Messages = append(r.Messages, message{Role: m.Role, Content: string(m.Content)})
	}
	if err := c.numbers(&r); err != nil {
		return r, c, err
	}
	if len(r.Stop) > maxStops {
		return r, c, fmt.Errorf("stop: %d, at most %d", len(r.Stop), maxStops)
	}
	for i, s := range r.Stop {
		if s == "" || len(s) > maxStop {
			return r, c, fmt.Errorf("stop[%d] has %d bytes, want 1 to %d", i, len(s), maxStop)
		}
	}
	return r, c, nil
}

func (c *chatRequest) unsupported() error {
	switch {
	case c.N != nil && *c.N != 1:
		return fmt.Errorf("n %d: this model gives one answer", *c.N)
	case present(c.Tools):
		return errors.New("tools: this model calls none")
	case present(c.ResponseFormat) && !strings.Contains(string(c.ResponseFormat), `"text"`):
		return errors.New("response_format: this model answers in plain text")
	}
	return nil
}

func present(raw json.RawMessage) bool {
	s := string(raw)
	return s != "" && s != "null" && s != "[]"
}

func (c *chatRequest) numbers(r *request) error {
	tokens := c.MaxCompletionTokens
	if tokens == nil {
		tokens = c.MaxTokens
	}
	if tokens != nil {
		if *tokens < -1 || *tokens == 0 {
			return fmt.Errorf("max_tokens %d: use a positive number, or -1 for no limit", *tokens)
		}
		r.MaxTokens = max(0, *tokens)
	}
	if c.Temperature != nil {
		if r.Temperature = *c.Temperature; r.Temperature < 0 || r.Temperature > 2 {
			return fmt.Errorf("temperature %v: use 0 to 2", r.Temperature)
		}
	}
	if c.TopP != nil {
		if r.TopP = *c.TopP; r.TopP <= 0 || r.TopP > 1 {
			return fmt.Errorf("top_p %v: use more than 0, up to 1", r.TopP)
		}
	}
	if c.Seed != nil {
		r.Seed = uint32(*c.Seed & math.MaxUint32)
		if r.Seed == 0 || r.Seed == math.MaxUint32 {
			r.Seed = 1 // 0 and the largest mean "random" here and in llama.cpp
		}
	}
	return nil
}

// The answers, in OpenAI's shape.
type chatAnswer struct {
	ID      string       `json:"id"`
	Object  string       `json:"object"`
	Created int64        `json:"created"`
	Model   string       `json:"model"`
	Choices []chatChoice `json:"choices"`
	Usage   *chatUsage   `json:"usage,omitempty"`
	Timings *chatTimings `json:"timings,omitempty"`
}

type chatChoice struct {
	Index        int       `json:"index"`
	Message      *chatText `json:"message,omitempty"`
	Delta        *chatText `json:"delta,omitempty"`
	FinishReason *string   `json:"finish_reason"`
}

type chatText struct {
	Role    string  `json:"role,omitempty"`
	Content *string `json:"content,omitempty"`
}

type chatUsage struct {
	PromptTokens     int `json:"prompt_tokens"`
	CompletionTokens int `json:"completion_tokens"`
	TotalTokens      int `json:"total_tokens"`
}

// chatTimings are llama-server's names.
type chatTimings struct {
	PromptN            int     `json:"prompt_n"`
	PromptMS           float64 `json:"prompt_ms"`
	PromptPerSecond    float64 `json:"prompt_per_second"`
	PredictedN         int     `json:"predicted_n"`
	PredictedMS        float64 `json:"predicted_ms"`
	PredictedPerSecond float64 `json:"predicted_per_second"`
}

type apiError struct {
	Error errorBody `json:"error"`
}

type errorBody struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
	Type    string `json:"type"`
	Prompt  int    `json:"n_prompt_tokens,omitempty"`
	Context int    `json:"n_ctx,omitempty"`
}

func (o outcome) usage() *chatUsage {
	return &chatUsage{PromptTokens: o.Prompt, CompletionTokens: o.Completion, TotalTokens: o.Prompt + o.Completion}
}

func (o outcome) timings() *chatTimings {
	per := func(n int, seconds float64) float64 {
		if seconds <= 0 {
			return 0
		}
		return float64(n) / seconds
	}
	p, a := o.PromptTook.Seconds(), o.AnswerTook.Seconds()
	return &chatTimings{
		PromptN: o.Prompt, PromptMS: p * 1000, PromptPerSecond: per(o.Prompt, p),
		PredictedN: o.Completion, PredictedMS: a * 1000, PredictedPerSecond: per(o.Completion, a),
	}
}
