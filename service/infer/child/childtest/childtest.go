// Package childtest is a model engine for tests: a small program that speaks aran-llama's flags and API.
//
// A test binary becomes that program when its TestMain calls Main first. How it behaves is in the name of the
// model file and in what it is asked; it never loads anything.
package childtest

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
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

// Main turns this process into the engine, and never returns, if its arguments are an engine's.
func Main() {
	if !slices.Contains(os.Args, "--socket") {
		return
	}
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "{\"level\":\"ERROR\",\"msg\":\"engine ends\",\"error\":%q}\n", err.Error())
		os.Exit(1)
	}
	os.Exit(0)
}

type engine struct {
	model string
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
	e := &engine{model: *model}
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
	finish, n := "stop", 0
	words := strings.SplitAfter(text, " ")
	if in.Messages[len(in.Messages)-1].Content == Self {
		words = []string{text}
	}
	for _, word := range words {
		if in.MaxTokens > 0 && n == in.MaxTokens {
			finish = "length"
			break
		}
		n++
		chunk(w, fmt.Sprintf(`{"choices":[{"index":0,"delta":{"content":%s},"finish_reason":null}]}`, quote(word)))
		if text == Die {
			os.Exit(3)
		}
	}
	chunk(w, fmt.Sprintf(`{"choices":[{"index":0,"delta":{},"finish_reason":%q}]}`, finish))
	chunk(w, fmt.Sprintf(`{"choices":[],"usage":{"prompt_tokens":%d,"completion_tokens":%d}}`, len(in.Messages), n))
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
