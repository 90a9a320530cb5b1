package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"time"
)

// server answers in llama-server's words. It takes requests before the model is there and says so.
type server struct {
	log    *slog.Logger
	ready  atomic.Pointer[running]
	places chan struct{} // one for each request that is answered or waits
	number atomic.Int64
}

// running is a loaded model.
type running struct {
	info     modelInfo
	loaded   time.Time
	generate func(ctx context.Context, r request, emit func(text string) error) (outcome, error)
}

// newServer lets queue requests wait beside the one that is answered.
func newServer(queue int, log *slog.Logger) *server {
	return &server{log: log, places: make(chan struct{}, queue+1)}
}

// open serves the model from now on.
func (s *server) open(r running) { s.ready.Store(&r) }

func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", s.health)
	mux.HandleFunc("GET /v1/models", s.models)
	mux.HandleFunc("GET /props", s.props)
	mux.HandleFunc("POST /v1/chat/completions", s.chat)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer s.recover(r.Context(), w)
		mux.ServeHTTP(w, r)
	})
}

func (s *server) recover(ctx context.Context, w http.ResponseWriter) {
	p := recover()
	if p == nil {
		return
	}
	if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(p)
	}
	s.log.LogAttrs(ctx, slog.LevelError, "handler panicked", slog.String("panic", fmt.Sprint(p)), slog.String("stack", string(debug.Stack())))
	s.fail(ctx, w, errorBody{Code: http.StatusInternalServerError, Type: "server_error", Message: "internal error"})
}

func (s *server) health(w http.ResponseWriter, r *http.Request) {
	if s.model(r.Context(), w) != nil {
		s.json(r.Context(), w, http.StatusOK, map[string]string{"status": "ok"})
	}
}

// model is the loaded one, or nil after the caller was told to wait.
func (s *server) model(ctx context.Context, w http.ResponseWriter) *running {
	m := s.ready.Load()
	if m == nil {
		w.Header().Set("Retry-After", "1")
		s.fail(ctx, w, errorBody{Code: http.StatusServiceUnavailable, Type: "unavailable_error", Message: "Loading model"})
	}
	return m
}

func (s *server) models(w http.ResponseWriter, r *http.Request) {
	m := s.model(r.Context(), w)
	if m == nil {
		return
	}
	s.json(r.Context(), w, http.StatusOK, map[string]any{"object": "list", "data": []any{map[string]any{
		"id": m.info.Name, "object": "model", "created": m.loaded.Unix(), "owned_by": "llamacpp",
		"meta": map[string]any{"n_ctx": m.info.Context, "n_ctx_train": m.info.Trained, "n_params": m.info.Parameters, "size": m.info.Size, "description": m.info.Description},
	}}})
}

func (s *server) props(w http.ResponseWriter, r *http.Request) {
	m := s.model(r.Context(), w)
	if m == nil {
		return
	}
	s.json(r.Context(), w, http.StatusOK, map[string]any{
		"default_generation_settings": map[string]any{"n_ctx": m.info.Context, "temperature": defaultTemperature, "top_p": defaultTopP},
		"total_slots":                 1, "model_alias": m.info.Name, "chat_template": m.info.Template,
	})
}

func (s *server) chat(w http.ResponseWriter, r *http.Request) {
	m := s.model(r.Context(), w)
	if m == nil {
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		if large, ok := errors.AsType[*http.MaxBytesError](err); ok {
			s.fail(r.Context(), w, errorBody{Code: http.StatusRequestEntityTooLarge, Type: "invalid_request_error", Message: fmt.Sprintf("the body is larger than %d bytes", large.Limit)})
		}
		return // else the caller went away
	}
	req, c, err := parseChat(body)
	if err != nil {
		s.fail(r.Context(), w, errorBody{Code: http.StatusBadRequest, Type: "invalid_request_error", Message: err.Error()})
		return
	}
	select {
	case s.places <- struct{}{}:
		defer func() { <-s.places }()
	default:
		w.Header().Set("Retry-After", "2")
		s.fail(r.Context(), w, errorBody{Code: http.StatusServiceUnavailable, Type: "unavailable_error", Message: "too many requests wait for the model"})
		return
	}
	a := chatAnswer{ID: "chatcmpl-" + strconv.FormatInt(s.number.Add(1), 10), Created: time.Now().Unix(), Model: m.info.Name}
	if c.Stream {
		s.stream(w, r, m, req, a, c.StreamOptions)
		return
	}
	s.whole(w, r, m, req, a)
}

func (s *server) whole(w http.ResponseWriter, r *http.Request, m *running, req request, a chatAnswer) {
	var text []byte
	out, err := m.generate(r.Context(), req, func(piece string) error {
		text = append(text, piece...)
		return nil
	})
	if err != nil {
		s.failed(w, r, err)
		return
	}
	answer := string(text)
	a.Object, a.Usage, a.Timings = "chat.completion", out.usage(), out.timings()
	a.Choices = []chatChoice{{Message: &chatText{Role: "assistant", Content: &answer}, FinishReason: &out.Finish}}
	s.json(r.Context(), w, http.StatusOK, a)
}

func (s *server) stream(w http.ResponseWriter, r *http.Request, m *running, req request, a chatAnswer, o streamOptions) {
	a.Object = "chat.completion.chunk"
	e := events{w: w, c: http.NewResponseController(w)}
	delta := func(t chatText, finish *string) chatAnswer {
		chunk := a
		chunk.Choices = []chatChoice{{Delta: &t, FinishReason: finish}}
		return chunk
	}
	role := "assistant"
	out, err := m.generate(r.Context(), req, func(piece string) error {
		t := chatText{Role: role, Content: &piece}
		role = ""
		return e.send(delta(t, nil))
	})
	switch {
	case err != nil && !e.started:
		s.failed(w, r, err)
		return
	case err != nil:
		s.note(r, err)
		s.note(r, e.send(apiError{errorBody{Code: http.StatusInternalServerError, Type: "server_error", Message: "the answer broke off"}}))
		return
	}
	last := delta(chatText{}, &out.Finish)
	last.Timings = out.timings()
	err = e.send(last)
	if o.IncludeUsage && err == nil {
		a.Choices, a.Usage = []chatChoice{}, out.usage()
		err = e.send(a)
	}
	if err == nil {
		err = e.done()
	}
	s.note(r, err)
}

// failed answers with a generator's error. A caller who left gets nothing.
func (s *server) failed(w http.ResponseWriter, r *http.Request, err error) {
	var long tooLongError
	switch {
	case errors.As(err, &long):
		s.fail(r.Context(), w, errorBody{Code: http.StatusBadRequest, Type: "exceed_context_size_error", Message: long.Error(), Prompt: long.tokens, Context: long.context})
	case errors.Is(err, errTemplate):
		s.fail(r.Context(), w, errorBody{Code: http.StatusBadRequest, Type: "invalid_request_error", Message: err.Error()})
	case r.Context().Err() != nil:
	default:
		s.note(r, err)
		s.fail(r.Context(), w, errorBody{Code: http.StatusInternalServerError, Type: "server_error", Message: "the model failed"})
	}
}

// note logs an error, unless it only says that the caller left.
func (s *server) note(r *http.Request, err error) {
	if err != nil && r.Context().Err() == nil {
		s.log.LogAttrs(r.Context(), slog.LevelWarn, "answer failed", slog.String("error", err.Error()))
	}
}

func (s *server) fail(ctx context.Context, w http.ResponseWriter, b errorBody) {
	s.json(ctx, w, b.Code, apiError{b})
}

func (s *server) json(ctx context.Context, w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		s.log.LogAttrs(ctx, slog.LevelDebug, "answer not sent", slog.String("error", err.Error()))
	}
}

// events writes server-sent events. The head goes out with the first one, so that an error before it has its own status.
type events struct {
	w       http.ResponseWriter
	c       *http.ResponseController
	started bool
}

func (e *events) send(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode chunk: %w", err)
	}
	return e.line(b)
}

func (e *events) done() error { return e.line([]byte("[DONE]")) }

func (e *events) line(data []byte) error {
	if !e.started {
		e.started = true
		e.w.Header().Set("Content-Type", "text/event-stream")
		e.w.Header().Set("Cache-Control", "no-store")
		e.w.WriteHeader(http.StatusOK)
	}
	if _, err := fmt.Fprintf(e.w, "data: %s\n\n", data); err != nil {
		return fmt.Errorf("send chunk: %w", err)
	}
	if err := e.c.Flush(); err != nil {
		return fmt.Errorf("send chunk: %w", err)
	}
	return nil
}
