package chat

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"connectrpc.com/connect"

	inferv1 "aran/api/gen/aran/infer/v1"
	"aran/api/gen/aran/infer/v1/inferv1connect"
	"aran/platform/fault"
	"aran/platform/llm"
)

// local is the service infer as a provider of language models. It takes texts only.
type local struct {
	infer     inferv1connect.InferServiceClient
	firstByte time.Duration
	idle      time.Duration
	maxTokens int
}

func newLocal(cfg Config, c inferv1connect.InferServiceClient) *local {
	return &local{infer: c, firstByte: cfg.FirstByte, idle: cfg.Idle, maxTokens: cfg.LocalTokens}
}

// Name implements llm.Provider.
func (l *local) Name() string { return nameLocal }

// Models implements llm.Provider: the language models that could answer now, or after loading.
func (l *local) Models(ctx context.Context) ([]llm.Model, error) {
	list, err := l.infer.ListModels(ctx, &inferv1.ListModelsRequest{})
	if err != nil {
		return nil, asFault(ctx, err)
	}
	var out []llm.Model
	for _, m := range list.GetModels() {
		if m.GetKind() == kindGenerate && (m.GetStatus() == "ready" || m.GetStatus() == "loading") {
			out = append(out, llm.Model{ID: m.GetName(), Owner: "aran", Title: m.GetName()})
		}
	}
	return out, nil
}

// Bounds of infer.GenerateRequest.
const (
	maxLocalMessages = 256
	maxLocalTokens   = 32768
	maxLocalStops    = 8
	maxLocalStop     = 64
)

var (
	errSilent = errors.New("the local model did not answer in time")
	errClosed = errors.New("closed by its reader")
)

// Stream implements llm.Provider.
func (l *local) Stream(ctx context.Context, r llm.Request) (llm.Stream, error) {
	q, err := l.request(&r)
	if err != nil {
		return nil, err
	}
	inner, cancel := context.WithCancelCause(ctx)
	s := &localStream{ctx: ctx, inner: inner, cancel: cancel, idle: l.idle, last: llm.Event{Model: r.Model}}
	s.timer = time.AfterFunc(l.firstByte, func() { cancel(errSilent) })
	if s.stream, err = l.infer.Generate(inner, q); err != nil {
		defer s.Close() //nolint:errcheck // never fails
		return nil, s.fault(err)
	}
	e, err := s.receive()
	if err != nil {
		defer s.Close() //nolint:errcheck // never fails
		return nil, err
	}
	s.ahead = &e
	return s, nil
}

// request says in infer's words what the model is asked.
func (l *local) request(r *llm.Request) (*inferv1.GenerateRequest, error) {
	if len(r.Unread()) > 0 {
		return nil, fault.New(fault.Unsupported, "unsupported_content", "The local model takes texts only.")
	}
	q := &inferv1.GenerateRequest{Model: r.Model, MaxTokens: int32(min(max(r.MaxTokens, 0), maxLocalTokens)), Temperature: r.Temperature, Seed: r.Seed}
	if q.MaxTokens == 0 {
		q.MaxTokens = int32(l.maxTokens) //nolint:gosec // bounded by Check
	}
	if r.TopP != nil && *r.TopP > 0 {
		q.TopP = r.TopP
	}
	for _, stop := range r.Stop {
		if stop != "" && len(stop) <= maxLocalStop && len(q.GetStop()) < maxLocalStops {
			q.Stop = append(q.Stop, stop)
		}
	}
	system := textOf(r.System)
	if r.Instructions != "" {
		system = joined(system, r.Instructions)
	}
	if system != "" {
		q.Messages = append(q.Messages, &inferv1.Message{Role: string(llm.System), Content: system})
	}
	for _, m := range r.Messages {
		role := m.Role
		if role == llm.Tool { // the model knows no tools: a result is something that the user shows it
			role = llm.User
		}
		if text := textOf(m.Parts); text != "" {
			q.Messages = append(q.Messages, &inferv1.Message{Role: string(role), Content: text})
		}
	}
	if len(q.GetMessages()) == 0 || len(q.GetMessages()) > maxLocalMessages {
		return nil, fault.New(fault.Unsupported, "unsupported_content", "The local model takes 1 to %d messages.", maxLocalMessages)
	}
	return q, nil
}

// localStream is an answer of infer.
type localStream struct {
	ctx    context.Context //nolint:containedctx // lives exactly as long as the call
	inner  context.Context //nolint:containedctx // lives exactly as long as the call
	cancel context.CancelCauseFunc
	timer  *time.Timer
	idle   time.Duration
	stream *connect.ServerStreamForClient[inferv1.GenerateResponse]
	once   sync.Once

	ahead *llm.Event
	last  llm.Event
	ended bool
}

// Next implements llm.Stream.
func (s *localStream) Next() (llm.Event, error) {
	if e := s.ahead; e != nil {
		s.ahead = nil
		return *e, nil
	}
	return s.receive()
}

func (s *localStream) receive() (llm.Event, error) {
	for {
		if s.ended {
			return llm.Event{}, io.EOF
		}
		if !s.stream.Receive() {
			err := s.stream.Err()
			if err == nil && s.inner.Err() == nil {
				err = io.ErrUnexpectedEOF
			}
			return llm.Event{}, s.fault(err)
		}
		s.timer.Reset(s.idle)
		m := s.stream.Msg()
		if reason := m.GetFinishReason(); reason != "" {
			s.ended = true
			s.last.Text, s.last.Finish, s.last.FinishRaw = m.GetText(), llm.Stop, reason
			if reason == string(llm.Length) {
				s.last.Finish = llm.Length
			}
			s.last.Usage = llm.Usage{Input: int(m.GetPromptTokens()), Output: int(m.GetCompletionTokens())}
			return s.last, nil
		}
		if m.GetText() != "" {
			return llm.Event{Text: m.GetText()}, nil
		}
	}
}

// Close implements llm.Stream. Canceling ends the model's work; the connection then closes by itself.
func (s *localStream) Close() error {
	s.once.Do(func() {
		s.timer.Stop()
		s.cancel(errClosed)
	})
	return nil
}

func (s *localStream) fault(err error) error {
	switch cause := context.Cause(s.inner); {
	case errors.Is(cause, errSilent):
		return fault.New(fault.Unavailable, "model_timeout", "The local model takes too long.").Because(cause)
	case errors.Is(cause, errClosed):
		return fault.New(fault.Canceled, "", "The answer was closed by its reader.").Because(cause)
	case err == nil:
		err = cause
	}
	if err = asFault(s.ctx, err); fault.KindOf(err) == fault.Internal {
		return fault.New(fault.Unavailable, "model_broke_off", "The local model broke off.").Because(err)
	}
	return err
}

// asFault classifies what a call returned; when the caller's own context ended, that is the reason.
func asFault(ctx context.Context, err error) error {
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fault.New(fault.Deadline, "deadline", "It took longer than allowed.").Because(err)
	case ctx.Err() != nil:
		return fault.New(fault.Canceled, "canceled", "The request was given up.").Because(err)
	case fault.From(err) == nil && errors.Is(err, context.DeadlineExceeded):
		return fault.New(fault.Deadline, "deadline", "It took longer than allowed.").Because(err)
	default:
		return err
	}
}
