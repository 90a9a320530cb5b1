package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"aran/platform/fault"
	"aran/platform/outward"
)

// Bounds of what a server may send.
const (
	connectTimeout = 5 * time.Second
	spareReply     = 1 << 20 // what an answer may have beside vectors and the texts that were sent
	numberReply    = 32      // bytes of one number, written out
	maxErrorReply  = 64 << 10
	maxAway        = time.Minute // longest Retry-After that is passed on
	retrySoon      = 2 * time.Second
)

func newClient(cfg Config) *http.Client {
	return &http.Client{Transport: outward.Transport(connectTimeout, cfg.AtOnce, 2*cfg.AtOnce), CheckRedirect: outward.Stay}
}

// The codes of a server's failures.
const (
	codeAway        = "upstream_unreachable"
	codeSlow        = "upstream_timeout"
	codeBusy        = "upstream_overloaded"
	codeCredentials = "upstream_credentials" //nolint:gosec // a name
	codeWrongModel  = "upstream_wrong_model"
	codeNonsense    = "upstream_bad_answer"
)

// call sends in (nil: GET) and reads the answer into out. It returns the answer's headers. Errors are faults.
func (e *Engine) call(ctx context.Context, path string, in, out any) (http.Header, error) {
	limited, cancel := context.WithTimeoutCause(ctx, e.cfg.Timeout, errSlow)
	defer cancel()
	method, body, limit := http.MethodGet, io.Reader(http.NoBody), int64(spareReply)
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
		method, body = http.MethodPost, bytes.NewReader(b)
		limit += int64(e.cfg.Batch)*int64(e.cfg.Dim)*numberReply + 2*int64(len(b)) // some send the texts back
	}
	r, err := http.NewRequestWithContext(limited, method, e.base+path, body)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	r.Header.Set("Accept", "application/json")
	if in != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if !e.cfg.Key.Empty() {
		r.Header.Set("Authorization", "Bearer "+e.cfg.Key.Reveal())
	}
	resp, err := e.http.Do(r)
	if err != nil {
		return nil, e.transport(ctx, limited, err)
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	if resp.StatusCode != http.StatusOK {
		return nil, e.refused(ctx, resp)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, e.transport(ctx, limited, err)
	}
	if int64(len(b)) > limit {
		return nil, e.nonsense("an answer of more than %d bytes", limit)
	}
	if err := json.Unmarshal(b, out); err != nil {
		return nil, e.nonsense("no JSON of the expected shape: %v", err)
	}
	return resp.Header, nil
}

var errSlow = errors.New("no answer in time")

// transport is a failure below HTTP.
func (e *Engine) transport(ctx, limited context.Context, err error) error {
	e.doubt() // another server may answer next time
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(context.Cause(limited), errSlow):
		return fault.New(fault.Unavailable, codeSlow, "The server of model %s did not answer in time; try again.", e.cfg.Name).After(retrySoon).Because(errSlow)
	default:
		return fault.New(fault.Unavailable, codeAway, "The server of model %s can't be reached; try again.", e.cfg.Name).After(retrySoon).Because(err)
	}
}

// nonsense is an answer that is none. What the server said stays in the log.
func (e *Engine) nonsense(format string, args ...any) error {
	e.doubt()
	return fault.New(fault.Unavailable, codeNonsense, "The server of model %s gave an answer that can't be used.", e.cfg.Name).Because(fmt.Errorf(format, args...))
}

// wrong is a server that runs something else. It is not used, and an operator must look.
func (e *Engine) wrong(what, got, want string) error {
	e.doubt()
	got = strings.ToValidUTF8(fmt.Sprintf("%.100q", got), "?")
	e.log.LogAttrs(context.Background(), slog.LevelError, "a server runs another model than the settings name; it is not used",
		slog.String("model", e.cfg.Name), slog.String("what", what), slog.String("found", got), slog.String("wanted", want))
	return fault.New(fault.Unavailable, codeWrongModel, "The server of model %s runs another model; an operator must check it.", e.cfg.Name).
		Because(fmt.Errorf("%s is %s, want %q", what, got, want))
}

var errorTypes = regexp.MustCompile(`^[A-Za-z_]{1,64}$`)

// errorType is the kind of error that a server names: {"error_type"} of TEI, {"error": {"type"}} of the others.
func errorType(b []byte) string {
	var e struct {
		Type  string `json:"error_type"`
		Error any    `json:"error"`
	}
	if json.Unmarshal(b, &e) != nil {
		return "(no JSON)"
	}
	if in, ok := e.Error.(map[string]any); ok && e.Type == "" {
		e.Type, _ = in["type"].(string)
	}
	if !errorTypes.MatchString(e.Type) {
		return "(no type)"
	}
	return e.Type
}

// refused translates an error status. Only what the caller's own texts caused is the caller's fault.
func (e *Engine) refused(ctx context.Context, resp *http.Response) error {
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorReply))
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	why := fmt.Errorf("status %d %s", resp.StatusCode, errorType(b)) // its words may quote the texts
	after := retrySoon
	if n, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && n > 0 {
		after = min(time.Duration(n)*time.Second, maxAway)
	}
	switch code := resp.StatusCode; code {
	case http.StatusUnauthorized, http.StatusForbidden:
		return fault.New(fault.Unavailable, codeCredentials, "The server of model %s refuses our key; an operator must check it.", e.cfg.Name).Because(why)
	case http.StatusTooManyRequests:
		return fault.New(fault.Exhausted, codeBusy, "The server of model %s has too much to do; try again.", e.cfg.Name).After(after).Because(why)
	case http.StatusRequestEntityTooLarge:
		return fault.New(fault.TooLarge, "texts_too_large", "The texts are too large for model %s.", e.cfg.Name).Because(why)
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		return fault.New(fault.Invalid, "texts_refused", "Model %s can't take these texts; they may be too long.", e.cfg.Name).Because(why)
	case http.StatusNotFound:
		e.doubt()
		return fault.New(fault.Unavailable, codeWrongModel, "The server of model %s does not know it; an operator must check it.", e.cfg.Name).Because(why)
	default:
		return fault.New(fault.Unavailable, codeBusy, "The server of model %s has trouble answering; try again.", e.cfg.Name).After(after).Because(why)
	}
}
