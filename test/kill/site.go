package kill

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"aran/test/harness"
)

// site is a platform as the workload and the verification see it.
type site struct {
	harness.Client
	operator string                                              // an operator's address that knows of dead letters
	command  func(ctx context.Context, args ...string) *exec.Cmd // of the process that keeps the audit log
	data     func() string                                       // its data directory
	patience time.Duration                                       // how long parts may be away while a client tries again what was not acknowledged; 0: it gives up at once
	refused  atomic.Int64                                        // requests that were answered by an error while a part was away
}

// siteOf is a platform in one process, whose client does not try again.
func siteOf(p *harness.Process) *site {
	return &site{Client: p.Client, operator: p.Operator, command: p.Command, data: func() string { return p.Data }}
}

// goneError says that a request was not acknowledged because something is away: the process died.
type goneError struct{ cause error }

func (e goneError) Error() string { return "the process is gone: " + e.cause.Error() }

func (e goneError) Unwrap() error { return e.cause }

type request struct {
	method, path string
	body         any
}

const (
	tryAgainAfter = 200 * time.Millisecond
	answerWithin  = 30 * time.Second
)

// try sends a request until it is answered by something that has it, or patience ends. The same idempotency key goes with every try.
func (s *site) try(ctx context.Context, r request, key string) (a harness.Answer, repeated bool, err error) {
	once := rand.Text()
	deadline := time.Now().Add(s.patience)
	for {
		a, err = s.once(ctx, r, key, once)
		wait := tryAgainAfter
		var gone goneError
		switch {
		case errors.As(err, &gone):
			repeated = true
			s.refused.Add(1)
		case err == nil && a.Status == http.StatusTooManyRequests: // the many sign-ins of a verification
			if seconds, err := strconv.Atoi(a.Header.Get("Retry-After")); err == nil {
				wait = max(wait, time.Duration(seconds)*time.Second)
			}
		default:
			return a, repeated, err
		}
		if ctx.Err() != nil || !time.Now().Add(wait).Before(deadline) {
			return a, repeated, err
		}
		pause := time.NewTimer(wait)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
		}
	}
}

// once turns what a client meets while a part is away into a goneError: a broken connection, 502, 503 or 504.
func (s *site) once(ctx context.Context, r request, key, idempotency string) (harness.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	a, err := s.Call(ctx, r.method, r.path, key, r.body, "Idempotency-Key", idempotency)
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return a, fmt.Errorf("%s %s is not answered: %w", r.method, r.path, ctx.Err()) // it hangs: being away is answered
	}
	if err != nil {
		return a, goneError{err}
	}
	switch a.Status {
	case http.StatusServiceUnavailable:
		if a.Header.Get("Retry-After") == "" {
			return a, fmt.Errorf("%s %s answered 503 without Retry-After: %.300s", r.method, r.path, a.Body)
		}
		return a, goneError{fmt.Errorf("%s %s answered 503: %.300s", r.method, r.path, a.Body)}
	case http.StatusBadGateway, http.StatusGatewayTimeout:
		return a, goneError{fmt.Errorf("%s %s answered %d: %.300s", r.method, r.path, a.Status, a.Body)}
	}
	return a, nil
}

// send is try as the administrator, for answers of the wanted statuses; a repeated request may also find that it was done before.
func (s *site) send(ctx context.Context, r request, into any, want []int, before ...int) error {
	a, repeated, err := s.try(ctx, r, s.AdminKey)
	if err != nil {
		return err
	}
	if !slices.Contains(want, a.Status) && (!repeated || !slices.Contains(before, a.Status)) {
		return fmt.Errorf("%s %s answered %d: %.300s", r.method, r.path, a.Status, a.Body)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(a.Body, into)
}

func call(ctx context.Context, s *site, method, path string, body any, into any, want ...int) error {
	return s.send(ctx, request{method, path, body}, into, want)
}
