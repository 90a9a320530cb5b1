// Package fault holds the error kinds that every service speaks, and the points where a test
// may end the process.
//
// Callers branch on a Kind, never on text. A cause stays in the log; the client gets kind,
// code and title. The mapping to Connect codes and HTTP status lives in platform/rpc.
package fault

import (
	"errors"
	"fmt"
	"time"
)

// Kind says what went wrong in a way that a caller can act on.
type Kind int

// The kinds. The zero value is Internal: an error nobody classified is a bug of ours.
const (
	Internal        Kind = iota // a bug or a broken part; never the caller's fault
	Invalid                     // the request is malformed or breaks a rule
	Unauthenticated             // no credential, or not a good one
	Denied                      // known, but not allowed
	Missing                     // it does not exist, or the caller may not know that it does
	Conflict                    // it exists already, or changed meanwhile
	TooLarge                    // a body or a field is over its limit
	Exhausted                   // a rate, quota or queue limit; see RetryAfter
	Unavailable                 // a part is away; see RetryAfter
	Deadline                    // it took longer than the caller allowed
	Unsupported                 // understood, but not offered
	Blocked                     // a policy refused the content
	Canceled                    // the caller went away
)

// Field is one broken rule of a request.
type Field struct {
	Path    string `json:"location"` // dotted, as in the request
	Rule    string `json:"rule,omitempty"`
	Message string `json:"message"`
}

// Error is a classified error. Detail and Fields are shown to the client; the cause is not.
type Error struct {
	Kind       Kind
	Code       string // stable, for programs: "model_not_found"; empty means the kind's own
	Detail     string // one sentence for a person: what, and what to do about it
	Fields     []Field
	RetryAfter time.Duration
	cause      error
}

// New returns an error of a kind. The detail is shown to clients: no secrets, no internals.
func New(kind Kind, code, format string, args ...any) *Error {
	return &Error{Kind: kind, Code: code, Detail: fmt.Sprintf(format, args...)}
}

// NotFound says that the thing with this id is not there (or not for this caller).
func NotFound(thing, id string) *Error {
	return New(Missing, thing+"_not_found", "There is no %s %q.", thing, id)
}

// Because keeps a cause for the log.
func (e *Error) Because(cause error) *Error {
	c := *e
	c.cause = cause
	return &c
}

// After tells the client when to try again.
func (e *Error) After(d time.Duration) *Error {
	c := *e
	c.RetryAfter = d
	return &c
}

// Error is for logs: it includes the cause.
func (e *Error) Error() string {
	if e.cause != nil {
		return e.Detail + ": " + e.cause.Error()
	}
	return e.Detail
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.cause }

// KindOf classifies any error: Internal for what nobody classified.
func KindOf(err error) Kind {
	if f := From(err); f != nil {
		return f.Kind
	}
	return Internal
}

// From returns the fault in err's chain, or nil.
func From(err error) *Error {
	if f, ok := errors.AsType[*Error](err); ok {
		return f
	}
	return nil
}

var names = [...]string{"internal", "invalid", "unauthenticated", "denied", "not_found", "conflict", "too_large", "exhausted", "unavailable", "deadline", "unsupported", "blocked", "canceled"} //nolint:gochecknoglobals // a constant table

// String is the kind's stable name, as clients see it.
func (k Kind) String() string {
	if k < 0 || int(k) >= len(names) {
		return "internal"
	}
	return names[k]
}
