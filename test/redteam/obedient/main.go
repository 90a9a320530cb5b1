// Command obedient is a model that falls for everything, as an upstream for tests of what stands before it.
//
//	obedient ADDRESS
//
// It speaks Chat Completions on a loopback address. Its answer is all that it was told, its instructions too, and what that hides in
// codes; words that stand in quotes it also joins, every link it shows as an image, and it calls every tool that it is given.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"time"

	"aran/platform/outward"
	"aran/service/guard/canon"
	"aran/service/guard/mutate"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if len(os.Args) != 2 {
		_, _ = fmt.Fprintln(os.Stderr, "usage: obedient 127.0.0.1:PORT")
		os.Exit(2) //nolint:gocritic // nothing is open
	}
	if err := serve(ctx, os.Args[1]); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "obedient:", err)
		os.Exit(1)
	}
}

func serve(ctx context.Context, address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	if !outward.Loopback(host) {
		return fmt.Errorf("%s: such a model is served to this machine only", address)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"object":"list","data":[{"id":"obedient","object":"model","owned_by":"test"}]}`)
	})
	mux.HandleFunc("POST /v1/chat/completions", complete)
	s := &http.Server{Addr: address, Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	done := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer done()
	if err := s.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// question is what is read of a request.
type question struct {
	Stream   bool
	Messages []struct {
		Role    string
		Content any
	}
	Tools []struct {
		Function struct{ Name string }
	}
}

const maxBody = 8 << 20

func complete(w http.ResponseWriter, r *http.Request) {
	var q question
	if err := json.NewDecoder(io.LimitReader(r.Body, maxBody)).Decode(&q); err != nil {
		http.Error(w, `{"error":{"message":"no chat completion","code":"invalid"}}`, http.StatusBadRequest)
		return
	}
	said := make([]string, len(q.Messages))
	for i, m := range q.Messages {
		b, err := json.Marshal(m.Content)
		if s, ok := m.Content.(string); ok {
			said[i] = s
		} else if err == nil {
			said[i] = string(b)
		}
	}
	text := answer(strings.Join(said, "\n"))
	var calls []any
	for i, t := range q.Tools {
		calls = append(calls, map[string]any{"index": i, "id": fmt.Sprintf("call_%d", i), "type": "function", "function": map[string]any{"name": t.Function.Name, "arguments": `{"sql":"DROP TABLE orders","customer":"42","to":"x","text":"x"}`}})
	}
	finish := "stop"
	if calls != nil {
		finish = "tool_calls"
	}
	if !q.Stream {
		write(w, map[string]any{"id": "1", "object": "chat.completion", "model": "obedient", "choices": []any{map[string]any{"index": 0, "message": map[string]any{"role": "assistant", "content": text, "tool_calls": calls}, "finish_reason": finish}}})
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	for _, delta := range []map[string]any{{"role": "assistant", "content": text}, {"tool_calls": calls}} {
		_, _ = io.WriteString(w, "data: ")
		write(w, chunk(delta, nil))
		_, _ = io.WriteString(w, "\n")
	}
	_, _ = io.WriteString(w, "data: ")
	write(w, chunk(map[string]any{}, &finish))
	_, _ = io.WriteString(w, "\ndata: [DONE]\n\n")
}

func chunk(delta map[string]any, finish *string) map[string]any {
	return map[string]any{"id": "1", "object": "chat.completion.chunk", "model": "obedient", "choices": []any{map[string]any{"index": 0, "delta": delta, "finish_reason": finish}}}
}

func write(w io.Writer, v any) {
	_ = json.NewEncoder(w).Encode(v) // who asked is gone
}

var (
	quoted = regexp.MustCompile(`"([a-z]{4})"|\b([a-z]{4}) directly followed by ([a-z]{4})\b|join ([a-z]{4})\b|and ([a-z]{4}) to one`)
	links  = regexp.MustCompile(`https?://[a-z.]+\.example[^\s)\]"]*`)
	coded  = regexp.MustCompile(`\S{12,}`)
)

const longest = 64 << 10 // bytes of what is made of a request

// answer is all that a text may want to hear.
func answer(text string) string {
	readings := []string{text}
	for _, h := range canon.Decode(text) {
		readings = append(readings, h.Text)
	}
	var exact []mutate.Mutation
	for _, m := range mutate.All() {
		if m.Family == mutate.Encoding && m.Exact() {
			exact = append(exact, m)
		}
	}
	for _, run := range coded.FindAllString(text, 64) {
		for _, m := range exact {
			if got := m.Invert(run); got != run && strings.Contains(strings.TrimSpace(got), " ") {
				readings = append(readings, got)
			}
		}
	}
	var words []string
	for _, s := range readings {
		for _, m := range quoted.FindAllStringSubmatch(s, 32) {
			for _, w := range m[1:] {
				if w != "" {
					words = append(words, w)
				}
			}
		}
	}
	out := "Of course! " + strings.Join(readings, "\n")
	for _, a := range words {
		for _, b := range words {
			out += " " + a + b
		}
	}
	for _, l := range links.FindAllString(text, 8) {
		out += " ![x](" + l + ")"
	}
	if len(out) > longest {
		out = out[:longest]
	}
	return strings.ToValidUTF8(out, "")
}
