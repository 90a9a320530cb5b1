package llm

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"aran/platform/fault"
)

var update = flag.Bool("update", false, "rewrite golden files")

// FuzzDecodeChat: what is accepted can be sent on, and means the same after a second reading.
func FuzzDecodeChat(f *testing.F) {
	f.Add([]byte(`{"model":"m","messages":[{"role":"user","content":"x"}],"stream_options":{"include_usage":true,"a":1}}`))
	f.Add([]byte(`{"model":"m","messages":[{"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"1","content":[{"type":"text","text":"y"}]}],"stop":"a"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		again(t, body, DecodeChat, func(r *Request) ([]byte, error) { return encodeChat(r, chatStyle{}) })
	})
}

// FuzzDecodeMessages: the same for Anthropic's format.
func FuzzDecodeMessages(f *testing.F) {
	f.Add([]byte(`{"model":"m","max_tokens":1,"system":[{"type":"text","text":"s","cache_control":{}}],"messages":[{"role":"user","content":"x"}]}`))
	f.Add([]byte(`{"model":"m","max_tokens":1,"messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"1","content":[{"type":"image"}]}]}],"tools":[{"name":"f","input_schema":{}}],"tool_choice":{"type":"any"}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		again(t, body, DecodeMessages, func(r *Request) ([]byte, error) { return encodeMessages(r, 1) })
	})
}

func again(t *testing.T, body []byte, decode func([]byte) (Request, error), encode func(*Request) ([]byte, error)) {
	r, err := decode(body)
	if err != nil {
		if fault.KindOf(err) != fault.Invalid {
			t.Fatalf("%v is no fault of kind invalid", err)
		}
		return
	}
	out, err := encode(&r)
	if err != nil {
		t.Fatalf("accepted, but cannot be sent: %v", err)
	}
	if !json.Valid(out) {
		t.Fatalf("not JSON: %s", out)
	}
	second, err := decode(out)
	if err != nil {
		t.Fatalf("what we send cannot be read: %v\n%s", err, out)
	}
	if a, b := said(&r), said(&second); a != b {
		t.Errorf("texts %q became %q", a, b)
	}
	if len(r.Unread()) != len(second.Unread()) || len(r.Extra) > len(second.Extra) {
		t.Errorf("fields were lost: %v, %v", r.Extra, second.Extra)
	}
	for _, e := range []func() ([]byte, error){
		func() ([]byte, error) { return encodeChat(&r, everything) },
		func() ([]byte, error) { return encodeMessages(&r, 1) },
	} {
		if out, err := e(); err == nil && !json.Valid(out) {
			t.Errorf("the translation is not JSON: %s", out)
		}
	}
}

// said is all text that is not empty (absent and empty content are the same to a model).
func said(r *Request) string {
	var all []string
	for _, text := range r.Texts() {
		if *text != "" {
			all = append(all, *text)
		}
	}
	return strings.Join(all, "\x00")
}

// FuzzSSE: however the bytes arrive, the events are the same, and none is larger than allowed.
func FuzzSSE(f *testing.F) {
	f.Add([]byte("event: a\ndata: 1\ndata: 2\n\ndata: 3\r\n\r\n: comment\rdata:4\r\r"))
	f.Add([]byte("\xef\xbb\xbfdata: bom\n\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		const limit = 64
		whole := eventsOf(t, bytes.NewReader(in), limit)
		if bytewise := eventsOf(t, iotest.OneByteReader(bytes.NewReader(in)), limit); whole != bytewise {
			t.Errorf("%q read whole, %q read by bytes", whole, bytewise)
		}
	})
}

func eventsOf(t *testing.T, r io.Reader, limit int) string {
	t.Helper()
	s := NewSSEReader(r, limit)
	var b strings.Builder
	for {
		name, data, err := s.Next()
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, ErrLine) {
				t.Fatalf("error %v", err)
			}
			return b.String() + "|" + err.Error()
		}
		if len(name)+len(data) > limit {
			t.Fatalf("event of %d bytes", len(name)+len(data))
		}
		b.WriteString(name + "=" + string(data) + ";")
	}
}

func TestSSE(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"several lines of data", "event: a\ndata: 1\ndata: 2\n\n", "a=1\n2;|EOF"},
		{"all line ends", "data: 1\r\n\r\ndata: 2\r\rdata: 3\n\n", "=1;=2;=3;|EOF"},
		{"a comment is nothing", ": hello\n\ndata: 1\n\n", "=1;|EOF"},
		{"no space after the colon, or two", "data:1\n\ndata:  2\n\n", "=1;= 2;|EOF"},
		{"a name does not outlive its event", "event: a\n\ndata: 1\n\n", "=1;|EOF"},
		{"empty data is an event", "data\n\n", "=;|EOF"},
		{"what is cut off is dropped", "data: 1\n\ndata: 2\n", "=1;|EOF"},
		{"a line that is too long", "data: " + strings.Repeat("x", 200), "|server-sent event is too large"},
		{"an event that is too long", strings.Repeat("data: xxxxxxxxxxxxxxxxxxxx\n", 10), "|server-sent event is too large"},
	} {
		if got := eventsOf(t, strings.NewReader(c.in), 64); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// FuzzChunks: no event of a provider makes the reader panic or answer without an end.
func FuzzChunks(f *testing.F) {
	f.Add([]byte(`{"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"stop"}],"usage":{"prompt_tokens":-1}}`), []byte(`{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":1}}`))
	f.Fuzz(func(t *testing.T, chunk, event []byte) {
		c := &client{name: "p", parse: parseOpenAIError}
		s := &chatStream{events: &events{c: c}}
		for range 3 {
			if s.chunk(chunk) != nil {
				break
			}
		}
		if len(s.calls) > maxTools+1 || s.last.Usage.Input < 0 {
			t.Errorf("%d calls, usage %+v", len(s.calls), s.last.Usage)
		}
		m := &messageStream{events: &events{c: c}, calls: map[int]int{}}
		var e messageEvent
		if json.Unmarshal(event, &e) == nil {
			for range 3 {
				if _, err := m.event(&e, event); err != nil {
					break
				}
			}
		}
		if m.ended && m.last.Finish == "" {
			t.Error("ended without a reason")
		}
	})
}
