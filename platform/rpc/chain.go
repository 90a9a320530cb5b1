package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"

	"buf.build/go/protovalidate"
	"connectrpc.com/connect"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/proto"

	"aran/platform/auth"
	"aran/platform/fault"
)

const maxMessage = 16 << 20

// HandlerOptions is the chain for Connect handlers: recover, trace, log, peer check, identity, validation (protovalidate), faults to codes.
// peerOnly lists procedures that need a listed peer but carry no identity (user.Authenticate, Exchange, Keys).
func (s Server) HandlerOptions(peerOnly ...string) []connect.HandlerOption {
	return []connect.HandlerOption{
		connect.WithRecover(func(ctx context.Context, spec connect.Spec, _ http.Header, p any) error {
			s.Log.LogAttrs(ctx, slog.LevelError, "panic in a handler", slog.String("call", spec.Procedure), slog.Any("panic", p))
			return toConnect(fault.New(fault.Internal, "internal", "Something broke here; the log has the details under this request id."))
		}),
		connect.WithInterceptors(&serverChain{s, peerOnly}),
		connect.WithReadMaxBytes(maxMessage),
	}
}

// Internal wraps a mux of Connect handlers: peers that are not listed are refused before anything is read.
func (s Server) Internal(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := s.checkPeer(r.Context()); err != nil {
			Problem(w, r, err)
			return
		}
		h.ServeHTTP(w, r)
	})
}

func (s Server) checkPeer(ctx context.Context) error {
	if p := Peer(ctx); !slices.Contains(s.Callers, p) {
		return fault.New(fault.Denied, "caller_refused", "This is not open to the caller.").Because(fmt.Errorf("peer %q", p))
	}
	return nil
}

// serverChain stands before every internal method.
type serverChain struct {
	s        Server
	peerOnly []string
}

// enter checks who calls and returns the context that the handler gets.
func (c *serverChain) enter(ctx context.Context, procedure string, h http.Header) (context.Context, trace.Span, error) {
	ctx = otel.GetTextMapPropagator().Extract(ctx, propagation.HeaderCarrier(h))
	//nolint:spancheck // the caller ends the span
	ctx, span := otel.Tracer("aran/service/"+c.s.Service).Start(ctx, strings.TrimPrefix(procedure, "/"), trace.WithSpanKind(trace.SpanKindServer),
		trace.WithAttributes(attribute.String("rpc.system", "connect_rpc"), attribute.String("aran.request_id", requestID(h)), attribute.String("aran.peer", Peer(ctx))))
	ctx = WithRequestID(ctx, requestID(h))
	if err := c.s.checkPeer(ctx); err != nil {
		return ctx, span, err //nolint:spancheck // the caller ends the span
	}
	if slices.Contains(c.peerOnly, procedure) {
		return ctx, span, nil
	}
	token := h.Get(IdentityHeader)
	if token == "" {
		return ctx, span, fault.New(fault.Unauthenticated, "no_identity", "The call carries no identity.")
	}
	id, err := c.s.Verifier.Verify(ctx, token, Peer(ctx))
	if err != nil {
		return ctx, span, err
	}
	return auth.With(ctx, id, token), span, nil
}

// leave logs, closes the span, and makes the error one of Connect.
func (c *serverChain) leave(ctx context.Context, span trace.Span, procedure string, err error) error {
	defer span.End()
	if err = Ended(ctx, err); err == nil {
		return nil
	}
	var ce *connect.Error
	if errors.As(err, &ce) && fault.From(err) == nil {
		return err // of the protocol itself
	}
	logFault(ctx, c.s.Log, procedure, err)
	span.SetStatus(codes.Error, asFault(err).Kind.String())
	return toConnect(err)
}

// WrapUnary implements connect.Interceptor.
func (c *serverChain) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		name := req.Spec().Procedure
		ctx, span, err := c.enter(ctx, name, req.Header())
		if err != nil {
			return nil, c.leave(ctx, span, name, err)
		}
		if m, ok := req.Any().(proto.Message); ok {
			if err := Validate(m); err != nil {
				return nil, c.leave(ctx, span, name, err)
			}
		}
		res, err := next(ctx, req)
		if err := c.leave(ctx, span, name, err); err != nil {
			return nil, err
		}
		return res, nil
	}
}

// WrapStreamingClient implements connect.Interceptor; a server has no use for it.
func (c *serverChain) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// WrapStreamingHandler implements connect.Interceptor.
func (c *serverChain) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		name := conn.Spec().Procedure
		ctx, span, err := c.enter(ctx, name, conn.RequestHeader())
		if err == nil {
			err = next(ctx, validated{conn})
		}
		return c.leave(ctx, span, name, err)
	}
}

// validated checks each message that a stream receives.
type validated struct{ connect.StreamingHandlerConn }

func (v validated) Receive(m any) error {
	if err := v.StreamingHandlerConn.Receive(m); err != nil {
		return err
	}
	if p, ok := m.(proto.Message); ok {
		return Validate(p)
	}
	return nil
}

// validator is one for the process: compiling the rules is what costs.
var validator = sync.OnceValues(func() (protovalidate.Validator, error) { return protovalidate.New() }) //nolint:gochecknoglobals // a cache of compiled rules

// Validate checks a message against its rules (protovalidate) and returns a fault.Invalid with fields.
func Validate(m proto.Message) error {
	v, err := validator()
	if err != nil {
		return fmt.Errorf("validator: %w", err)
	}
	err = v.Validate(m)
	var broken *protovalidate.ValidationError
	if err == nil || !errors.As(err, &broken) {
		return err
	}
	f := fault.New(fault.Invalid, "invalid", "The request breaks a rule: see errors.")
	for _, b := range broken.Violations {
		f.Fields = append(f.Fields, fault.Field{Path: protovalidate.FieldPathString(b.Proto.GetField()), Rule: b.Proto.GetRuleId(), Message: b.Proto.GetMessage()})
	}
	return f
}

// ClientOptions sign calls to the service `callee` with a token from src (nil: no identity), and turn codes back into faults. Deadline, request id and trace travel.
func ClientOptions(callee string, src auth.Source) []connect.ClientOption {
	return []connect.ClientOption{
		connect.WithInterceptors(clientChain{callee, src}),
		connect.WithReadMaxBytes(maxMessage),
		connect.WithSendGzip(),
		connect.WithCompressMinBytes(64 << 10),
	}
}

type clientChain struct {
	callee string
	src    auth.Source
}

func (c clientChain) sign(ctx context.Context, h http.Header) error {
	if c.src != nil {
		token, err := c.src.Token(ctx, c.callee)
		if err != nil {
			return err
		}
		h.Set(IdentityHeader, token)
	}
	if id := RequestID(ctx); id != "" {
		h.Set(RequestIDHeader, id)
	}
	otel.GetTextMapPropagator().Inject(ctx, propagation.HeaderCarrier(h))
	return nil
}

// WrapUnary implements connect.Interceptor.
func (c clientChain) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		if err := c.sign(ctx, req.Header()); err != nil {
			return nil, err
		}
		res, err := next(ctx, req)
		return res, fromConnect(err)
	}
}

// WrapStreamingClient implements connect.Interceptor.
func (c clientChain) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		conn := next(ctx, spec)
		return &signed{StreamingClientConn: conn, failed: c.sign(ctx, conn.RequestHeader())}
	}
}

// WrapStreamingHandler implements connect.Interceptor; a client has no use for it.
func (c clientChain) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}

// signed is a stream whose errors are faults. A stream that could not be signed sends nothing.
type signed struct {
	connect.StreamingClientConn
	failed error
}

func (s *signed) Send(m any) error {
	if s.failed != nil {
		return s.failed
	}
	return fromConnect(s.StreamingClientConn.Send(m))
}

func (s *signed) Receive(m any) error {
	if s.failed != nil {
		return s.failed
	}
	return fromConnect(s.StreamingClientConn.Receive(m))
}

func (s *signed) CloseRequest() error {
	if s.failed != nil {
		return s.failed
	}
	return s.StreamingClientConn.CloseRequest()
}

// What follows would wait for the answer to a request that is never sent.

func (s *signed) CloseResponse() error {
	if s.failed != nil {
		return s.failed
	}
	return s.StreamingClientConn.CloseResponse()
}

func (s *signed) ResponseHeader() http.Header {
	if s.failed != nil {
		return http.Header{}
	}
	return s.StreamingClientConn.ResponseHeader()
}

func (s *signed) ResponseTrailer() http.Header {
	if s.failed != nil {
		return http.Header{}
	}
	return s.StreamingClientConn.ResponseTrailer()
}
