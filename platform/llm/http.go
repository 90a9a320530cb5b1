package llm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/budget"
	"github.com/failsafe-go/failsafe-go/retrypolicy"

	"aran/platform/fault"
	"aran/platform/outward"
	"aran/platform/secret"
)

// Limits bound a call to a provider.
type Limits struct {
	Connect   time.Duration // to a connection, TLS included
	FirstByte time.Duration // to the first event of an answer, retries not counted
	Idle      time.Duration // between two signs of life
	List      time.Duration // for a list of models
	Answer    int64         // bytes of one answer on the wire
	Event     int           // bytes of one event
	Retries   int           // after failures that may pass, before the first event
}

// DefaultLimits suit providers on the internet.
func DefaultLimits() Limits {
	return Limits{
		Connect: 5 * time.Second, FirstByte: 30 * time.Second, Idle: 60 * time.Second, List: 10 * time.Second,
		Answer: 16 << 20, Event: 1 << 20, Retries: 1,
	}
}

// Options name a provider and say where it is.
type Options struct {
	Name    string // "anthropic", "openai", "ollama"
	BaseURL string
	Key     secret.String // empty: none is sent
	Limits  Limits
	// InsecurePlainHTTP allows http to other machines: keys and prompts travel in clear.
	InsecurePlainHTTP bool
}

const (
	maxErrorBody = 64 << 10
	maxListBody  = 8 << 20
	userAgent    = "aran/0.1"
	retryDelay   = 250 * time.Millisecond
	retryMax     = 2 * time.Second
)

// client is what the providers over HTTP share. Its header function is the only reader of the key.
type client struct {
	name   string
	base   string
	limits Limits
	secret string // for scrubbing what a provider says about it
	http   *http.Client
	header func(h http.Header, r *Request)
	parse  func(body []byte) apiError
	retry  failsafe.Executor[*events]
}

func newClient(o Options, defaultBase string) (*client, error) {
	if o.BaseURL == "" {
		o.BaseURL = defaultBase
	}
	u, err := url.Parse(o.BaseURL)
	if err != nil {
		return nil, fmt.Errorf("provider %s: the base URL cannot be read: %w", o.Name, err)
	}
	if u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("provider %s: base URL %q must be http(s)://host[:port][/path], without a user, query or fragment", o.Name, u.Redacted())
	}
	if u.Scheme == "http" && !o.InsecurePlainHTTP && !outward.Loopback(u.Hostname()) {
		return nil, fmt.Errorf("provider %s: %s would send keys and prompts in clear over the network; use https, or allow it with insecure_plain_http", o.Name, u.Redacted())
	}
	if !o.Key.Visible() {
		return nil, fmt.Errorf("provider %s: the key holds spaces or other characters that no key has; is there a line break at its end?", o.Name)
	}
	c := &client{name: o.Name, base: strings.TrimSuffix(u.String(), "/"), limits: o.Limits, secret: o.Key.Reveal()}
	c.http = &http.Client{Transport: outward.Transport(o.Limits.Connect, 16, 512), CheckRedirect: outward.Stay}
	c.retry = failsafe.With(retrypolicy.NewBuilder[*events]().
		HandleIf(func(_ *events, err error) bool { return passing(err) }).
		WithMaxRetries(o.Limits.Retries).
		WithBackoff(retryDelay, retryMax).
		WithJitterFactor(0.25).
		WithBudget(budget.NewBuilder().WithMaxRate(0.1).WithMinConcurrency(2).Build()).
		ReturnLastFailure().
		Build())
	return c, nil
}

// passing reports whether a second attempt may do better soon: not when the provider named a longer wait.
func passing(err error) bool {
	f := fault.From(err)
	return f != nil && f.Kind == fault.Unavailable && f.RetryAfter <= retryMax &&
		(f.Code == codeAway || f.Code == codeBusy)
}

// The codes of a provider's failures.
const (
	codeAway        = "provider_unreachable"
	codeBusy        = "provider_overloaded"
	codeSlow        = "provider_timeout"
	codeBroken      = "provider_stream_broken"
	codeCredentials = "provider_credentials"
	codeQuota       = "provider_quota"
	codeRate        = "provider_rate_limited"
	codeSetup       = "provider_misconfigured"
)

// Close drops idle connections.
func (c *client) Close() { c.http.CloseIdleConnections() }

var (
	errFirstByte = errors.New("no first event in time")
	errIdle      = errors.New("no sign of life in time")
	errClosed    = errors.New("closed by its reader")
)

// open posts the body and returns when the first event is there.
func (c *client) open(ctx context.Context, path string, body []byte, r *Request) (*events, error) {
	return c.retry.WithContext(ctx).Get(func() (*events, error) {
		if err := ctx.Err(); err != nil {
			return nil, c.transport(ctx, err)
		}
		return c.attempt(ctx, path, body, r)
	})
}

func (c *client) attempt(parent context.Context, path string, body []byte, r *Request) (*events, error) {
	ctx, cancel := context.WithCancelCause(parent)
	ev := &events{c: c, parent: parent, ctx: ctx, cancel: cancel}
	ev.timer = time.AfterFunc(c.limits.FirstByte, func() { cancel(errFirstByte) })
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+path, bytes.NewReader(body))
	if err != nil {
		_ = ev.Close() // never fails
		return nil, fmt.Errorf("request to %s: %w", c.name, err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("User-Agent", userAgent)
	c.header(req.Header, r)
	res, err := c.http.Do(req) //nolint:bodyclose // events closes it
	if err != nil {
		defer ev.Close() //nolint:errcheck // never fails
		return nil, c.transport(ev.ctx, err)
	}
	ev.body = res.Body
	if res.StatusCode != http.StatusOK {
		defer ev.Close() //nolint:errcheck // never fails
		return nil, c.refused(ctx, res)
	}
	if kind := res.Header.Get("Content-Type"); !strings.HasPrefix(kind, "text/event-stream") {
		defer ev.Close() //nolint:errcheck // never fails
		return nil, unsupportedAnswer(c.name, "content type "+clean(kind, 100))
	}
	ev.sse = NewSSEReader(&alive{ev: ev, r: res.Body, left: c.limits.Answer}, c.limits.Event)
	if err := ev.peek(); err != nil {
		_ = ev.Close() // never fails
		return nil, err
	}
	return ev, nil
}

// get reads a JSON document.
func (c *client) get(ctx context.Context, path string, into any) error {
	ctx, cancel := context.WithTimeoutCause(ctx, c.limits.List, errIdle)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path, http.NoBody)
	if err != nil {
		return fmt.Errorf("request to %s: %w", c.name, err)
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", userAgent)
	c.header(req.Header, nil)
	res, err := c.http.Do(req)
	if err != nil {
		return c.transport(ctx, err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return c.refused(ctx, res)
	}
	b, err := io.ReadAll(io.LimitReader(res.Body, maxListBody+1))
	if err != nil {
		return c.transport(ctx, err)
	}
	if len(b) > maxListBody {
		return unsupportedAnswer(c.name, "list of models is too large")
	}
	if err := json.Unmarshal(b, into); err != nil {
		return unsupportedAnswer(c.name, err.Error())
	}
	return nil
}

// events is an answer on its way: the provider's events, first one read already.
type events struct {
	c      *client
	parent context.Context //nolint:containedctx // lives exactly as long as the call
	ctx    context.Context //nolint:containedctx // lives exactly as long as the call
	cancel context.CancelCauseFunc
	timer  *time.Timer
	body   io.Closer
	sse    *SSEReader
	once   sync.Once

	started bool // the first event was seen
	peeked  bool
	name    string
	data    []byte
}

// peek waits for the first event and changes from the first-byte to the idle limit.
func (e *events) peek() error {
	name, data, err := e.next()
	if err != nil {
		return err
	}
	e.started, e.peeked, e.name, e.data = true, true, name, data
	e.timer.Reset(e.c.limits.Idle)
	return nil
}

// next returns the next event; io.EOF when the provider closed the stream.
func (e *events) next() (name string, data []byte, err error) {
	if e.peeked {
		e.peeked = false
		return e.name, e.data, nil
	}
	name, data, err = e.sse.Next()
	switch {
	case err == nil:
		return name, data, nil
	case errors.Is(err, io.EOF):
		return "", nil, io.EOF
	case errors.Is(err, ErrLine), errors.Is(err, errTooMuch):
		return "", nil, unsupportedAnswer(e.c.name, err.Error())
	default:
		return "", nil, e.c.transport(e.ctx, err)
	}
}

// Close ends the call; safe to call from another goroutine than the reader's.
func (e *events) Close() error {
	e.once.Do(func() {
		e.timer.Stop()
		e.cancel(errClosed)
		if e.body != nil {
			_ = e.body.Close()
		}
	})
	return nil
}

// cut is an answer that ended before its end.
func (e *events) cut() error {
	return fault.New(fault.Unavailable, codeBroken, "The model provider %q broke off in the middle of its answer.", e.c.name)
}

var errTooMuch = errors.New("answer is too large")

// alive counts the bytes of an answer and notes each read as a sign of life.
type alive struct {
	ev   *events
	r    io.Reader
	left int64
}

func (a *alive) Read(p []byte) (int, error) {
	n, err := a.r.Read(p)
	if a.left -= int64(n); a.left < 0 {
		return 0, errTooMuch
	}
	if a.ev.started && n > 0 {
		a.ev.timer.Reset(a.ev.c.limits.Idle)
	}
	return n, err //nolint:wrapcheck // io.EOF must stay itself
}

// clean makes a provider's words fit to show: one line, no control characters, bounded.
func clean(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") + "…"
	}
	return s
}
