// Command aran-llama is the local language model engine: llama.cpp behind llama-server's API, on a Unix socket.
//
// It is a child program on purpose: native code and model files that came from elsewhere can end this
// process, never the platform. It serves whoever can open the socket, so its folder must be private. It ends
// when its standard input does, which is when its parent ends, however that happened.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

type options struct {
	engine engineOptions
	socket string
	queue  int
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	err := start(ctx, os.Args[1:], os.Stdin, log)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		log.LogAttrs(context.Background(), slog.LevelError, "aran-llama ends", slog.String("error", err.Error()))
		os.Exit(1)
	}
}

func start(ctx context.Context, args []string, parent io.Reader, log *slog.Logger) error {
	o, err := parse(args, os.Stderr)
	if err != nil {
		return err
	}
	o.engine.Log = log
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		_, err := io.Copy(io.Discard, parent) // ends with the parent
		log.LogAttrs(ctx, slog.LevelDebug, "standard input ended", slog.Any("error", err))
		cancel()
		time.AfterFunc(300*time.Millisecond, func() { os.Exit(0) }) // native code can't be told to hurry
	}()
	return serve(ctx, o, log)
}

func parse(args []string, w io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("aran-llama", flag.ContinueOnError)
	f.SetOutput(w)
	f.StringVar(&o.engine.Lib, "lib", "", "folder with libllama.so and its backends")
	f.StringVar(&o.engine.Model, "model", "", "model file (GGUF)")
	f.StringVar(&o.socket, "socket", "", "path of the Unix socket; its folder must be private")
	f.IntVar(&o.engine.Threads, "threads", 1, "threads; more than there are free cores make it much slower")
	f.IntVar(&o.engine.Context, "ctx", 2048, "context in tokens; 0: as trained")
	f.IntVar(&o.queue, "queue", 8, "requests that may wait")
	f.BoolVar(&o.engine.Verbose, "verbose", false, "let llama.cpp write its log to standard error")
	if err := f.Parse(args); err != nil {
		return o, fmt.Errorf("flags: %w", err)
	}
	switch {
	case o.engine.Lib == "" || o.engine.Model == "" || o.socket == "":
		return o, errors.New("--lib, --model and --socket are needed")
	case o.engine.Threads < 1 || o.engine.Threads > 256:
		return o, fmt.Errorf("--threads %d: use 1 to 256", o.engine.Threads)
	case o.engine.Context < 0 || o.engine.Context > 1<<20:
		return o, fmt.Errorf("--ctx %d: use 0 to %d", o.engine.Context, 1<<20)
	case o.queue < 0 || o.queue > 1024:
		return o, fmt.Errorf("--queue %d: use 0 to 1024", o.queue)
	}
	return o, nil
}

// serve listens at once, loads, and answers until ctx ends.
func serve(ctx context.Context, o options, log *slog.Logger) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", o.socket)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	if err := os.Chmod(o.socket, 0o600); err != nil {
		return errors.Join(fmt.Errorf("socket: %w", err), l.Close())
	}
	s := newServer(o.queue, log)
	h := &http.Server{
		Handler: s.handler(), ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: 16 << 10, IdleTimeout: time.Minute,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	served := make(chan error, 1)
	go func() { served <- h.Serve(l) }()

	begin := time.Now()
	e, err := openEngine(ctx, o.engine)
	if err != nil {
		return errors.Join(err, h.Close())
	}
	s.open(running{info: e.info, loaded: time.Now(), generate: e.generate})
	log.LogAttrs(ctx, slog.LevelInfo, "model loaded", slog.String("model", e.info.Name), slog.String("kind", e.info.Description),
		slog.Int("context", e.info.Context), slog.String("template", e.info.Template), slog.Duration("took", time.Since(begin)))
	select {
	case <-ctx.Done():
		return h.Close()
	case err := <-served:
		return fmt.Errorf("serve: %w", err)
	}
}
