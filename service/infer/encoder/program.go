// Package encoder runs a text encoder in a process of its own: the program that computes, and the client that
// asks it over its socket.
//
// The program is this binary under another subcommand. It reads one file of weights, whose SHA-256 it is told,
// and nothing else; it knows no tenant and keeps no text. It ends when its standard input does, which is when its
// parent ends, however that happened. What it answers is outside data: the client checks its shape.
package encoder

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"os"
	"time"

	"aran/service/infer/e5"
	"aran/service/infer/minilm"
)

// Command is the subcommand under which a binary runs Main.
const Command = "encoder-child"

// Builtin stands for the model inside the program, in place of a file.
const Builtin = "builtin"

// Args are what the program is called with.
func Args(model, sha256 string) []string {
	args := []string{Command, "--model", model}
	if sha256 != "" {
		args = append(args, "--sha256", sha256)
	}
	return args
}

// Model is an encoder. Safe for concurrent use.
type Model interface {
	Encode(ctx context.Context, texts []string) ([]minilm.Embedding, error)
	Digest() string // SHA-256 of its file
}

// Asker is a model that encodes texts that ask in another way than texts that are to be found.
type Asker interface {
	EncodeQueries(ctx context.Context, texts []string) ([]minilm.Embedding, error)
}

// Main is the program: it serves on the socket until its parent ends. It returns an error when it could not
// begin. Logs are JSON lines.
func Main(ctx context.Context, args []string, parent io.Reader, log io.Writer) error {
	return Run(ctx, args, parent, slog.New(slog.NewJSONHandler(log, nil)), open)
}

// Run is Main with another way to open a model, for programs that stand in for an encoder.
func Run(ctx context.Context, args []string, parent io.Reader, log *slog.Logger, open func(string) (Model, error)) error {
	f := flag.NewFlagSet(Command, flag.ContinueOnError)
	f.SetOutput(io.Discard)
	model, socket := f.String("model", "", "file of the weights, or "+Builtin), f.String("socket", "", "path of the Unix socket; its folder must be private")
	sum := f.String("sha256", "", "of the file; another one is refused")
	err := f.Parse(args)
	if err == nil && (*model == "" || *socket == "") {
		err = errors.New("--model and --socket are needed")
	}
	if err != nil {
		return failed(ctx, log, fmt.Errorf("flags: %w", err))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, parent) // ends with the parent
		cancel()
	}()
	m, err := open(*model)
	if err == nil && *sum != "" && m.Digest() != *sum {
		err = fmt.Errorf("the file has SHA-256 %s, want %s", m.Digest(), *sum)
	}
	if err == nil {
		_, err = m.Encode(ctx, []string{"a"}) // the weights of the built-in one are checked now
	}
	if err == nil {
		err = serve(ctx, *socket, m)
	}
	if err != nil && ctx.Err() == nil {
		return failed(ctx, log, err)
	}
	return nil
}

// failed writes the error in the form in which the parent reads it.
func failed(ctx context.Context, log *slog.Logger, err error) error {
	log.LogAttrs(ctx, slog.LevelError, "encoder ends", slog.String("error", err.Error()))
	return err
}

// open reads the model that the file is of.
func open(path string) (Model, error) {
	if path == Builtin {
		return minilm.Load()
	}
	f, err := os.Open(path) //nolint:gosec // the parent names it
	if err != nil {
		return nil, fmt.Errorf("open the encoder: %w", err)
	}
	head := make([]byte, 16)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, errors.Join(fmt.Errorf("read the encoder: %w", err), f.Close())
	}
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("read the encoder: %w", err)
	}
	if e5.Is(string(head[:n])) {
		return e5.Open(path)
	}
	return minilm.Open(path)
}

// Bounds of a call.
const (
	maxRequest  = 64 << 20
	maxTexts    = 1024
	maxDim      = 1 << 16
	headerBytes = 8
	rowBytes    = 8 // before the numbers
)

func serve(ctx context.Context, socket string, m Model) error {
	l, err := new(net.ListenConfig).Listen(ctx, "unix", socket)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	if err := os.Chmod(socket, 0o600); err != nil {
		return errors.Join(fmt.Errorf("socket: %w", err), l.Close())
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /encode", func(w http.ResponseWriter, r *http.Request) { encode(w, r, m) })
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: time.Second}
	go func() {
		<-ctx.Done()
		_ = srv.Close()
	}()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

type request struct {
	Texts []string `json:"texts"`
	Query bool     `json:"query,omitempty"` // they ask; else they are to be found
}

func encode(w http.ResponseWriter, r *http.Request, m Model) {
	var in request
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest)).Decode(&in); err != nil || len(in.Texts) == 0 || len(in.Texts) > maxTexts {
		http.Error(w, "want {\"texts\": [1 to 1024]}", http.StatusBadRequest)
		return
	}
	do := m.Encode
	if q, ok := m.(Asker); ok && in.Query {
		do = q.EncodeQueries
	}
	out, err := do(r.Context(), in.Texts)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	b := pack(out)
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = w.Write(b) // the parent has gone: nothing to tell
}

// pack writes embeddings, all numbers little-endian of 32 bits: how many, their dim; then for each how many tokens,
// whether it was truncated, and its numbers.
func pack(out []minilm.Embedding) []byte {
	dim := len(out[0].Vector)
	b := make([]byte, 0, headerBytes+len(out)*(rowBytes+4*dim))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(out))) //nolint:gosec // bounded by maxTexts
	b = binary.LittleEndian.AppendUint32(b, uint32(dim))      //nolint:gosec // bounded by the model
	for _, e := range out {
		truncated := uint32(0)
		if e.Truncated {
			truncated = 1
		}
		b = binary.LittleEndian.AppendUint32(b, uint32(e.Tokens)) //nolint:gosec // bounded by the model's window
		b = binary.LittleEndian.AppendUint32(b, truncated)
		for _, x := range e.Vector {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
		}
	}
	return b
}
