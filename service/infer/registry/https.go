package registry

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Bounds of a transfer over https.
const (
	maxRedirects  = 5
	maxAttempts   = 5       // in a row that brought less than enough
	enoughBytes   = 1 << 20 // what makes an attempt count as progress
	stallTimeout  = 30 * time.Second
	firstPause    = 250 * time.Millisecond
	longestPause  = 10 * time.Second
	maxRetryAfter = 30 * time.Second
)

// newClient follows few redirects, and never from https to http.
func newClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			TLSHandshakeTimeout:   10 * time.Second,
			ResponseHeaderTimeout: stallTimeout,
			IdleConnTimeout:       10 * time.Second,
			ForceAttemptHTTP2:     true,
			DisableCompression:    true,
		},
		CheckRedirect: checkRedirect,
	}
}

func checkRedirect(r *http.Request, via []*http.Request) error {
	if len(via) >= maxRedirects {
		return permanentError{fmt.Errorf("more than %d redirects", maxRedirects)}
	}
	if _, err := checkURL(r.URL.String()); err != nil {
		return permanentError{fmt.Errorf("redirect: %w", err)}
	}
	if via[0].URL.Scheme == "https" && r.URL.Scheme != "https" {
		return permanentError{errors.New("redirect away from https")}
	}
	return nil
}

// permanentError is one that a further attempt would not change.
type permanentError struct{ error }

func (e permanentError) Unwrap() error { return e.error }

// laterError is one with the server's wish when to come again.
type laterError struct {
	error
	after time.Duration
}

func (e laterError) Unwrap() error { return e.error }

// https fetches a file, resuming what is there, with a bounded number of attempts.
func (p *pull) https(ctx context.Context, f File, s Source) error {
	u, err := checkURL(s.HTTPS)
	if err != nil {
		return err
	}
	if err := p.away[u.Host]; err != nil {
		return err
	}
	t := &transfer{pull: p, file: f, source: s, part: p.r.partial(f.SHA256)}
	for failures := 0; ; {
		n, err := t.attempt(ctx)
		if err == nil {
			return p.r.keep(ctx, t.part, f, s.String())
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if reason := unreachable(err); reason != nil {
			p.away[u.Host] = reason
			return reason
		}
		if permanent(err) {
			return err
		}
		if n >= enoughBytes {
			failures = 0
		}
		if failures++; failures >= maxAttempts {
			return fmt.Errorf("gave up after %d attempts: %w", failures, err)
		}
		if err := pause(ctx, p.r.pause<<(failures-1), err); err != nil {
			return err
		}
	}
}

func permanent(err error) bool {
	_, marked := errors.AsType[permanentError](err)
	_, certificate := errors.AsType[*tls.CertificateVerificationError](err)
	return marked || certificate
}

// unreachable tells a host that is not there (no network, no such name) from one that failed.
func unreachable(err error) error {
	if dns, ok := errors.AsType[*net.DNSError](err); ok && !dns.IsTimeout {
		return fmt.Errorf("can't be reached: no address for %s", dns.Name)
	}
	for _, code := range []syscall.Errno{syscall.ECONNREFUSED, syscall.ENETUNREACH, syscall.EHOSTUNREACH} {
		if errors.Is(err, code) {
			return fmt.Errorf("can't be reached: %w", code)
		}
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return fmt.Errorf("can't be reached: %w", op.Err)
	}
	return nil
}

// pause waits for about d, or as long as the server wished.
func pause(ctx context.Context, d time.Duration, cause error) error {
	d = min(d, longestPause)
	d += rand.N(d/2 + 1) //nolint:gosec // jitter
	if later, ok := errors.AsType[laterError](cause); ok {
		d = later.after
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// transfer is one file over https. What came so far is in part, and in part.json from where.
type transfer struct {
	*pull
	file   File
	source Source
	part   string
}

// origin says which bytes a partial file holds. Without a validator it can't be resumed.
type origin struct {
	URL       string `json:"url"`
	Validator string `json:"validator"` // strong ETag or Last-Modified
}

// resumable returns how much is there, or 0 after it was thrown away.
func (t *transfer) resumable() (int64, origin, error) {
	var o origin
	b, err := os.ReadFile(t.part + ".json")
	if err == nil {
		err = json.Unmarshal(b, &o)
	}
	info, statErr := os.Stat(t.part)
	if err == nil && statErr == nil && o.URL == t.source.HTTPS && o.Validator != "" && info.Size() <= t.file.Size {
		return info.Size(), o, nil
	}
	return 0, origin{}, t.discard()
}

func (t *transfer) discard() error { return errors.Join(remove(t.part), remove(t.part+".json")) }

// attempt fetches the rest and returns how many bytes it brought.
func (t *transfer) attempt(ctx context.Context) (n int64, err error) {
	have, from, err := t.resumable()
	if err != nil {
		return 0, permanentError{err}
	}
	if have == t.file.Size {
		t.bar.add(have)
		return 0, nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stalled := time.AfterFunc(stallTimeout, func() { cancel(fmt.Errorf("nothing came for %v", stallTimeout)) })
	defer stalled.Stop()

	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.source.HTTPS, http.NoBody)
	if err != nil {
		return 0, permanentError{fmt.Errorf("request: %w", err)}
	}
	req.Header.Set("Accept-Encoding", "identity") // the digest is of the file, not of a compressed form
	if have > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", have))
		req.Header.Set("If-Range", from.Validator)
	}
	resp, err := t.r.o.Client.Do(req)
	if err != nil {
		return 0, fmt.Errorf("fetch: %w", cause(ctx, err))
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	if have, err = t.accept(resp, have); err != nil {
		return 0, err
	}
	body := &watched{r: resp.Body, alive: func() { stalled.Reset(stallTimeout) }}
	n, err = t.write(body, have)
	if err != nil {
		return n, cause(ctx, err)
	}
	return n, nil
}

// cause is the reason why ctx was cancelled, else err.
func cause(ctx context.Context, err error) error {
	if c := context.Cause(ctx); c != nil {
		return c
	}
	return err
}

// watched calls alive at every read that brought something.
type watched struct {
	r     io.Reader
	alive func()
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if n > 0 {
		w.alive()
	}
	return n, err
}

// accept checks the head of a response and returns at which byte its body begins.
func (t *transfer) accept(resp *http.Response, have int64) (int64, error) {
	switch code := resp.StatusCode; {
	case code == http.StatusPartialContent && have > 0:
		if want := fmt.Sprintf("bytes %d-%d/%d", have, t.file.Size-1, t.file.Size); resp.Header.Get("Content-Range") != want {
			return 0, errors.Join(fmt.Errorf("content range %.100q, want %q", resp.Header.Get("Content-Range"), want), t.discard())
		}
		return have, nil
	case code == http.StatusOK:
		if resp.ContentLength >= 0 && resp.ContentLength != t.file.Size {
			return 0, permanentError{fmt.Errorf("the file there has %d bytes, expected %d", resp.ContentLength, t.file.Size)}
		}
		return 0, t.begin(resp)
	case code == http.StatusRequestedRangeNotSatisfiable && have > 0:
		return 0, errors.Join(errors.New("the server refuses to resume"), t.discard())
	case code == http.StatusTooManyRequests, code == http.StatusRequestTimeout, code == http.StatusTooEarly, code >= 500:
		err := fmt.Errorf("status %d", code)
		if after, e := strconv.Atoi(resp.Header.Get("Retry-After")); e == nil && after >= 0 {
			return 0, laterError{err, min(time.Duration(after)*time.Second, maxRetryAfter)}
		}
		return 0, err
	default:
		return 0, permanentError{fmt.Errorf("status %d", code)}
	}
}

// begin starts the file afresh and notes where it comes from.
func (t *transfer) begin(resp *http.Response) error {
	o := origin{URL: t.source.HTTPS, Validator: resp.Header.Get("ETag")}
	if o.Validator == "" || strings.HasPrefix(o.Validator, "W/") {
		o.Validator = resp.Header.Get("Last-Modified")
	}
	if err := t.discard(); err != nil {
		return permanentError{err}
	}
	b, err := json.Marshal(o)
	if err == nil {
		err = os.WriteFile(t.part+".json", b, 0o600)
	}
	if err != nil {
		return permanentError{fmt.Errorf("note origin: %w", err)}
	}
	return nil
}

// write appends the body to what is there.
func (t *transfer) write(body io.Reader, have int64) (int64, error) {
	out, err := os.OpenFile(t.part, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return 0, permanentError{fmt.Errorf("save: %w", err)}
	}
	t.bar.add(have)
	n, err := io.Copy(io.MultiWriter(&disk{out}, &t.bar), io.LimitReader(body, t.file.Size-have+1))
	err = errors.Join(err, out.Close())
	switch {
	case have+n > t.file.Size:
		err = permanentError{errors.Join(fmt.Errorf("the file there has more than %d bytes", t.file.Size), t.discard())}
	case err == nil && have+n < t.file.Size:
		err = fmt.Errorf("broke off after %d of %d bytes", have+n, t.file.Size)
	}
	if err != nil {
		t.bar.add(-have - n)
	}
	return n, err
}

// disk marks errors of writing as permanent: a full disk does not empty itself.
type disk struct{ w io.Writer }

func (d *disk) Write(p []byte) (int, error) {
	n, err := d.w.Write(p)
	if err != nil {
		return n, permanentError{fmt.Errorf("save: %w", err)}
	}
	return n, nil
}
