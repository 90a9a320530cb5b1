package llmtest

import (
	"encoding/json"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"aran/platform/llm"
)

// Server is a model server. It answers scripts in order, then whatever Reply makes (Echo at first).
// Safe for concurrent use.
type Server struct {
	key    string
	models []string
	mux    *http.ServeMux

	mu       sync.Mutex
	scripts  []Script
	reply    func(llm.Request) Script
	requests []Recorded
}

// Recorded is a request that came in.
type Recorded struct {
	Path   string
	Header http.Header
	Body   []byte
	llm.Request
}

// NewServer makes a server that lists the models. A key that is not empty is demanded of clients.
func NewServer(key string, models ...string) *Server {
	s := &Server{key: key, models: models, reply: Echo, mux: http.NewServeMux()}
	for _, prefix := range []string{"", "/v1"} {
		s.mux.HandleFunc("POST "+prefix+"/chat/completions", s.chat)
		s.mux.HandleFunc("POST "+prefix+"/messages", s.messages)
		s.mux.HandleFunc("GET "+prefix+"/models", s.list)
	}
	return s
}

// Next queues scripts.
func (s *Server) Next(scripts ...Script) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.scripts = append(s.scripts, scripts...)
}

// Reply decides what is answered when no script is queued.
func (s *Server) Reply(fn func(llm.Request) Script) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reply = fn
}

// Requests returns what came in, the oldest first (at most the last 1000).
func (s *Server) Requests() []Recorded {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Recorded(nil), s.requests...)
}

// ServeHTTP serves both formats.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	given := r.Header.Get("X-Api-Key")
	if given == "" {
		given = strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	}
	if s.key != "" && given != s.key {
		s.fail(w, r, Script{
			Status: http.StatusUnauthorized, ErrorType: "authentication_error", ErrorCode: "invalid_api_key",
			Message: "Incorrect API key provided: " + given,
		})
		return
	}
	s.mux.ServeHTTP(w, r)
}

func (s *Server) take(r *http.Request, body []byte, q llm.Request) Script {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, Recorded{Path: r.URL.Path, Header: r.Header.Clone(), Body: body, Request: q})
	if len(s.requests) > 1000 {
		s.requests = s.requests[1:]
	}
	if len(s.scripts) > 0 {
		next := s.scripts[0]
		s.scripts = s.scripts[1:]
		return next
	}
	return s.reply(q)
}

func (s *Server) list(w http.ResponseWriter, r *http.Request) {
	data := []any{}
	anthropic := r.Header.Get("Anthropic-Version") != ""
	for _, m := range s.models {
		if anthropic {
			data = append(data, map[string]any{"type": "model", "id": m, "display_name": m, "created_at": "2026-01-01T00:00:00Z"})
			continue
		}
		data = append(data, map[string]any{"id": m, "object": "model", "created": 1767225600, "owned_by": "llmtest"})
	}
	if anthropic {
		write(w, http.StatusOK, map[string]any{"data": data, "has_more": false})
		return
	}
	write(w, http.StatusOK, map[string]any{"object": "list", "data": data})
}

func (s *Server) begin(w http.ResponseWriter, r *http.Request, decode func([]byte) (llm.Request, error)) (Script, llm.Request, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return Script{}, llm.Request{}, err
	}
	q, err := decode(body)
	if err != nil {
		s.fail(w, r, Script{Status: http.StatusBadRequest, ErrorType: "invalid_request_error", Message: err.Error()})
		return Script{}, q, err
	}
	script := s.take(r, body, q)
	if script.Status != 0 {
		s.fail(w, r, script)
		return script, q, io.EOF
	}
	if script.End == Hang && len(script.Pieces) == 0 {
		<-r.Context().Done()
		return script, q, r.Context().Err()
	}
	return script, q, nil
}

func (s *Server) fail(w http.ResponseWriter, r *http.Request, f Script) {
	if f.After > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(f.After.Seconds()))))
	}
	if strings.HasSuffix(r.URL.Path, "/messages") || r.Header.Get("Anthropic-Version") != "" {
		write(w, f.Status, anthropicError(f))
		return
	}
	write(w, f.Status, openAIError(f))
}

func openAIError(f Script) map[string]any {
	e := map[string]any{"message": f.Message, "type": f.ErrorType, "param": nil, "code": nil}
	if f.ErrorCode != "" {
		e["code"] = f.ErrorCode
	}
	return map[string]any{"error": e}
}

func anthropicError(f Script) map[string]any {
	e := map[string]any{"message": f.Message, "type": f.ErrorType}
	if f.ErrorCode != "" {
		e["details"] = map[string]string{"error_code": f.ErrorCode}
	}
	return map[string]any{"type": "error", "error": e, "request_id": "req_test"}
}

func write(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// stream sends events.
type stream struct {
	w http.ResponseWriter
}

func newStream(w http.ResponseWriter) stream {
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	w.WriteHeader(http.StatusOK)
	return stream{w: w}
}

func (s stream) send(name string, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	if name != "" {
		_, _ = io.WriteString(s.w, "event: "+name+"\n")
	}
	_, _ = io.WriteString(s.w, "data: "+string(b)+"\n\n")
	_ = http.NewResponseController(s.w).Flush()
}

// finish does what a script says after its pieces; it reports whether the answer goes on to a proper end.
func (s stream) finish(r *http.Request, end End, failure any) bool {
	switch end {
	case Cut:
		panic(http.ErrAbortHandler)
	case Hang:
		<-r.Context().Done()
		return false
	case Error:
		s.send("error", failure)
		return false
	default:
		return true
	}
}
