// Package childtest is a model engine for tests: a small program that speaks aran-llama's flags and API, and the
// encoder's.
//
// A test binary becomes that program when its TestMain calls Main first. How it behaves is in the name of the
// model file, in its text (see Nature) and in what it is asked.
package childtest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"aran/service/infer/encoder"
	"aran/service/infer/minilm"
)

// Model files. Only their names count.
const (
	Good  = "good.gguf"  // answers
	Crash = "crash.gguf" // ends at once
	Slow  = "slow.gguf"  // loads as long as a file `hold` lies beside the model
	Deaf  = "deaf.gguf"  // does not end with its standard input
)

// What it can be asked. Anything else is said back, word by word.
const (
	Die  = "die"  // ends in the middle of the answer
	Hang = "hang" // never answers
	Self = "self" // answers with a Report
	Long = "long" // answers 400 with a context error
	Busy = "busy" // answers 503
)

// Report is what the program knows about itself.
type Report struct {
	PID    int
	Env    []string
	Args   []string
	Dir    string
	Nice   int
	Limits string // /proc/self/limits
	Files  int    // open ones
}

// Nature is how a model behaves. It stands in its file: see File.
type Nature struct {
	Tag       string // another tag is another file
	Dim       int    // of an encoder
	Seed      uint64 // of an encoder: other seeds make other vectors
	Fails     bool   // at load
	Dies      int    // at this request and each one after it, before it answers; 0: never
	Breaks    int    // the same, in the middle of an answer
	Slow      int    // milliseconds that a request takes longer
	Gibberish bool   // a language model says something else than it was asked
}

// Heads of the files, by which the registry knows them.
const (
	headGGUF   = "GGUF\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	headPacked = "aran"
)

// File is a model file of this nature: an encoder's when it has a Dim, else a language model's.
func (n Nature) File() []byte {
	b, _ := json.Marshal(n)
	if n.Dim > 0 {
		return append([]byte(headPacked), b...)
	}
	return append([]byte(headGGUF), b...)
}

// natureOf reads what File wrote. A file without one is an ordinary model.
func natureOf(path string) (n Nature) {
	if b, err := os.ReadFile(path); err == nil { //nolint:gosec // the test's file
		_ = json.Unmarshal(b[max(0, bytes.IndexByte(b, '{')):], &n)
	}
	return n
}

// Main turns this process into the engine, and never returns, if its arguments are an engine's.
func Main() {
	if !slices.Contains(os.Args, "--socket") {
		return
	}
	run := run
	if len(os.Args) > 1 && os.Args[1] == encoder.Command {
		run = encode
	}
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "{\"level\":\"ERROR\",\"msg\":\"engine ends\",\"error\":%q}\n", err.Error())
		os.Exit(1)
	}
	os.Exit(0)
}

type engine struct {
	model  string
	nature Nature
	asked  atomic.Int64
}

func run() error {
	f := flag.NewFlagSet("engine", flag.ContinueOnError)
	f.String("lib", "", "")
	model, socket := f.String("model", "", ""), f.String("socket", "", "")
	f.Int("threads", 0, "")
	f.Int("ctx", 0, "")
	f.Int("queue", 0, "")
	if err := f.Parse(os.Args[1:]); err != nil {
		return err
	}
	name := filepath.Base(*model)
	if name == Crash {
		return fmt.Errorf("tensor 'blk.0' is not there")
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		if name != Deaf {
			os.Exit(0)
		}
	}()
	l, err := new(net.ListenConfig).Listen(context.Background(), "unix", *socket)
	if err != nil {
		return err
	}
	e := &engine{model: *model, nature: natureOf(*model)}
	if e.nature.Fails {
		return fmt.Errorf("tensor 'blk.1' is not there")
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", e.health)
	mux.HandleFunc("POST /v1/chat/completions", e.chat)
	return (&http.Server{Handler: mux, ReadHeaderTimeout: time.Second}).Serve(l)
}

func (e *engine) health(w http.ResponseWriter, _ *http.Request) {
	if filepath.Base(e.model) == Slow {
		if _, err := os.Stat(filepath.Join(filepath.Dir(e.model), "hold")); err == nil {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}
}

func (e *engine) chat(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Messages  []struct{ Role, Content string }
		MaxTokens int `json:"max_tokens"`
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil || len(in.Messages) == 0 {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	text := in.Messages[len(in.Messages)-1].Content
	n := int(e.asked.Add(1))
	time.Sleep(time.Duration(e.nature.Slow) * time.Millisecond)
	if e.nature.Dies > 0 && n >= e.nature.Dies {
		os.Exit(3)
	}
	breaks := e.nature.Breaks > 0 && n >= e.nature.Breaks
	if e.nature.Gibberish {
		text = "colourless green ideas"
	}
	switch text {
	case Hang:
		<-r.Context().Done()
		return
	case Long:
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"error":{"code":400,"message":"too long","type":"exceed_context_size_error","n_prompt_tokens":99,"n_ctx":64}}`)
		return
	case Busy:
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	case Self:
		b, _ := json.Marshal(self())
		text = string(b)
	}
	w.Header().Set("Content-Type", "text/event-stream")
	finish, said := "stop", 0
	words := strings.SplitAfter(text, " ")
	if in.Messages[len(in.Messages)-1].Content == Self {
		words = []string{text}
	}
	for _, word := range words {
		if in.MaxTokens > 0 && said == in.MaxTokens {
			finish = "length"
			break
		}
		said++
		chunk(w, fmt.Sprintf(`{"choices":[{"index":0,"delta":{"content":%s},"finish_reason":null}]}`, quote(word)))
		if text == Die || breaks {
			os.Exit(3)
		}
	}
	chunk(w, fmt.Sprintf(`{"choices":[{"index":0,"delta":{},"finish_reason":%q}]}`, finish))
	chunk(w, fmt.Sprintf(`{"choices":[],"usage":{"prompt_tokens":%d,"completion_tokens":%d}}`, len(in.Messages), said))
	chunk(w, "[DONE]")
}

func quote(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

func chunk(w http.ResponseWriter, data string) {
	_, _ = fmt.Fprintf(w, "data: %s\n\n", data)
	_ = http.NewResponseController(w).Flush()
}

func self() Report {
	r := Report{PID: os.Getpid(), Env: envOf(), Args: os.Args[1:]}
	r.Dir, _ = os.Getwd()
	raw, _ := syscall.Getpriority(syscall.PRIO_PROCESS, 0)
	r.Nice = 20 - raw // what the system call returns
	limits, _ := os.ReadFile("/proc/self/limits")
	files, _ := filepath.Glob("/proc/self/fd/*")
	r.Limits, r.Files = string(limits), len(files)
	return r
}

// envOf reads the environment as the kernel was given it.
func envOf() []string {
	b, err := os.ReadFile("/proc/self/environ")
	if err != nil {
		return []string{"unknown"}
	}
	return strings.FieldsFunc(string(b), func(r rune) bool { return r == 0 })
}

// encode is the encoder: it turns each text into the sum of directions of its words.
func encode() error {
	return encoder.Run(context.Background(), os.Args[2:], os.Stdin, slog.New(slog.NewJSONHandler(os.Stderr, nil)), func(path string) (encoder.Model, error) {
		b, err := os.ReadFile(path) //nolint:gosec // the test's file
		if err != nil {
			return nil, err
		}
		m := &words{Nature: natureOf(path), digest: fmt.Sprintf("%x", sha256.Sum256(b))}
		if m.Fails || m.Dim == 0 {
			return nil, fmt.Errorf("tensor 'blk.1' is not there")
		}
		return m, nil
	})
}

type words struct {
	Nature
	digest string
	asked  atomic.Int64
}

func (m *words) Digest() string { return m.digest }

func (m *words) Encode(ctx context.Context, texts []string) ([]minilm.Embedding, error) {
	n := int(m.asked.Add(1))
	if m.Slow > 0 {
		select {
		case <-time.After(time.Duration(m.Slow) * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if m.Dies > 0 && n >= m.Dies {
		os.Exit(3)
	}
	out := make([]minilm.Embedding, len(texts))
	for i, t := range texts {
		out[i] = minilm.Embedding{Vector: m.Vector(t), Tokens: 2 + len(strings.Fields(t))}
	}
	return out, nil
}

// Vector is what an encoder of this nature makes of a text: of unit length, alike for texts that share words.
func (n Nature) Vector(text string) []float32 {
	sum := make([]float64, n.Dim)
	for _, w := range append(strings.Fields(strings.ToLower(text)), "") {
		h := fnv.New64a()
		_, _ = fmt.Fprint(h, n.Seed, w)
		r := rand.New(rand.NewPCG(h.Sum64(), n.Seed)) //nolint:gosec // made to be repeatable
		for i := range sum {
			sum[i] += r.NormFloat64()
		}
	}
	var square float64
	for _, x := range sum {
		square += x * x
	}
	v := make([]float32, n.Dim)
	for i, x := range sum {
		v[i] = float32(x / math.Sqrt(square))
	}
	return v
}
