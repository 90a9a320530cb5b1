package rpc

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"math"
	"net/http"
	"strconv"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/types/known/durationpb"

	"aran/platform/fault"
)

// mapping is how a kind looks to each kind of client.
type mapping struct {
	code   connect.Code
	status int
	title  string
}

func mappings() map[fault.Kind]mapping {
	return map[fault.Kind]mapping{
		fault.Internal:        {connect.CodeInternal, http.StatusInternalServerError, "Internal error"},
		fault.Invalid:         {connect.CodeInvalidArgument, http.StatusBadRequest, "Invalid request"},
		fault.Unauthenticated: {connect.CodeUnauthenticated, http.StatusUnauthorized, "Not authenticated"},
		fault.Denied:          {connect.CodePermissionDenied, http.StatusForbidden, "Not allowed"},
		fault.Missing:         {connect.CodeNotFound, http.StatusNotFound, "Not found"},
		fault.Conflict:        {connect.CodeAlreadyExists, http.StatusConflict, "Conflict"},
		fault.TooLarge:        {connect.CodeOutOfRange, http.StatusRequestEntityTooLarge, "Too large"},
		fault.Exhausted:       {connect.CodeResourceExhausted, http.StatusTooManyRequests, "Too many requests"},
		fault.Unavailable:     {connect.CodeUnavailable, http.StatusServiceUnavailable, "Unavailable"},
		fault.Deadline:        {connect.CodeDeadlineExceeded, http.StatusGatewayTimeout, "Took too long"},
		fault.Unsupported:     {connect.CodeUnimplemented, http.StatusNotImplemented, "Not supported"},
		fault.Blocked:         {connect.CodeFailedPrecondition, http.StatusBadRequest, "Blocked by policy"},
		fault.Canceled:        {connect.CodeCanceled, 499, "Canceled"},
	}
}

// asFault classifies any error: faults stay, context ends become Deadline and Canceled, body limits TooLarge, the rest is Internal.
func asFault(err error) *fault.Error {
	if f := fault.From(err); f != nil {
		return f
	}
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return fault.New(fault.TooLarge, "body_too_large", "The body is larger than %d bytes.", tooLarge.Limit)
	case errors.Is(err, context.DeadlineExceeded):
		return fault.New(fault.Deadline, "deadline", "It took longer than allowed.").Because(err)
	case errors.Is(err, context.Canceled):
		return fault.New(fault.Canceled, "canceled", "The request was canceled.").Because(err)
	}
	return fault.New(fault.Internal, "internal", "Something broke here; the log has the details under this request id.").Because(err)
}

// Status maps a fault's kind to an HTTP status.
func Status(err error) int { return mappingOf(asFault(err)).status }

// Codes that HTTP has a status for and faults have no kind for.
const (
	ContentType      = "content_type"       // of fault.Unsupported: 415 (RFC 9110 §15.5.16)
	methodNotAllowed = "method_not_allowed" // of fault.Invalid: 405
)

func mappingOf(f *fault.Error) mapping {
	m := mappings()[f.Kind]
	switch {
	case f.Kind == fault.Unsupported && f.Code == ContentType:
		m.status, m.title = http.StatusUnsupportedMediaType, "Unsupported media type"
	case f.Kind == fault.Invalid && f.Code == methodNotAllowed:
		m.status, m.title = http.StatusMethodNotAllowed, "Method not allowed"
	}
	return m
}

// Stopping is why a server that stops ends the requests that it has in hand (context.Cause): others can answer them.
func Stopping() error {
	return fault.New(fault.Unavailable, "stopping", "The service is stopping; try again.").After(time.Second)
}

// Ended is err, or what ended ctx when err comes from that and the cause is a fault: a request that a stopping server ended
// was not canceled by its client, and nothing broke.
func Ended(ctx context.Context, err error) error {
	cause := fault.From(context.Cause(ctx))
	if err == nil || cause == nil {
		return err
	}
	switch asFault(err).Kind {
	case fault.Canceled, fault.Internal, fault.Unavailable:
		return cause.Because(err)
	default:
		return err
	}
}

const errorDomain = "aran"

// toConnect makes a Connect error with google.rpc details, so that the client side gets the same fault.
func toConnect(err error) *connect.Error {
	f := asFault(err)
	out := connect.NewError(mappings()[f.Kind].code, errors.New(f.Detail))
	info := &errdetails.ErrorInfo{Reason: f.Code, Domain: errorDomain, Metadata: map[string]string{"kind": f.Kind.String()}}
	if d, err := connect.NewErrorDetail(info); err == nil {
		out.AddDetail(d)
	}
	if len(f.Fields) > 0 {
		bad := &errdetails.BadRequest{}
		for _, v := range f.Fields {
			bad.FieldViolations = append(bad.FieldViolations, &errdetails.BadRequest_FieldViolation{Field: v.Path, Description: v.Message, Reason: v.Rule})
		}
		if d, err := connect.NewErrorDetail(bad); err == nil {
			out.AddDetail(d)
		}
	}
	if f.RetryAfter > 0 {
		if d, err := connect.NewErrorDetail(&errdetails.RetryInfo{RetryDelay: durationpb.New(f.RetryAfter)}); err == nil {
			out.AddDetail(d)
		}
	}
	return out
}

// fromConnect turns what a call returned back into the fault that the callee raised.
func fromConnect(err error) error {
	var ce *connect.Error
	if err == nil || !errors.As(err, &ce) {
		return err
	}
	if f := fault.From(err); f != nil {
		return f // raised on this side: the transport knows better than the code that the library guesses from its cause
	}
	f := &fault.Error{Detail: ce.Message(), Kind: kindOfCode(ce.Code())}
	for _, d := range ce.Details() {
		v, err := d.Value()
		if err != nil {
			continue
		}
		switch m := v.(type) {
		case *errdetails.ErrorInfo:
			f.Code = m.GetReason()
			for k := range mappings() {
				if k.String() == m.GetMetadata()["kind"] {
					f.Kind = k
				}
			}
		case *errdetails.BadRequest:
			for _, v := range m.GetFieldViolations() {
				f.Fields = append(f.Fields, fault.Field{Path: v.GetField(), Rule: v.GetReason(), Message: v.GetDescription()})
			}
		case *errdetails.RetryInfo:
			f.RetryAfter = m.GetRetryDelay().AsDuration()
		}
	}
	if f.Kind == fault.Internal && f.Code == "" {
		// A transport's own error: its text may tell about insides.
		f.Code, f.Detail = "internal", "Something broke here; the log has the details under this request id."
	}
	return f.Because(err)
}

func kindOfCode(c connect.Code) fault.Kind {
	for k, m := range mappings() {
		if m.code == c {
			return k
		}
	}
	if c == connect.CodeAborted {
		return fault.Unavailable
	}
	return fault.Internal
}

// problem is RFC 9457 with our extensions.
type problem struct {
	Type      string        `json:"type" doc:"always about:blank: the code tells more" example:"about:blank"`
	Title     string        `json:"title" doc:"what kind of problem it is"`
	Status    int           `json:"status" doc:"HTTP status"`
	Detail    string        `json:"detail,omitempty" doc:"what, and what to do about it"`
	Code      string        `json:"code" doc:"stable, for programs" example:"document_not_found"`
	RequestID string        `json:"request_id,omitempty" doc:"names this request in logs and traces"`
	Errors    []fault.Field `json:"errors,omitempty" doc:"broken rules, field by field"`

	header http.Header
}

func newProblem(err error, id string) *problem {
	f := asFault(err)
	m := mappingOf(f)
	p := &problem{Type: "about:blank", Title: m.title, Status: m.status, Detail: f.Detail, Code: f.Code, RequestID: id, Errors: f.Fields, header: http.Header{}}
	if p.Code == "" {
		p.Code = f.Kind.String()
	}
	if f.RetryAfter > 0 {
		p.header.Set("Retry-After", RetryAfter(f.RetryAfter))
	}
	return p
}

// RetryAfter is a duration as the header wants it: whole seconds, at least one.
func RetryAfter(d time.Duration) string {
	return strconv.Itoa(max(1, int(math.Ceil(d.Seconds()))))
}

// Error, GetStatus, GetHeaders and ContentType make a problem an error of huma.
func (p *problem) Error() string { return p.Detail }

// GetStatus implements huma.StatusError.
func (p *problem) GetStatus() int { return p.Status }

// GetHeaders implements huma.HeadersError.
func (p *problem) GetHeaders() http.Header { return p.header }

// ContentType implements huma.ContentTypeFilter.
func (p *problem) ContentType(string) string { return problemType }

const problemType = "application/problem+json"

// Problem writes err as application/problem+json with its status, Retry-After, and the request id; what an Internal fault's cause is, it does not say.
func Problem(w http.ResponseWriter, r *http.Request, err error) {
	writeProblem(w, r, newProblem(Ended(r.Context(), err), RequestID(r.Context())))
}

func writeProblem(w http.ResponseWriter, r *http.Request, p *problem) {
	h := w.Header()
	maps.Copy(h, p.header)
	h.Set("Content-Type", problemType)
	h.Set("Cache-Control", "no-store")
	h.Del("Content-Length")
	w.WriteHeader(p.Status)
	if r.Method != http.MethodHead {
		_ = json.NewEncoder(w).Encode(p)
	}
}

// logFault keeps what the client is not told.
func logFault(ctx context.Context, log *slog.Logger, where string, err error) {
	f := asFault(err)
	level := slog.LevelDebug
	switch f.Kind {
	case fault.Internal:
		level = slog.LevelError
	case fault.Unavailable, fault.Deadline:
		level = slog.LevelWarn
	default:
	}
	log.LogAttrs(ctx, level, "call failed", slog.String("call", where), slog.String("kind", f.Kind.String()), slog.String("code", f.Code), slog.String("request_id", RequestID(ctx)), slog.String("error", f.Error()))
}
