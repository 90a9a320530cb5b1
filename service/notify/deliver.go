package notify

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"strconv"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"aran/platform/fault"
	"aran/platform/seal"
	"aran/service/notify/target"
)

const (
	pollShared = time.Second            // other replicas queue too
	pollAlone  = 30 * time.Second       // only a clock that was set could make it needed
	pollSoon   = 100 * time.Millisecond // something is due, and others of its tenant are in hand
	tidyEvery  = time.Hour
	recordIn   = 10 * time.Second
	maxAnswer  = 4 << 10 // bytes that are read of an answer, so that the connection can be used again
	maxHold    = time.Hour
	maxAfter   = 24 * time.Hour
	userAgent  = "Aran-Webhooks/1"
)

// dispatch takes due deliveries in hand until life ends. hands is what they run under.
func (s *Service) dispatch(life, hands context.Context) {
	free := make(chan struct{}, s.cfg.Workers)
	for range s.cfg.Workers {
		free <- struct{}{}
	}
	for life.Err() == nil {
		at, err := s.soon(life) // it only reads: nothing is written while nothing is due
		var got []claimed
		if n := len(free); err == nil && n > 0 && !at.IsZero() && time.Until(at) <= 0 {
			got, err = s.claim(life, time.Now(), n)
		}
		if err != nil && life.Err() == nil {
			s.d.Log.LogAttrs(life, slog.LevelWarn, "no deliveries taken", slog.String("error", err.Error()))
			at = time.Now().Add(pollShared)
		}
		for _, c := range got {
			fault.Point("notify.delivery_claimed")
			<-free
			s.hands.Go(func() {
				defer func() { free <- struct{}{}; s.nudge() }()
				s.deliver(hands, c)
			})
		}
		if len(got) == 0 {
			s.rest(life, at)
		}
	}
}

// rest waits until something may be due: at a time (zero: nothing is), or sooner when it is told.
func (s *Service) rest(life context.Context, at time.Time) {
	pause := pollAlone
	if s.d.DB.Shared() {
		pause = pollShared
	}
	if !at.IsZero() {
		pause = min(pause, max(time.Until(at), pollSoon))
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-s.wake:
	case <-timer.C:
	case <-life.Done():
	}
}

// tidy prunes now and then; one replica does.
func (s *Service) tidy(life context.Context) {
	tick := time.NewTicker(tidyEvery)
	defer tick.Stop()
	for {
		if _, err := s.d.DB.Alone(life, "notify prune", func(ctx context.Context) error { return s.prune(ctx, time.Now()) }); err != nil && life.Err() == nil {
			s.d.Log.LogAttrs(life, slog.LevelWarn, "old deliveries not pruned", slog.String("error", err.Error()))
		}
		select {
		case <-tick.C:
		case <-life.Done():
			return
		}
	}
}

// deliver makes one attempt and records it. What was cut off by the end of the service is given back.
func (s *Service) deliver(ctx context.Context, c claimed) {
	defer func() {
		if p := recover(); p != nil { // the lease ends, and it comes again
			s.d.Log.LogAttrs(ctx, slog.LevelError, "delivery panicked", slog.String("delivery", c.ID), slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
		}
	}()
	o := s.attempt(ctx, c)
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordIn)
	defer cancel()
	if ctx.Err() != nil && o.kind != "" {
		if err := s.release(after, c); err != nil {
			s.d.Log.LogAttrs(after, slog.LevelWarn, "delivery not given back", slog.String("delivery", c.ID), slog.String("error", err.Error()))
		}
		return
	}
	fault.Point("notify.delivery_posted")
	now := time.Now()
	r := s.settle(&c, o, now)
	err := s.record(after, c, r, now)
	switch {
	case errors.Is(err, errLost):
		s.d.Log.LogAttrs(after, slog.LevelWarn, "delivery was taken over or deleted while in hand", slog.String("delivery", c.ID))
	case err != nil: // the lease ends, and it comes again
		s.d.Log.LogAttrs(after, slog.LevelError, "delivery not recorded", slog.String("delivery", c.ID), slog.String("error", err.Error()))
	default:
		fault.Point("notify.delivery_recorded")
		s.say(after, c, o, r)
	}
}

func (s *Service) say(ctx context.Context, c claimed, o outcome, r settled) {
	level := slog.LevelDebug
	if r.status == Dead || r.disable != "" {
		level = slog.LevelWarn
	}
	if r.status == Dead {
		s.meters.dead.Add(ctx, 1)
	}
	s.d.Log.LogAttrs(ctx, level, "webhook tried", slog.String("delivery", c.ID), slog.String("endpoint", c.Endpoint), slog.String("status", r.status),
		slog.Int("http_status", o.status), slog.String("error", o.kind), slog.Int64("attempt", c.Attempted), slog.String("disabled", r.disable))
}

// outcome of an attempt.
type outcome struct {
	began  time.Time
	took   time.Duration
	status int           // of HTTP; 0: no answer
	kind   string        // of the error; empty: it arrived
	after  time.Duration // the target asked to wait so long
}

// Kinds of errors, a closed set: they are labels.
const (
	failTimeout  = "timeout"
	failDNS      = "dns"
	failConnect  = "connect"
	failTLS      = "tls"
	failTarget   = "target_refused" // the address is not public
	failRedirect = "redirect"
	failThrottle = "throttled" // 429 or 503
	failGone     = "gone"      // 410
	failClient   = "refused"   // another 4xx
	failServer   = "server_error"
	failAnswer   = "bad_answer" // no HTTP
	failErased   = "erased"     // the tenant's keys are gone
	failInternal = "internal"
)

// attempt delivers inside a span that continues the trace of the event.
func (s *Service) attempt(ctx context.Context, c claimed) (o outcome) {
	o.began = time.Now()
	ctx = propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": c.traceparent})
	ctx, span := s.tracer.Start(ctx, "webhook deliver", trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("messaging.operation.type", "send"), attribute.String("messaging.message.id", c.ID), attribute.String("http.request.method", http.MethodPost),
		attribute.Int64("http.request.resend_count", c.Attempted), attribute.String("aran.event.kind", c.Kind)))
	defer span.End()
	defer func() {
		o.took = time.Since(o.began)
		if o.status > 0 {
			span.SetAttributes(attribute.Int("http.response.status_code", o.status))
		}
		if o.kind != "" {
			span.SetAttributes(attribute.String("error.type", o.kind))
			span.SetStatus(codes.Error, o.kind)
		}
		s.meters.attempt(ctx, o)
	}()
	ctx, cancel := context.WithTimeout(ctx, min(s.cfg.Timeout, time.Until(c.until)))
	defer cancel()
	req, err := s.request(ctx, c, o.began)
	if err != nil {
		switch f := fault.From(err); {
		case errors.Is(err, target.ErrRefused):
			o.kind = failTarget
			return o
		case f != nil && f.Code == seal.CodeErased:
			o.kind = failErased
			return o
		}
		s.d.Log.LogAttrs(ctx, slog.LevelError, "delivery not made", slog.String("delivery", c.ID), slog.String("error", err.Error()))
		o.kind = failInternal
		return o
	}
	span.SetAttributes(attribute.String("url.scheme", req.URL.Scheme), attribute.String("server.address", req.URL.Hostname())) // the rest of a URL is often secret
	propagation.TraceContext{}.Inject(ctx, propagation.HeaderCarrier(req.Header))
	s.send(req, &o)
	return o
}

// request is a signed one (Standard Webhooks, signature scheme v1).
func (s *Service) request(ctx context.Context, c claimed, now time.Time) (*http.Request, error) {
	t, err := s.openTarget(ctx, c.Tenant, c.Endpoint, c.target)
	if err != nil {
		return nil, err
	}
	signatures := ""
	for _, sealed := range [][]byte{c.secret, c.oldSecret} {
		if sealed == nil {
			continue
		}
		secret, err := s.d.Box.Open(ctx, sealedFor(c.Tenant), sealed, secretPlace(c.Endpoint))
		if err != nil {
			return nil, fmt.Errorf("open secret: %w", err)
		}
		w, err := standardwebhooks.NewWebhook(string(secret))
		if err != nil {
			return nil, fmt.Errorf("read secret: %w", err)
		}
		sign, err := w.Sign(c.ID, now, c.Body)
		if err != nil {
			return nil, fmt.Errorf("sign: %w", err)
		}
		if signatures != "" {
			signatures += " "
		}
		signatures += sign
	}
	if err := s.policy.Check(t.URL); err != nil { // the settings may be stricter than when it was made
		return nil, fmt.Errorf("%w: %w", target.ErrRefused, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.URL, bytes.NewReader(c.Body))
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", userAgent)
	req.Header.Set(standardwebhooks.HeaderWebhookID, c.ID)
	req.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	req.Header.Set(standardwebhooks.HeaderWebhookSignature, signatures)
	return req, nil
}

// send posts and judges the answer. Of its body nothing is kept.
func (s *Service) send(req *http.Request, o *outcome) {
	res, err := s.client.Do(req)
	if err != nil {
		o.kind = failure(err)
		return
	}
	_, _ = io.CopyN(io.Discard, res.Body, maxAnswer)
	_ = res.Body.Close()
	o.status = res.StatusCode
	switch c := res.StatusCode; {
	case c >= 200 && c < 300:
	case c >= 300 && c < 400:
		o.kind = failRedirect
	case c == http.StatusGone:
		o.kind = failGone
	case c == http.StatusTooManyRequests || c == http.StatusServiceUnavailable:
		o.kind, o.after = failThrottle, retryAfter(res.Header.Get("Retry-After"), time.Now())
	case c >= 400 && c < 500:
		o.kind = failClient
	default:
		o.kind = failServer
	}
}

// failure classifies an error of the transport.
func failure(err error) string {
	var dns *net.DNSError
	var op *net.OpError
	var timeout net.Error
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var alert tls.AlertError
	var record tls.RecordHeaderError
	switch {
	case errors.Is(err, target.ErrRefused):
		return failTarget
	case errors.As(err, &dns):
		return failDNS
	case errors.As(err, &unknown), errors.As(err, &host), errors.As(err, &invalid), errors.As(err, &alert), errors.As(err, &record):
		return failTLS
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return failTimeout
	case errors.As(err, &op), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return failConnect
	}
	if u := (*url.Error)(nil); errors.As(err, &u) {
		return failAnswer
	}
	return failInternal
}

// retryAfter reads the header of that name (RFC 9110 §10.2.3): seconds or a date; 0 when it says nothing of use.
func retryAfter(v string, now time.Time) time.Duration {
	if n, err := strconv.ParseInt(v, 10, 64); err == nil {
		return min(max(time.Duration(min(n, int64(maxAfter/time.Second)))*time.Second, 0), maxAfter)
	}
	if at, err := http.ParseTime(v); err == nil {
		return min(max(at.Sub(now), 0), maxAfter)
	}
	return 0
}

// settle decides what becomes of a delivery after an attempt, and adds the attempt to it.
func (s *Service) settle(c *claimed, o outcome, now time.Time) settled {
	c.tries++
	c.Attempted++
	c.Attempts = append(c.Attempts, Attempt{At: o.began.UTC().Truncate(time.Microsecond), Status: o.status, Error: o.kind, Took: o.took})
	c.Attempts = c.Attempts[max(0, len(c.Attempts)-maxShown):]
	if o.kind == "" {
		return settled{status: Delivered}
	}
	r := settled{status: Pending, reason: o.kind}
	if o.after > 0 {
		r.hold = now.Add(min(o.after, maxHold))
	}
	switch n := int(c.tries); {
	case o.kind == failGone:
		r.status, r.disable = Dead, reasonGone
	case o.kind == failErased, n > len(s.cfg.Retries):
		r.status = Dead
	default:
		r.due = now.Add(max(jitter(s.cfg.Retries[n-1]), o.after))
	}
	if r.disable == "" && !c.failingSince.IsZero() && now.Sub(c.failingSince) >= s.cfg.DisableAfter {
		r.disable = reasonFailing
	}
	return r
}

// jitter lengthens a pause by up to a fifth, so that what failed together does not come back together.
func jitter(d time.Duration) time.Duration {
	return d + rand.N(d/5+1) //nolint:gosec // a spread, not a secret
}
