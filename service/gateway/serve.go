package gateway

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"syscall"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"

	"aran/platform/auth"
	"aran/platform/fault"
	"aran/platform/rpc"
)

// docs is the page that reads the OpenAPI document: Swagger UI (Apache-2.0), and a script that starts it.
//
//go:embed docs
var docs embed.FS

// Listen opens an address and says clearly when it is taken; setting is the key to change.
func Listen(ctx context.Context, address, setting string) (net.Listener, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fault.New(fault.Conflict, "address_in_use", "The address %s is in use by another program; change %s.", address, setting).Because(err)
	}
	if err != nil {
		return nil, fault.New(fault.Invalid, "address", "The address %s can't be listened to; change %s.", address, setting).Because(err)
	}
	return l, nil
}

// Stop closes the door.
func (s *Service) Stop(ctx context.Context) error { return s.d.Door.Close(ctx) }

// proxy passes requests to one service.
func (s *Service) proxy(name string, transport http.RoundTripper) http.Handler {
	target := &url.URL{Scheme: "http", Host: name}
	return &httputil.ReverseProxy{
		Transport: transport, FlushInterval: -1, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(target)
			otel.GetTextMapPropagator().Inject(p.In.Context(), propagation.HeaderCarrier(p.Out.Header))
		},
		ModifyResponse: func(res *http.Response) error {
			// The edge's own headers stand.
			for _, h := range []string{"Content-Security-Policy", "X-Content-Type-Options", "X-Frame-Options", "Server", rpc.RequestIDHeader, rpc.IdentityHeader} {
				res.Header.Del(h)
			}
			if res.StatusCode == http.StatusServiceUnavailable && res.Header.Get("Retry-After") == "" {
				res.Header.Set("Retry-After", rpc.RetryAfter(time.Second)) // whatever is away may be back
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			var tooLarge *http.MaxBytesError
			switch {
			case errors.As(err, &tooLarge):
				fail(w, r, fault.New(fault.TooLarge, "body_too_large", "The body is larger than %d bytes.", tooLarge.Limit))
			case errors.Is(err, context.Canceled):
				fail(w, r, fault.New(fault.Canceled, "canceled", "The request was canceled.").Because(err))
			case errors.Is(err, context.DeadlineExceeded):
				fail(w, r, fault.New(fault.Deadline, "deadline", "It took longer than %s.", s.cfg.RequestTimeout).Because(err))
			default:
				if rec, ok := w.(*recorder); ok {
					rec.broken = true
				}
				s.log.LogAttrs(r.Context(), slog.LevelError, "service broke off", slog.String("service", name), slog.String("request_id", rpc.RequestID(r.Context())), slog.String("error", err.Error()))
				fail(w, r, fault.New(fault.Unavailable, "broken", "The service broke off; try again.").After(time.Second))
			}
		},
	}
}

// own serves what is the gateway's; false: not its own.
func (s *Service) own(w *recorder, r *http.Request) bool {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return false
	}
	switch p := r.URL.Path; {
	case p == "/healthz":
		reply(w, http.StatusOK, map[string]string{"status": "ok"})
	case p == "/readyz":
		if ok, _ := s.d.Health.Ready(r.Context()); !ok {
			w.Header().Set("Retry-After", "1")
			reply(w, http.StatusServiceUnavailable, map[string]string{"status": "not ready"})
			break
		}
		reply(w, http.StatusOK, map[string]string{"status": "ready"})
	case p == "/":
		http.Redirect(w, r, "/api/docs", http.StatusFound)
	case p == "/api/openapi.json":
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-cache")
		_, _ = w.Write(s.d.OpenAPI)
	case p == "/api/docs" || strings.HasPrefix(p, "/api/docs/"):
		s.page(w, r, strings.TrimPrefix(strings.TrimPrefix(p, "/api/docs"), "/"))
	case p == "/.well-known/security.txt" && s.cfg.SecurityContact != "":
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = fmt.Fprintf(w, "Contact: %s\nExpires: %s\nPreferred-Languages: en\n", s.cfg.SecurityContact, time.Now().AddDate(1, 0, 0).UTC().Format(time.RFC3339))
	case p == "/api/v1/services":
		if err := s.may(w, r, auth.ScopeOperate); err != nil {
			fail(w, r, err)
			break
		}
		reply(w, http.StatusOK, s.d.Services(r.Context()))
	default:
		return false
	}
	return true
}

// OwnRoutes are what the gateway answers itself, in the form of served routes.
func OwnRoutes() []rpc.Route {
	anyone := rpc.Access{Anyone: true}
	var out []rpc.Route
	for _, p := range []string{"/", "/healthz", "/readyz", "/api/openapi.json", "/api/docs", "/api/docs/{file}", "/.well-known/security.txt"} {
		out = append(out, rpc.Route{Method: http.MethodGet, Pattern: p, Access: anyone})
	}
	return append(out, rpc.Route{Method: http.MethodGet, Pattern: "/api/v1/services", Access: rpc.Access{Scope: auth.ScopeOperate}})
}

// page serves the documentation's files.
func (s *Service) page(w http.ResponseWriter, r *http.Request, file string) {
	types := map[string]string{"index.html": "text/html; charset=utf-8", "start.js": "text/javascript; charset=utf-8", "swagger-ui.css": "text/css; charset=utf-8", "swagger-ui-bundle.js": "text/javascript; charset=utf-8"}
	if file == "" {
		file = "index.html"
	}
	kind, known := types[file]
	if !known {
		fail(w, r, fault.New(fault.Missing, "no_such_route", "There is nothing at %s.", r.URL.Path))
		return
	}
	h := w.Header()
	name := "docs/" + file
	b, err := docs.ReadFile(name)
	if err != nil {
		if b, err = docs.ReadFile(name + ".gz"); err != nil {
			fail(w, r, err)
			return
		}
		h.Set("Content-Encoding", "gzip")
	}
	h.Set("Content-Type", kind)
	h.Set("Cache-Control", "no-cache")
	// Swagger UI sets style attributes and draws its icons from data: URLs.
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
	_, _ = w.Write(b) //nolint:gosec // a file of the program
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}
