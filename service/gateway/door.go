package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"aran/platform/fault"
	"aran/platform/rpc"
)

// Door is the public address. It is open before anything else, so that a port that is taken is found first, and
// answers that the platform is starting until the edge serves behind it.
type Door struct {
	log      *slog.Logger
	scheme   string
	listener net.Listener
	server   *http.Server
	handler  atomic.Pointer[http.Handler]
	done     chan struct{}
}

// Open opens the public address. ctx bounds only the set-up.
func Open(ctx context.Context, cfg Config, log *slog.Logger) (*Door, error) {
	l, err := Listen(ctx, cfg.Listen, "gateway.listen")
	if err != nil {
		return nil, err
	}
	d := &Door{log: log, scheme: "http", listener: l, done: make(chan struct{})}
	if cfg.TLSCert != "" {
		cert, err := tls.LoadX509KeyPair(cfg.TLSCert, cfg.TLSKey)
		if err != nil {
			return nil, errors.Join(fault.New(fault.Invalid, "tls", "gateway.tls_cert and gateway.tls_key can't be used.").Because(err), l.Close())
		}
		d.scheme = "https"
		d.listener = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}})
	}
	starting := http.Handler(http.HandlerFunc(notYet))
	d.handler.Store(&starting)
	base, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	d.server = &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*d.handler.Load()).ServeHTTP(w, r) }),
		ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		BaseContext: func(net.Listener) context.Context { return base }, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	d.server.RegisterOnShutdown(func() { cancel(rpc.Stopping()) }) // open streams end at once
	go func() {
		defer close(d.done)
		if err := d.server.Serve(d.listener); err != nil && !errors.Is(err, http.ErrServerClosed) {
			log.LogAttrs(base, slog.LevelError, "the public listener failed", slog.String("error", err.Error()))
		}
	}()
	return d, nil
}

// notYet is what a starting platform says.
func notYet(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	switch r.URL.Path {
	case "/healthz":
		reply(w, http.StatusOK, map[string]string{"status": "ok"})
	case "/readyz":
		w.Header().Set("Retry-After", "1")
		reply(w, http.StatusServiceUnavailable, map[string]string{"status": "not ready"})
	default:
		fail(w, r.WithContext(rpc.WithRequestID(r.Context(), "")), fault.New(fault.Unavailable, "starting", "The platform is starting; try again.").After(time.Second))
	}
}

// Address is where it listens, as a URL.
func (d *Door) Address() string { return d.scheme + "://" + d.listener.Addr().String() }

// serve has h answer from now on.
func (d *Door) serve(h http.Handler) { d.handler.Store(&h) }

// Close refuses new requests, ends open streams, and waits for what is in hand. It may be called twice.
func (d *Door) Close(ctx context.Context) error {
	err := d.server.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, d.server.Close())
	}
	<-d.done
	return err
}
