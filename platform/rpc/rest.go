package rpc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"time"

	"aran/platform/fault"
)

// Page is the query of a list.
type Page struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"50" doc:"how many at most"`
	Cursor string `query:"cursor" maxLength:"200" doc:"from the previous page's next_cursor"`
}

const maxIdempotencyKey = 128

// IdempotencyKey reads and checks the header of that name; empty when there is none.
func IdempotencyKey(h http.Header) (string, error) {
	return CheckIdempotencyKey(h.Get("Idempotency-Key"))
}

// CheckIdempotencyKey checks the form of a key: up to 128 visible ASCII characters.
func CheckIdempotencyKey(key string) (string, error) {
	if len(key) > maxIdempotencyKey || strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fault.New(fault.Invalid, "idempotency_key", "Idempotency-Key takes up to %d visible ASCII characters.", maxIdempotencyKey)
	}
	return key, nil
}

// DecodeJSON reads one JSON value into v: unknown fields, trailing text, wrong types and too large bodies are faults that name the field or offset.
func DecodeJSON(r *http.Request, v any) error {
	if ct := r.Header.Get("Content-Type"); ct != "" {
		if t, _, err := mime.ParseMediaType(ct); err != nil || t != "application/json" && !strings.HasSuffix(t, "+json") {
			return fault.New(fault.Unsupported, "content_type", "Content-Type %q is not JSON.", ct)
		}
	}
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return asFault(err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return jsonFault(err, v)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return fault.New(fault.Invalid, "malformed_json", "After the JSON value there is more, at byte %d.", d.InputOffset())
	}
	return nil
}

func jsonFault(err error, v any) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fault.New(fault.Invalid, "malformed_json", "The JSON is malformed at byte %d.", syntax.Offset).Because(err)
	case errors.As(err, &kind):
		f := fault.New(fault.Invalid, "invalid", "The request breaks a rule: see errors.").Because(err)
		f.Fields = []fault.Field{{Path: kind.Field, Message: fmt.Sprintf("a %s is not expected here", kind.Value)}}
		return f
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fault.New(fault.Invalid, "malformed_json", "The JSON ends early.").Because(err)
	}
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok { // encoding/json has no type for it
		name = strings.Trim(name, `"`)
		f := fault.New(fault.Invalid, "unknown_field", "There is no field %q.", name)
		if near := nearest(name, fieldNames(reflect.TypeOf(v), 3)); near != "" {
			f.Detail = fmt.Sprintf("There is no field %q; did you mean %q?", name, near)
		}
		f.Fields = []fault.Field{{Path: name, Rule: "unknown_field", Message: f.Detail}}
		return f
	}
	return fault.New(fault.Invalid, "malformed_json", "The JSON can't be read.").Because(err)
}

// fieldNames lists the JSON names of a type, some levels deep.
func fieldNames(t reflect.Type, depth int) (out []string) {
	for t != nil && (t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice) {
		t = t.Elem()
	}
	if t == nil || t.Kind() != reflect.Struct || depth == 0 {
		return nil
	}
	for field := range t.Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name != "" && name != "-" {
			out = append(out, name)
		}
		out = append(out, fieldNames(field.Type, depth-1)...)
	}
	return out
}

// nearest returns the candidate that is at most two edits away, if one is.
func nearest(name string, candidates []string) string {
	best, dist := "", 3
	for _, c := range candidates {
		if d := edits(name, c); d < dist {
			best, dist = c, d
		}
	}
	return best
}

// edits is the Levenshtein distance.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diagonal
			if a[i-1] != b[j-1] {
				cost++
			}
			diagonal, row[j] = row[j], min(row[j]+1, row[j-1]+1, cost)
		}
	}
	return row[len(b)]
}

// SSE is a server-sent event stream: headers, flush per event, comments as heartbeats. Safe for concurrent use.
type SSE struct {
	mu sync.Mutex
	w  http.ResponseWriter
	c  *http.ResponseController
}

// NewSSE starts the stream (status 200, text/event-stream).
func NewSSE(w http.ResponseWriter) (*SSE, error) {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)
	s := &SSE{w: w, c: http.NewResponseController(w)}
	if err := s.c.Flush(); err != nil {
		return nil, fmt.Errorf("stream: %w", err)
	}
	return s, nil
}

// Send writes one event; name may be empty. Data must not hold line breaks that are meant to stay: each becomes a data line.
func (s *SSE) Send(name string, data []byte) error {
	var b bytes.Buffer
	if name != "" {
		b.WriteString("event: " + strings.NewReplacer("\n", "", "\r", "").Replace(name) + "\n")
	}
	for line := range bytes.SplitSeq(data, []byte("\n")) {
		b.WriteString("data: ")
		b.Write(line)
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
	return s.write(b.Bytes())
}

func (s *SSE) write(b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.w.Write(b); err != nil {
		return fmt.Errorf("stream: %w", err)
	}
	return s.c.Flush()
}

// Heartbeat writes a comment every d until stop is called, so that proxies and clients see life.
func (s *SSE) Heartbeat(d time.Duration) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		t := time.NewTicker(d)
		defer t.Stop()
		for {
			select {
			case <-quit:
				return
			case <-t.C:
				if s.write([]byte(": alive\n\n")) != nil {
					return
				}
			}
		}
	}()
	return sync.OnceFunc(func() { close(quit); <-done })
}
