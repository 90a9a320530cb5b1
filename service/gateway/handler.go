package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"aran/platform/auth"
	"aran/platform/fault"
	"aran/platform/limit"
	"aran/platform/rpc"
)

// Handler is everything that the public address serves.
func (s *Service) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := uuid.Must(uuid.NewV7()).String()
		from := client(r, s.balancers)
		// What only services may say is not taken from outside.
		for h := range r.Header {
			if strings.HasPrefix(h, "Aran-") || strings.HasPrefix(h, "X-Forwarded-") || h == "Forwarded" || h == "Traceparent" || h == "Tracestate" || h == "Baggage" {
				delete(r.Header, h)
			}
		}
		ctx, span := otel.Tracer("aran/service/gateway").Start(r.Context(), "gateway", trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindServer),
			trace.WithAttributes(attribute.String("http.request.method", method(r)), attribute.String("aran.request_id", id)))
		defer span.End()
		ctx = rpc.WithRequestID(ctx, id)
		r = r.WithContext(ctx)
		r.RemoteAddr = from
		rec := &recorder{ResponseWriter: w, timeout: s.cfg.WriteTimeout, c: http.NewResponseController(w)}
		r.Body = newTimedBody(r.Body, rec.c, s.cfg.ReadTimeout)
		s.headers(rec, r, id)
		begin := time.Now()
		s.meters.active.Add(ctx, 1)
		owner := Owner(r.URL.Path)
		defer func() {
			s.meters.active.Add(ctx, -1)
			s.note(ctx, r, rec, owner, begin)
			span.SetAttributes(attribute.Int("http.response.status_code", rec.status()))
		}()
		s.handle(rec, r, owner)
	})
}

// method is one of the known ones: labels come from closed sets.
func method(r *http.Request) string {
	if slices.Contains([]string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}, r.Method) {
		return r.Method
	}
	return "_OTHER"
}

// note is the request's line in the log, and its measurements. Neither holds a query or a user's text.
func (s *Service) note(ctx context.Context, r *http.Request, rec *recorder, owner string, begin time.Time) {
	took := time.Since(begin)
	if owner == "" {
		owner = "gateway"
	}
	s.meters.requests.Record(ctx, took.Seconds(), metric.WithAttributes(attribute.String("http.request.method", method(r)), attribute.Int("http.response.status_code", rec.status()), attribute.String("aran.service", owner)))
	level := slog.LevelInfo
	if r.URL.Path == "/healthz" || r.URL.Path == "/readyz" {
		level = slog.LevelDebug
	}
	s.log.LogAttrs(ctx, level, "request", slog.String("request_id", rpc.RequestID(ctx)), slog.String("method", method(r)), slog.String("service", owner),
		slog.Int("status", rec.status()), slog.Int64("bytes", rec.bytes), slog.Duration("took", took), slog.String("credential", rec.credential))
}

// headers sets what every answer carries.
func (s *Service) headers(w http.ResponseWriter, r *http.Request, id string) {
	h := w.Header()
	h.Set(rpc.RequestIDHeader, id)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	if r.TLS != nil {
		h.Set("Strict-Transport-Security", "max-age=31536000; includeSubDomains")
	}
	if origin := r.Header.Get("Origin"); origin != "" && slices.Contains(s.cfg.AllowOrigins, origin) {
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Vary", "Origin")
		h.Set("Access-Control-Expose-Headers", "Aran-Request-Id, Aran-Rung, RateLimit, RateLimit-Policy, Retry-After")
		h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	}
}

func (s *Service) handle(w *recorder, r *http.Request, owner string) {
	if r.URL.Path != path.Clean("/"+r.URL.Path) && r.URL.Path != path.Clean("/"+r.URL.Path)+"/" || strings.Contains(r.URL.EscapedPath(), "%2f") || strings.Contains(r.URL.EscapedPath(), "%2F") {
		fail(w, r, fault.New(fault.Invalid, "path", "The path is not in its plain form."))
		return
	}
	if s.preflight(w, r) || s.own(w, r) {
		return
	}
	if owner == "" || s.proxies[owner] == nil {
		fail(w, r, fault.New(fault.Missing, "no_such_route", "There is nothing at %s.", r.URL.Path))
		return
	}
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		s.meters.refused.Add(r.Context(), 1, metric.WithAttributes(attribute.String("reason", "overload")))
		fail(w, r, fault.New(fault.Unavailable, "overload", "Too many requests are in hand; try again.").After(time.Second))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.cfg.RequestTimeout)
	defer cancel()
	r = r.WithContext(ctx)
	p, err := s.admit(w, r, owner)
	if err != nil {
		fail(w, r, err)
		return
	}
	if p.credential != "" && p.tier != limitless {
		if !s.perKey.enter(p.credential) {
			fail(w, r, fault.New(fault.Exhausted, "too_many_at_once", "At most %d requests at once per credential.", s.cfg.MaxPerKey).After(time.Second))
			return
		}
		defer s.perKey.leave(p.credential)
	}
	s.dispatch(w, r, owner, p)
}

// admit checks the credential and the limits.
func (s *Service) admit(w *recorder, r *http.Request, owner string) (principal, error) {
	c, err := credential(r)
	if err != nil {
		return principal{}, err
	}
	open := s.open(r.Method, r.URL.Path)
	if c == "" {
		if !open {
			return principal{}, fault.New(fault.Unauthenticated, "no_credential", "This needs an API key or a session: Authorization: Bearer <key>.")
		}
		return principal{}, s.limited(w, r, "address "+address(r), "sign-in", s.cfg.SignInRate)
	}
	p, err := s.authenticate(r.Context(), r, c, owner)
	if err != nil {
		w.Header().Set("WWW-Authenticate", `Bearer realm="aran"`)
		return principal{}, err
	}
	w.credential = p.credential
	if r.ContentLength > s.cfg.MaxBody {
		return principal{}, fault.New(fault.TooLarge, "body_too_large", "The body has %d bytes; at most %d are taken.", r.ContentLength, s.cfg.MaxBody)
	}
	if p.tier == limitless {
		return p, nil
	}
	return p, s.limited(w, r, "key "+p.credential, p.tier, s.cfg.Rate)
}

// limited takes one request from a bucket and tells the client how it stands (draft-ietf-httpapi-ratelimit-headers).
func (s *Service) limited(w http.ResponseWriter, r *http.Request, key, policy string, rate Rate) error {
	res, err := s.d.Limits.Allow(r.Context(), key, rateOf(rate), 1)
	if err != nil {
		return fmt.Errorf("limit: %w", err)
	}
	tell(w.Header(), policy, rate, res)
	if res.Allowed {
		return nil
	}
	s.meters.refused.Add(r.Context(), 1, metric.WithAttributes(attribute.String("reason", "rate")))
	return fault.New(fault.Exhausted, "rate_limited", "Too many requests; wait %s.", res.RetryAfter.Round(time.Second)).After(max(res.RetryAfter, time.Second))
}

func tell(h http.Header, policy string, rate Rate, res limit.Result) {
	h.Set("RateLimit-Policy", fmt.Sprintf("%q;q=%d;w=60", policy, rate.PerMinute))
	h.Set("RateLimit", fmt.Sprintf("%q;r=%d;t=%s", policy, res.Remaining, rpc.RetryAfter(res.Reset)))
}

// dispatch passes the request on, unless the service's breaker is open.
func (s *Service) dispatch(w *recorder, r *http.Request, owner string, p principal) {
	done, err := s.breakers[owner].Allow()
	if err != nil {
		s.meters.refused.Add(r.Context(), 1, metric.WithAttributes(attribute.String("reason", "breaker")))
		fail(w, r, err)
		return
	}
	if p.token != "" {
		r.Header.Set(rpc.IdentityHeader, p.token)
	}
	r.Header.Set(rpc.RequestIDHeader, rpc.RequestID(r.Context()))
	r.Header.Del("Authorization")
	r.Header.Del("X-Api-Key")
	r.Header.Del("Cookie")
	r.Body = http.MaxBytesReader(w, r.Body, s.cfg.MaxBody)
	defer func() {
		v := recover()
		done(outcome(w, v))
		if v != nil && w.code == 0 {
			fail(w, r, fault.New(fault.Unavailable, "broken", "The service broke off; try again.").After(time.Second))
			return
		}
		if v != nil {
			panic(http.ErrAbortHandler) // the answer has begun: only a cut connection tells the truth
		}
	}()
	s.proxies[owner].ServeHTTP(w, r)
}

var errServer = errors.New("server error")

// outcome tells the breaker whether the service failed. Its refusals, and clients that leave, are no failures.
func outcome(w *recorder, panicked any) error {
	if status := w.status(); w.broken || status == http.StatusInternalServerError || status == http.StatusBadGateway || panicked != nil && panicked != http.ErrAbortHandler { //nolint:errorlint // compared as net/http does
		return errServer
	}
	return nil
}

// recorder notes what was sent, and gives each write its own deadline.
type recorder struct {
	http.ResponseWriter
	c          *http.ResponseController
	timeout    time.Duration
	code       int
	bytes      int64
	broken     bool // the service broke off before it answered
	credential string
}

func (w *recorder) status() int {
	if w.code == 0 {
		return http.StatusOK
	}
	return w.code
}

// WriteHeader implements http.ResponseWriter.
func (w *recorder) WriteHeader(code int) {
	if w.code == 0 && code >= 200 {
		w.code = code
	}
	w.ResponseWriter.WriteHeader(code)
}

// Write implements http.ResponseWriter.
func (w *recorder) Write(b []byte) (int, error) {
	if w.code == 0 {
		w.code = http.StatusOK
	}
	_ = w.c.SetWriteDeadline(time.Now().Add(w.timeout))
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

// Flush implements http.Flusher.
func (w *recorder) Flush() {
	_ = w.c.SetWriteDeadline(time.Now().Add(w.timeout))
	_ = w.c.Flush()
}

// Unwrap lets http.ResponseController through.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// timedBody lets a body take its time but not for ever. The deadline is lifted when the body is read, for the connection
// is watched for the client's leaving as long as the answer streams.
type timedBody struct {
	io.ReadCloser
	c *http.ResponseController
}

func newTimedBody(b io.ReadCloser, c *http.ResponseController, d time.Duration) io.ReadCloser {
	if b == nil || b == http.NoBody {
		return b
	}
	_ = c.SetReadDeadline(time.Now().Add(d))
	return &timedBody{b, c}
}

func (b *timedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		_ = b.c.SetReadDeadline(time.Time{})
	}
	return n, err
}

func (s *Service) preflight(w http.ResponseWriter, r *http.Request) bool {
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
		return false
	}
	if slices.Contains(s.cfg.AllowOrigins, r.Header.Get("Origin")) {
		h := w.Header()
		h.Set("Access-Control-Allow-Methods", "GET, POST, PUT, PATCH, DELETE")
		h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Idempotency-Key, X-Api-Key, Anthropic-Version")
		h.Set("Access-Control-Max-Age", strconv.Itoa(600))
	}
	w.WriteHeader(http.StatusNoContent)
	return true
}

// may reports a missing scope for what the gateway itself serves.
func (s *Service) may(w *recorder, r *http.Request, scope string) error {
	c, err := credential(r)
	if err != nil {
		return err
	}
	if c == "" {
		return fault.New(fault.Unauthenticated, "no_credential", "This needs an API key or a session: Authorization: Bearer <key>.")
	}
	p, err := s.authenticate(r.Context(), r, c, rpc.Gateway)
	if err != nil {
		return err
	}
	w.credential = p.credential
	return auth.Identity{Scopes: p.scopes}.Require(scope)
}
