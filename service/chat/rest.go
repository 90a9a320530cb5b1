package chat

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"aran/platform/auth"
	"aran/platform/fault"
	"aran/platform/llm"
	"aran/platform/rpc"
)

const (
	rungHeader  = "Aran-Rung"
	maxListBody = 1 << 10 // requests without a body
)

// routes serves the model APIs. They speak the vendors' formats, errors included.
func (s *Service) routes() *rpc.Public {
	p := rpc.NewPublic(s.d.Server, "Chat")
	p.WriteErrors(s.refuse)
	for _, r := range []struct {
		method, pattern, scope string
		maxBody                int64
		h                      http.HandlerFunc
		id, summary, about     string
	}{
		{http.MethodPost, "/v1/chat/completions", auth.ScopeChat, s.cfg.MaxBody, s.chatCompletions, "create-chat-completion", "Answer (OpenAI format)", "OpenAI's Chat Completions API; `aran.collections` names where to look for passages."},
		{http.MethodPost, "/v1/messages", auth.ScopeChat, s.cfg.MaxBody, s.messages, "create-message", "Answer (Anthropic format)", "Anthropic's Messages API; `aran.collections` names where to look for passages."},
		{http.MethodPost, "/v1/messages/count_tokens", auth.ScopeChat, s.cfg.MaxBody, s.countTokens, "count-tokens", "Estimate tokens (Anthropic format)", "An estimate from the text's length; `aran.estimate` says so."},
		{http.MethodPost, "/v1/embeddings", auth.ScopeEmbed, s.cfg.MaxBody, s.embeddings, "create-embeddings", "Embed texts (OpenAI format)", "OpenAI's Embeddings API with the built-in encoder."},
		{http.MethodGet, "/v1/models", auth.ScopeModels, maxListBody, s.listModels, "list-models", "List models", "In OpenAI's format, or in Anthropic's when the request has an anthropic-version header."},
		{http.MethodGet, "/v1/models/{id...}", auth.ScopeModels, maxListBody, s.getModel, "get-model", "Get a model", "In OpenAI's format, or in Anthropic's when the request has an anthropic-version header."},
	} {
		p.Handle(r.method, r.pattern, rpc.Access{Scope: r.scope}, r.maxBody, r.h)
		p.Document(huma.Operation{
			OperationID: r.id, Method: r.method, Path: r.pattern, Summary: r.summary, Description: r.about, Tags: []string{"models"},
			RequestBody: takes(r.id), Responses: gives(r.id),
		})
	}
	return p
}

// body reads a request whose size the route bounds.
func body(r *http.Request) ([]byte, error) {
	b, err := io.ReadAll(r.Body)
	if large, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, fault.New(fault.TooLarge, "body_too_large", "The body is larger than %d bytes.", large.Limit)
	}
	if err != nil {
		return nil, fault.New(fault.Canceled, "body", "The body ended early.").Because(err)
	}
	return b, nil
}

// ask is the request extension.
type ask struct {
	Collections  []string
	Conversation string
}

var collectionName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)

const (
	maxCollections  = 16
	maxConversation = 100 // characters
)

// extension takes our own field out of a request. Unlike the vendors' fields it knows no strangers.
func extension(q *llm.Request) (ask, error) {
	raw, there := q.Extra["aran"]
	delete(q.Extra, "aran")
	if !there || string(raw) == "null" {
		return ask{}, nil
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(raw, &fields) != nil {
		return ask{}, invalid("aran", "must be an object")
	}
	var out ask
	for key, v := range fields {
		switch key {
		case "collections":
			if json.Unmarshal(v, &out.Collections) != nil {
				return ask{}, invalid("aran.collections", "must be an array of names")
			}
		case "cache": // permission to answer from a cache; there is none, and the answer says so
			var allowed bool
			if json.Unmarshal(v, &allowed) != nil {
				return ask{}, invalid("aran.cache", "must be true or false")
			}
		case "conversation": // scopes pseudonyms, and what is known of what was read
			if json.Unmarshal(v, &out.Conversation) != nil || !conversationName(out.Conversation) {
				return ask{}, invalid("aran.conversation", "must be a name of 1 to "+strconv.Itoa(maxConversation)+" characters, without control characters")
			}
		case "template":
			return ask{}, invalid("aran."+key, "is not offered yet; leave it out")
		default:
			return ask{}, invalid("aran."+short(key, 64), "is unknown; there are collections, conversation and cache")
		}
	}
	if len(out.Collections) > maxCollections {
		return ask{}, invalid("aran.collections", "takes at most "+strconv.Itoa(maxCollections)+" names")
	}
	for _, name := range out.Collections {
		if !collectionName.MatchString(name) {
			return ask{}, invalid("aran.collections", "names are lower-case letters, digits, - and _")
		}
	}
	slices.Sort(out.Collections)
	out.Collections = slices.Compact(out.Collections)
	return out, nil
}

func conversationName(s string) bool {
	return s != "" && utf8.RuneCountInString(s) <= maxConversation && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

func invalid(path, message string) error {
	f := fault.New(fault.Invalid, "invalid_value", "%s: %s", path, message)
	f.Fields = []fault.Field{{Path: path, Message: message}}
	return f
}

func (s *Service) chatCompletions(w http.ResponseWriter, r *http.Request) {
	s.answer(w, r, llm.DecodeChat, func(sink sink) voice { return &chatVoice{sink: sink} })
}

func (s *Service) messages(w http.ResponseWriter, r *http.Request) {
	s.answer(w, r, llm.DecodeMessages, func(sink sink) voice { return &messageVoice{sink: sink} })
}

// voice writes an answer in a vendor's format, streamed or whole.
type voice interface {
	begin() error
	piece(p Piece) error
	end() error
	broke(err error) error
	whole() any
}

// sink is what a voice needs to know and write to.
type sink struct {
	q   llm.Request
	a   *Answer
	id  string // of the request
	now int64
	out *rpc.SSE // nil: not streamed
}

func (s sink) send(name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err //nolint:wrapcheck // ours
	}
	return s.out.Send(name, b)
}

func (s *Service) answer(w http.ResponseWriter, r *http.Request, decode func([]byte) (llm.Request, error), speak func(sink) voice) {
	ctx := r.Context()
	q := Question{Identity: auth.From(ctx), RequestID: rpc.RequestID(ctx)}
	b, err := body(r)
	if err == nil {
		q.Request, err = decode(b)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	q.Request.Headers = llm.AnthropicHeaders(r.Header.Get)
	x, err := extension(&q.Request)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	q.Collections, q.Conversation = x.Collections, x.Conversation
	a, err := s.Ask(ctx, q)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	defer a.Close()
	w.Header().Set(rungHeader, string(a.Rung))
	s.name(w, q.RequestID)
	sink := sink{q: q.Request, a: a, id: q.RequestID, now: a.c.begin.Unix()}
	if q.Request.Stream {
		s.stream(w, r, sink, speak)
		return
	}
	v := speak(sink)
	if err := drain(a, v); err != nil {
		s.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, v.whole())
}

// name tells the vendors' SDKs the id of the request in the headers they read.
func (s *Service) name(w http.ResponseWriter, id string) {
	w.Header().Set(rpc.RequestIDHeader, id)
	w.Header().Set("X-Request-Id", id)
	w.Header().Set("Request-Id", id)
}

func drain(a *Answer, v voice) error {
	for {
		p, err := a.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = v.piece(p)
		}
		if err != nil {
			return err
		}
	}
}

// stream writes an answer as it comes. What breaks after the first byte is told in the stream: never spliced over.
func (s *Service) stream(w http.ResponseWriter, r *http.Request, sink sink, speak func(sink) voice) {
	out, err := rpc.NewSSE(w)
	if err != nil {
		return // the client is gone, or cannot be streamed to: Close records it
	}
	stop := out.Heartbeat(s.cfg.Heartbeat)
	defer stop()
	sink.out = out
	v := speak(sink)
	if v.begin() != nil {
		return
	}
	for {
		p, err := sink.a.Next()
		switch {
		case errors.Is(err, io.EOF):
			_ = v.end()
			return
		case err != nil:
			if r.Context().Err() == nil {
				s.log(r, err)
				_ = v.broke(err)
			}
			return
		}
		if v.piece(p) != nil {
			return // the client is gone: Close records it
		}
	}
}

func (s *Service) log(r *http.Request, err error) {
	level := slog.LevelDebug
	switch fault.KindOf(err) {
	case fault.Internal:
		level = slog.LevelError
	case fault.Unavailable, fault.Deadline:
		level = slog.LevelWarn
	default:
	}
	s.d.Log.LogAttrs(r.Context(), level, "no answer", slog.String("request_id", rpc.RequestID(r.Context())),
		slog.String("kind", fault.KindOf(err).String()), slog.String("error", err.Error()))
}

// fail writes an error that comes before an answer.
func (s *Service) fail(w http.ResponseWriter, r *http.Request, err error) {
	err = rpc.Ended(r.Context(), err)
	s.log(r, err)
	s.refuse(w, r, err)
}

// refuse writes an error in the vendor's format.
func (s *Service) refuse(w http.ResponseWriter, r *http.Request, err error) {
	f := fault.From(err)
	if f == nil || f.Kind == fault.Internal {
		f = fault.New(fault.Internal, "internal", "Something broke here; the log has the details under this request id.")
	}
	id := rpc.RequestID(r.Context())
	s.name(w, id)
	if f.RetryAfter > 0 {
		w.Header().Set("Retry-After", rpc.RetryAfter(f.RetryAfter))
	}
	status := rpc.Status(f)
	if f.Kind == fault.Unsupported {
		status = http.StatusBadRequest // not 501: the client can change its request
	}
	shape := openAIError
	if anthropicClient(r) {
		shape = anthropicError
	}
	out := shape(f, id)
	if blocked, ok := errors.AsType[*BlockedError](err); ok {
		out["aran"] = blocked.Extension
	}
	writeJSON(w, status, out)
}

func anthropicClient(r *http.Request) bool {
	return strings.HasPrefix(r.URL.Path, "/v1/messages") || r.Header.Get("Anthropic-Version") != ""
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}
