package infer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"aran/platform/auth"
	"aran/platform/fault"
	"aran/platform/llm"
	"aran/service/infer/child"
	"aran/service/infer/registry"
)

// Prompt asks a local model to go on with a conversation.
type Prompt struct {
	Model       string
	Messages    []Message
	MaxTokens   int // 0: the model's default
	Temperature *float64
	TopP        *float64
	Stop        []string
	Seed        *int64
}

// Message is one turn: role system, user or assistant.
type Message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// Finish is how an answer ended and what it cost in tokens.
type Finish struct {
	Reason             string // stop, length
	Prompt, Completion int
	Version, Digest    string // of the model that answered
}

// Bounds of what a model process may send.
const (
	maxChunk  = 1 << 20
	maxAnswer = 8 << 20
	maxError  = 64 << 10
)

// Generate answers in pieces. Errors are faults: Missing (unknown model), Unavailable (not installed, loading,
// restarting, broke off; with RetryAfter when that helps), Exhausted (too many wait), Invalid
// (`context_exceeded`: the prompt is too long). When emit fails, or ctx ends, the model stops.
func (s *Service) Generate(ctx context.Context, p Prompt, emit func(text string) error) (f Finish, err error) {
	if p.Model, err = s.resolve(p.Model, registry.Generate); err != nil {
		return Finish{}, err
	}
	ctx, call := s.telemetry.begin(ctx, "chat", p.Model)
	defer func() { call.end(ctx, err) }()
	t, err := s.generatorFor(ctx, p.Model)
	if err != nil {
		return Finish{}, err
	}
	defer t.release()
	body := s.body(p, &t.v.Manifest)
	call.span.SetAttributes(attribute.Int("gen_ai.request.max_tokens", body.MaxTokens),
		attribute.Float64("gen_ai.request.temperature", body.Temperature), attribute.Float64("gen_ai.request.top_p", body.TopP))
	f, err = t.answer(ctx, p, func(text string) error {
		call.piece(ctx)
		return emit(text)
	})
	call.answered(&t.v.Model)
	if err != nil {
		return Finish{}, err
	}
	call.span.SetAttributes(attribute.StringSlice("gen_ai.response.finish_reasons", []string{f.Reason}))
	call.tokens(ctx, f.Prompt, f.Completion)
	f.Version, f.Digest = t.v.Version, t.v.Digest
	return f, nil
}

// answer asks the turn's version, and the active one when that is another and fails before its first piece.
func (t *turn) answer(ctx context.Context, p Prompt, emit func(text string) error) (f Finish, err error) {
	f, err = t.try(ctx, p, emit)
	if t.fallback(ctx, err) {
		f, err = t.try(ctx, p, emit)
	}
	var caller emitError
	if !errors.As(err, &caller) {
		t.count(ctx, err)
		return f, err
	}
	return f, caller.error
}

func (t *turn) try(ctx context.Context, p Prompt, emit func(text string) error) (Finish, error) {
	limited, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if t.trial {
		patience := time.AfterFunc(t.patience(ctx), func() { cancel(errTooSlow) })
		defer patience.Stop()
		was := emit
		emit = func(text string) error {
			patience.Stop()
			return was(text)
		}
	}
	return t.v.answer(limited, p, func(text string) error {
		if !t.begun && t.trial && !t.m.trying(t.v) {
			return errGoneBack
		}
		t.begun = true
		if err := emit(text); err != nil {
			return emitError{err}
		}
		return nil
	})
}

// answer asks this version.
func (v *version) answer(ctx context.Context, p Prompt, emit func(text string) error) (Finish, error) {
	leave, err := v.gate.Enter(ctx, auth.From(ctx).Tenant)
	if err != nil {
		return Finish{}, err
	}
	defer leave()
	lease, err := v.child.Acquire(ctx)
	if err != nil {
		return Finish{}, err
	}
	defer lease.Release()
	begin, first := time.Now(), true
	return v.s.ask(ctx, v, lease, v.s.body(p, &v.Manifest), func(text string) error {
		if first {
			v.took(time.Since(begin))
			first = false
		}
		return emit(text)
	})
}

// askBody is the request to the model process (OpenAI's chat completions).
type askBody struct {
	Messages      []Message      `json:"messages"`
	MaxTokens     int            `json:"max_tokens"`
	Temperature   float64        `json:"temperature"`
	TopP          float64        `json:"top_p"`
	Seed          *int64         `json:"seed,omitempty"`
	Stop          []string       `json:"stop,omitempty"`
	Stream        bool           `json:"stream"`
	StreamOptions map[string]any `json:"stream_options"`
}

func (s *Service) body(p Prompt, m *registry.Manifest) askBody {
	b := askBody{
		Messages: p.Messages, MaxTokens: p.MaxTokens, Temperature: m.Defaults.Temperature, TopP: m.Defaults.TopP,
		Seed: p.Seed, Stop: p.Stop, Stream: true, StreamOptions: map[string]any{"include_usage": true},
	}
	if b.MaxTokens == 0 {
		b.MaxTokens = m.Defaults.MaxTokens
	}
	if b.MaxTokens == 0 || b.MaxTokens > s.cfg.MaxTokens {
		b.MaxTokens = s.cfg.MaxTokens
	}
	if p.Temperature != nil {
		b.Temperature = *p.Temperature
	}
	if p.TopP != nil {
		b.TopP = *p.TopP
	}
	if b.TopP == 0 {
		b.TopP = 1
	}
	return b
}

var errStalled = errors.New("the model made no progress")

// ask sends the request and hands the pieces on. A process that makes no progress is ended.
func (s *Service) ask(ctx context.Context, m *version, lease *child.Lease, body askBody, emit func(string) error) (Finish, error) {
	raw, err := json.Marshal(body)
	if err != nil {
		return Finish{}, fmt.Errorf("encode prompt: %w", err)
	}
	inner, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(s.cfg.Stall, func() {
		cancel(errStalled)
		lease.Kill()
	})
	defer watchdog.Stop()
	r, err := http.NewRequestWithContext(inner, http.MethodPost, "http://model/v1/chat/completions", bytes.NewReader(raw))
	if err != nil {
		return Finish{}, fmt.Errorf("make request: %w", err)
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := lease.Client.Do(r)
	if err != nil {
		return Finish{}, m.broke(ctx, inner, err)
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	if resp.StatusCode != http.StatusOK {
		return Finish{}, m.refused(ctx, resp)
	}
	f, err := readAnswer(resp.Body, func(text string) error {
		watchdog.Reset(s.cfg.Stall)
		return emit(text)
	})
	if caller, ok := errors.AsType[emitError](err); ok {
		return Finish{}, caller.error
	}
	if err != nil {
		return Finish{}, m.broke(ctx, inner, err)
	}
	return f, nil
}

// emitError tells the caller's error from the model's.
type emitError struct{ error }

func (e emitError) Unwrap() error { return e.error }

// broke is what the caller learns about a call that failed below HTTP.
func (m *version) broke(ctx, inner context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if cause := context.Cause(inner); cause != nil {
		err = cause
	}
	return fault.New(fault.Unavailable, "model_broke_off", "Model %s broke off; try again.", m.Name).After(time.Second).Because(err)
}

// refused translates an error status of the model process.
func (m *version) refused(ctx context.Context, resp *http.Response) error {
	var e struct {
		Error struct {
			Message string `json:"message"`
			Type    string `json:"type"`
			Prompt  int    `json:"n_prompt_tokens"`
			Context int    `json:"n_ctx"`
		} `json:"error"`
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxError))
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err == nil {
		err = json.Unmarshal(b, &e)
	}
	why := fmt.Errorf("status %d: %.200q", resp.StatusCode, e.Error.Message)
	switch code := resp.StatusCode; {
	case err == nil && e.Error.Type == "exceed_context_size_error":
		return fault.New(fault.Invalid, "context_exceeded", "The prompt has %d tokens; model %s reads and writes %d in all.", e.Error.Prompt, m.Name, e.Error.Context).Because(why)
	case code == http.StatusRequestEntityTooLarge:
		return fault.New(fault.TooLarge, "prompt_too_large", "The prompt is too large for model %s.", m.Name).Because(why)
	case code == http.StatusBadRequest:
		return fault.New(fault.Invalid, "prompt_refused", "Model %s can't take this prompt.", m.Name).Because(why)
	default:
		return fault.New(fault.Unavailable, "model_unavailable", "Model %s is not ready; try again.", m.Name).After(2 * time.Second).Because(why)
	}
}

// chunk is one event of the answer.
type chunk struct {
	Choices []struct {
		Delta struct {
			Content string `json:"content"`
		} `json:"delta"`
		FinishReason *string `json:"finish_reason"`
	} `json:"choices"`
	Usage *struct {
		Prompt     int `json:"prompt_tokens"`
		Completion int `json:"completion_tokens"`
	} `json:"usage"`
	Error json.RawMessage `json:"error"`
}

// readAnswer reads an answer to its end. One without a finish reason is incomplete. What emit returns comes
// back as an emitError.
func readAnswer(r io.Reader, emit func(text string) error) (f Finish, err error) {
	events := llm.NewSSEReader(r, maxChunk)
	for size := 0; ; {
		_, data, err := events.Next()
		if err != nil && !errors.Is(err, io.EOF) {
			return Finish{}, fmt.Errorf("read answer: %w", err)
		}
		if err != nil || string(data) == "[DONE]" {
			break
		}
		var c chunk
		if err := json.Unmarshal(data, &c); err != nil {
			return Finish{}, fmt.Errorf("read answer: %w", err)
		}
		if len(c.Error) > 0 {
			return Finish{}, fmt.Errorf("read answer: the model says %.200q", c.Error)
		}
		if c.Usage != nil {
			f.Prompt, f.Completion = max(0, c.Usage.Prompt), max(0, c.Usage.Completion)
		}
		for _, choice := range c.Choices {
			if size += len(choice.Delta.Content); size > maxAnswer {
				return Finish{}, fmt.Errorf("read answer: more than %d bytes", maxAnswer)
			}
			if choice.Delta.Content != "" {
				if err := emit(choice.Delta.Content); err != nil {
					return Finish{}, emitError{err}
				}
			}
			if choice.FinishReason != nil {
				f.Reason = finishReason(*choice.FinishReason)
			}
		}
	}
	if f.Reason == "" {
		return Finish{}, errors.New("read answer: it ended without a reason")
	}
	return f, nil
}

// finishReason keeps to the two words of the contract.
func finishReason(s string) string {
	if s == "length" {
		return s
	}
	return "stop"
}
