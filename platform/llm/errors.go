package llm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"aran/platform/fault"
)

// apiError is what a vendor says went wrong.
type apiError struct{ Type, Code, Message string }

const maxRetryAfter = time.Hour

// refused turns an answer other than 200 into a fault. The provider's words reach the client only when the
// request itself was at fault; a wrong key is our trouble, and its message may quote the key.
func (c *client) refused(ctx context.Context, res *http.Response) error {
	body, err := io.ReadAll(io.LimitReader(res.Body, maxErrorBody))
	if err != nil {
		return c.transport(ctx, err)
	}
	e := c.parse(body)
	f := c.classify(res.StatusCode, e)
	if d := retryAfter(res.Header, time.Now()); d > 0 {
		f = f.After(d)
	}
	return f.Because(fmt.Errorf("%s: status %d %s %s", c.name, res.StatusCode, c.scrub(e.Type), c.scrub(e.Code))) //nolint:err113 // only for the log
}

// failed turns an error event in the middle of a stream into a fault.
func (c *client) failed(e apiError) error {
	status := http.StatusInternalServerError
	switch e.Type {
	case "overloaded_error":
		status = 529
	case "rate_limit_error", "rate_limit_exceeded", "requests", "tokens":
		status = http.StatusTooManyRequests
	case "authentication_error", "permission_error":
		status = http.StatusUnauthorized
	case "invalid_request_error":
		status = http.StatusBadRequest
	}
	return c.classify(status, e).Because(fmt.Errorf("%s: error event %s %s", c.name, c.scrub(e.Type), c.scrub(e.Code))) //nolint:err113 // only for the log
}

func (c *client) classify(status int, e apiError) *fault.Error {
	switch {
	case e.Code == "insufficient_quota", e.Type == "insufficient_quota", e.Type == "billing_error", status == http.StatusPaymentRequired:
		return fault.New(fault.Unavailable, codeQuota, "The account at model provider %q has nothing left to spend; an operator must look at it.", c.name)
	case status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusProxyAuthRequired:
		return fault.New(fault.Unavailable, codeCredentials, "The model provider %q refuses our credentials; an operator must check them.", c.name)
	case status == http.StatusTooManyRequests:
		return fault.New(fault.Exhausted, codeRate, "The model provider %q limits our rate.", c.name)
	case status == http.StatusNotFound && e.Message != "":
		return fault.New(fault.Missing, "model_not_found", "The model provider %q: %s", c.name, c.words(e))
	case status == http.StatusRequestEntityTooLarge:
		return fault.New(fault.TooLarge, "request_too_large", "The request is too large for model provider %q.", c.name)
	case status == http.StatusRequestTimeout, status == http.StatusConflict, status >= http.StatusInternalServerError:
		return fault.New(fault.Unavailable, codeBusy, "The model provider %q has trouble answering.", c.name)
	case status >= http.StatusBadRequest && status != http.StatusNotFound && e.Message != "":
		code := clean(c.scrub(e.Code), 64)
		if code == "" {
			code = "invalid_request"
		}
		return fault.New(fault.Invalid, code, "The model provider %q refuses the request: %s", c.name, c.words(e))
	default: // a redirect, or a page of something that is no model API
		return fault.New(fault.Unavailable, codeSetup, "What answers at the address of model provider %q is no model API (status %d); an operator must check it.", c.name, status)
	}
}

func (c *client) words(e apiError) string { return clean(c.scrub(e.Message), 500) }

// scrub takes our key out of a provider's words, also when they repeat only its beginning.
func (c *client) scrub(s string) string {
	if c.secret == "" {
		return s
	}
	s = strings.ReplaceAll(s, c.secret, "***")
	if len(c.secret) > 12 {
		s = strings.ReplaceAll(s, c.secret[:8], "***")
		s = strings.ReplaceAll(s, c.secret[len(c.secret)-8:], "***")
	}
	return s
}

// transport turns a failure to reach, or to go on reading, into a fault: whose time ran out decides its kind.
func (c *client) transport(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	switch {
	case errors.Is(cause, errFirstByte), errors.Is(cause, errIdle):
		return fault.New(fault.Unavailable, codeSlow, "The model provider %q takes too long.", c.name).Because(cause)
	case errors.Is(cause, errClosed):
		return fault.New(fault.Canceled, "", "The answer was closed by its reader.").Because(cause)
	case errors.Is(cause, context.DeadlineExceeded):
		return fault.New(fault.Deadline, "", "The model provider %q did not answer within the time of this call.", c.name).Because(err)
	case cause != nil:
		return fault.New(fault.Canceled, "", "The call was given up.").Because(cause)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fault.New(fault.Unavailable, codeBroken, "The model provider %q broke off in the middle of its answer.", c.name).Because(err)
	default:
		return fault.New(fault.Unavailable, codeAway, "The model provider %q cannot be reached.", c.name).Because(err)
	}
}

// retryAfter reads Retry-After (RFC 9110 §10.2.3: seconds or a date) and retry-after-ms.
func retryAfter(h http.Header, now time.Time) time.Duration {
	var d time.Duration
	if ms, err := strconv.ParseFloat(h.Get("Retry-After-Ms"), 64); err == nil {
		d = time.Duration(ms * float64(time.Millisecond))
	} else if s, err := strconv.ParseFloat(h.Get("Retry-After"), 64); err == nil {
		d = time.Duration(s * float64(time.Second))
	} else if t, err := http.ParseTime(h.Get("Retry-After")); err == nil {
		d = t.Sub(now)
	}
	return min(max(d, 0), maxRetryAfter)
}
