// Package rpc is how services reach each other and are reached: transports, the chain of checks
// around every handler, and the translation of faults to Connect codes, HTTP statuses and problem+json (RFC 9457).
package rpc

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"connectrpc.com/connect"
	"github.com/danielgtaylor/huma/v2"
	"google.golang.org/protobuf/proto"

	"aran/platform/auth"
)

// InProcess returns a transport that calls h in this process on behalf of the service `caller`. The callee sees a
// fresh context (deadline and cancel only), the caller as its peer, and trace headers.
func InProcess(caller string, h http.Handler) http.RoundTripper { panic("not built") }

// Peer is the calling service as the transport verified it; empty on a public listener.
func Peer(ctx context.Context) string { panic("not built") }

// IdentityHeader carries the internal token from service to service. The gateway drops it from outside requests.
const IdentityHeader = "Aran-Identity"

// RequestIDHeader names a request; the gateway makes it and every service logs it.
const RequestIDHeader = "Aran-Request-Id"

// RequestID of the call in hand (set by the chain on both handlers).
func RequestID(ctx context.Context) string { panic("not built") }

// Server is what the chain around both of a service's handlers needs.
type Server struct {
	Service  string
	Callers  []string // services that may call Internal, from app's table
	Verifier *auth.Verifier
	Log      *slog.Logger
}

// HandlerOptions is the chain for Connect handlers: recover, trace, log, peer check, identity, validation (protovalidate), faults to codes.
// peerOnly lists procedures that need a listed peer but carry no identity (user.Authenticate, Exchange, Keys).
func (s Server) HandlerOptions(peerOnly ...string) []connect.HandlerOption { panic("not built") }

// Internal wraps a mux of Connect handlers: unknown paths answer, peers that are not listed are refused before anything is read.
func (s Server) Internal(h http.Handler) http.Handler { panic("not built") }

// ClientOptions sign calls to the service `callee` with a token from src (nil: no identity), and turn codes back into faults. Deadline and request id travel.
func ClientOptions(callee string, src auth.Source) []connect.ClientOption { panic("not built") }

// Validate checks a message against its rules (protovalidate) and returns a fault.Invalid with fields.
func Validate(m proto.Message) error { panic("not built") }

// Public is a service's REST handler: nothing is served without an Access.
type Public struct{}

// NewPublic makes an empty mux; 404 and 405 are problem+json. Every request must come from the peer "gateway".
func NewPublic(s Server, title string) *Public { panic("not built") }

// Access says who may call a route. The zero value is refused at registration.
type Access struct {
	Scope  string // the identity must hold it
	Anyone bool   // no identity needed (sign-up, sign-in, health, documentation)
	Signed bool   // any verified identity
}

// Route is what Handle and Register recorded.
type Route struct {
	Method, Pattern string
	Access          Access
	MaxBody         int64
}

// Handle serves a plain handler. maxBody 0 means 1 MiB; a larger body answers 413 before it is read whole.
func (p *Public) Handle(method, pattern string, a Access, maxBody int64, h http.Handler) {
	panic("not built")
}

// Register serves a huma operation with the same checks; op.Security and 4xx/5xx problem responses are filled in.
func Register[I, O any](p *Public, op huma.Operation, a Access, h func(ctx context.Context, in *I) (*O, error)) {
	panic("not built")
}

// Routes lists what is served.
func (p *Public) Routes() []Route { panic("not built") }

// OpenAPI is the service's part of the public document.
func (p *Public) OpenAPI() *huma.OpenAPI { panic("not built") }

// ServeHTTP serves the public routes.
func (p *Public) ServeHTTP(w http.ResponseWriter, r *http.Request) { panic("not built") }

// Problem writes err as application/problem+json with its status, Retry-After, and the request id; Internal faults are logged and say nothing.
func Problem(w http.ResponseWriter, r *http.Request, err error) { panic("not built") }

// Status maps a fault's kind to an HTTP status.
func Status(err error) int { panic("not built") }

// DecodeJSON reads one JSON value into v: unknown fields, trailing text, wrong types and too large bodies are faults that name the field or offset.
func DecodeJSON(r *http.Request, v any) error { panic("not built") }

// Page is the query of a list.
type Page struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"50" doc:"how many at most"`
	Cursor string `query:"cursor" maxLength:"200" doc:"from the previous page's next_cursor"`
}

// SSE is a server-sent event stream: headers, flush per event, comments as heartbeats.
type SSE struct{}

// NewSSE starts the stream (status 200, text/event-stream).
func NewSSE(w http.ResponseWriter) (*SSE, error) { panic("not built") }

// Send writes one event; name may be empty.
func (s *SSE) Send(name string, data []byte) error { panic("not built") }

// Heartbeat writes a comment every d until stop is called, so that proxies and clients see life.
func (s *SSE) Heartbeat(d time.Duration) (stop func()) { panic("not built") }
