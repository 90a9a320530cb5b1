package rpc

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"aran/platform/auth"
	"aran/platform/fault"
)

const defaultMaxBody = 1 << 20

// Access says who may call a route. The zero value is refused at registration.
type Access struct {
	Scope  string `json:"scope,omitempty"`  // the identity must hold it
	Anyone bool   `json:"anyone,omitempty"` // no identity needed (sign-up, sign-in, health, documentation)
	Signed bool   `json:"signed,omitempty"` // any verified identity
}

func (a Access) valid() bool {
	n := 0
	for _, set := range []bool{a.Scope != "", a.Anyone, a.Signed} {
		if set {
			n++
		}
	}
	return n == 1
}

// Route is what Handle and Register recorded.
type Route struct {
	Method  string `json:"method"`
	Pattern string `json:"pattern"`
	Access  Access `json:"access"`
	MaxBody int64  `json:"max_body"`
}

// Public is a service's REST handler: nothing is served without an Access.
type Public struct {
	s      Server
	mux    *http.ServeMux
	api    huma.API
	routes []Route

	registering *Route // the route that huma is about to add
	fail        func(w http.ResponseWriter, r *http.Request, err error)
}

// NewPublic makes an empty mux; 404 and 405 are problem+json. Every request must come from the peer "gateway".
func NewPublic(s Server, title string) *Public {
	ownErrors()
	p := &Public{s: s, mux: http.NewServeMux(), fail: Problem}
	c := huma.DefaultConfig(title, "1")
	c.OpenAPIPath, c.DocsPath, c.SchemasPath = "", "", ""
	c.CreateHooks = nil // no $schema: it would print the inner host
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{"key": {Type: "http", Scheme: "bearer", Description: "An API key (aran_live_…, aran_test_…) or a session's access token."}}
	p.api = humago.New(guarded{p}, c)
	return p
}

// ownErrors makes huma speak our problem+json.
var ownErrors = sync.OnceFunc(func() { //nolint:gochecknoglobals // huma.NewError is a package variable, set once
	huma.NewErrorWithContext = func(ctx huma.Context, status int, msg string, errs ...error) huma.StatusError {
		id := ""
		if ctx != nil {
			id = RequestID(ctx.Context())
		}
		return newProblem(humaFault(status, msg, errs), id)
	}
	huma.NewError = func(status int, msg string, errs ...error) huma.StatusError {
		return newProblem(humaFault(status, msg, errs), "")
	}
})

// humaFault makes a fault of what huma found wrong with a request.
func humaFault(status int, msg string, errs []error) error {
	kind := fault.Internal
	switch {
	case status == http.StatusRequestEntityTooLarge:
		return fault.New(fault.TooLarge, "body_too_large", "The %s.", msg)
	case status == http.StatusUnsupportedMediaType:
		return fault.New(fault.Unsupported, ContentType, "This path takes application/json; send the header Content-Type: application/json.")
	case status == http.StatusRequestTimeout:
		kind = fault.Deadline
	case status >= 400 && status < 500:
		kind = fault.Invalid
	}
	if kind == fault.Internal {
		for _, err := range errs {
			return fault.New(kind, "internal", "Something broke here; the log has the details under this request id.").Because(err)
		}
		return fault.New(kind, "internal", "Something broke here; the log has the details under this request id.")
	}
	f := fault.New(kind, "invalid", "%s", strings.ToUpper(msg[:1])+msg[1:]+".")
	for _, err := range errs {
		if kind == fault.Invalid && notJSON(err) {
			return fault.New(kind, "malformed_json", "The body is not valid JSON: %s.", detail(err)).Because(err)
		}
		if d, ok := err.(huma.ErrorDetailer); ok {
			det := d.ErrorDetail()
			f.Fields = append(f.Fields, fault.Field{Path: strings.TrimPrefix(det.Location, "body."), Message: det.Message})
			continue
		}
		f.Fields = append(f.Fields, fault.Field{Message: err.Error()})
	}
	return f
}

// notJSON recognizes the one detail that huma makes of a body that its decoder could not read; it has no kind of its own.
func notJSON(err error) bool {
	d, ok := err.(huma.ErrorDetailer)
	if !ok || d.ErrorDetail().Location != "body" || d.ErrorDetail().Value == nil {
		return false
	}
	body, ok := d.ErrorDetail().Value.(string)
	return ok && !json.Valid([]byte(body))
}

func detail(err error) string {
	if d, ok := err.(huma.ErrorDetailer); ok {
		return d.ErrorDetail().Message
	}
	return err.Error()
}

// guarded is the mux that huma registers into: each handler gets the checks of the route in hand.
type guarded struct{ p *Public }

func (g guarded) HandleFunc(pattern string, h func(http.ResponseWriter, *http.Request)) {
	r := g.p.registering
	if r == nil {
		panic("rpc: an operation outside Register: " + pattern)
	}
	g.p.mux.Handle(pattern, g.p.guard(*r, http.HandlerFunc(h)))
}

func (g guarded) ServeHTTP(w http.ResponseWriter, r *http.Request) { g.p.mux.ServeHTTP(w, r) }

// Handle serves a plain handler. maxBody 0 means 1 MiB; a larger body answers 413 before it is read whole.
func (p *Public) Handle(method, pattern string, a Access, maxBody int64, h http.Handler) {
	if maxBody == 0 {
		maxBody = defaultMaxBody
	}
	r := Route{method, pattern, a, maxBody}
	p.add(r)
	p.mux.Handle(method+" "+pattern, p.guard(r, h))
}

// Document adds an operation to the OpenAPI document for a route that Handle serves, with the parameters of its path.
func (p *Public) Document(op huma.Operation) {
	p.secure(&op, p.access(op.Method, op.Path))
	for _, m := range pathParameter.FindAllStringSubmatch(op.Path, -1) {
		if !slices.ContainsFunc(op.Parameters, func(has *huma.Param) bool { return has.Name == m[1] }) {
			op.Parameters = append(op.Parameters, &huma.Param{Name: m[1], In: "path", Required: true, Schema: &huma.Schema{Type: huma.TypeString}})
		}
	}
	op.Path = pathParameter.ReplaceAllString(op.Path, "{$1}")
	p.api.OpenAPI().AddOperation(&op)
}

// pathParameter is a part of a pattern that may hold anything; with dots, slashes too.
var pathParameter = regexp.MustCompile(`\{(\w+)(?:\.\.\.)?\}`)

func (p *Public) access(method, pattern string) Access {
	for _, r := range p.routes {
		if r.Method == method && r.Pattern == pattern {
			return r.Access
		}
	}
	panic("rpc: documented but not served: " + method + " " + pattern)
}

func (p *Public) add(r Route) {
	if !r.Access.valid() {
		panic(fmt.Sprintf("rpc: %s %s has no access: say Scope, Signed or Anyone", r.Method, r.Pattern))
	}
	p.routes = append(p.routes, r)
}

func (p *Public) secure(op *huma.Operation, a Access) {
	if a.Anyone {
		return
	}
	op.Security = []map[string][]string{{"key": {}}}
	if a.Scope != "" {
		op.Description = strings.TrimSpace(op.Description + "\n\nNeeds the scope `" + a.Scope + "`.")
	}
}

// Register serves a huma operation with the same checks; op.Security and 4xx/5xx problem responses are filled in.
func Register[I, O any](p *Public, op huma.Operation, a Access, h func(ctx context.Context, in *I) (*O, error)) {
	if op.MaxBodyBytes == 0 {
		op.MaxBodyBytes = defaultMaxBody
	}
	if op.Errors == nil {
		op.Errors = []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusServiceUnavailable}
	}
	r := Route{op.Method, op.Path, a, op.MaxBodyBytes}
	p.add(r)
	p.secure(&op, a)
	p.registering = &r
	huma.Register(p.api, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := h(ctx, in)
		if err != nil {
			err = Ended(ctx, err)
			logFault(ctx, p.s.Log, op.Method+" "+op.Path, err)
			return nil, newProblem(err, RequestID(ctx))
		}
		return out, nil
	})
	p.registering = nil
}

// guard is what every public route passes: recover, trace, identity, scope, body limit.
func (p *Public) guard(route Route, h http.Handler) http.Handler {
	name := route.Method + " " + route.Pattern
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, span := otel.Tracer("aran/service/"+p.s.Service).Start(r.Context(), name, trace.WithSpanKind(trace.SpanKindServer),
			trace.WithAttributes(attribute.String("http.route", route.Pattern), attribute.String("aran.request_id", RequestID(r.Context()))))
		defer span.End()
		defer func() {
			if v := recover(); v != nil {
				if v == http.ErrAbortHandler { //nolint:errorlint // the value itself, as net/http compares it
					panic(v)
				}
				p.s.Log.LogAttrs(ctx, slog.LevelError, "panic in a handler", slog.String("call", name), slog.Any("panic", v))
				p.fail(w, r, fault.New(fault.Internal, "internal", "Something broke here; the log has the details under this request id."))
			}
		}()
		ctx, err := p.admit(ctx, route, r)
		if err == nil && r.ContentLength > route.MaxBody {
			err = fault.New(fault.TooLarge, "body_too_large", "The body has %d bytes; at most %d are taken here.", r.ContentLength, route.MaxBody)
		}
		if err != nil {
			logFault(ctx, p.s.Log, name, err)
			p.fail(w, r, err)
			return
		}
		r = r.WithContext(ctx)
		r.Body = http.MaxBytesReader(w, r.Body, route.MaxBody)
		h.ServeHTTP(w, r)
	})
}

// admit verifies the identity, if there is one or has to be one, and its scope.
func (p *Public) admit(ctx context.Context, route Route, r *http.Request) (context.Context, error) {
	token := r.Header.Get(IdentityHeader)
	if token == "" {
		if route.Access.Anyone {
			return ctx, nil
		}
		return ctx, fault.New(fault.Unauthenticated, "no_credential", "This needs an API key or a session.")
	}
	id, err := p.s.Verifier.Verify(ctx, token, Peer(ctx))
	if err != nil {
		return ctx, err
	}
	ctx = auth.With(ctx, id, token)
	if route.Access.Scope != "" {
		return ctx, id.Require(route.Access.Scope)
	}
	return ctx, nil
}

// WriteErrors replaces problem+json for errors of the mux itself (no identity, no scope, no route, too large), for an
// API whose clients expect another shape.
func (p *Public) WriteErrors(fail func(w http.ResponseWriter, r *http.Request, err error)) {
	p.fail = fail
}

// Routes lists what is served.
func (p *Public) Routes() []Route { return slices.Clone(p.routes) }

// OpenAPI is the service's part of the public document.
func (p *Public) OpenAPI() *huma.OpenAPI { return p.api.OpenAPI() }

// ServeHTTP serves the public routes to the gateway, and to nobody else.
func (p *Public) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx := otel.GetTextMapPropagator().Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	ctx = WithRequestID(ctx, requestID(r.Header))
	r = r.WithContext(ctx)
	if peer := Peer(ctx); peer != Gateway {
		p.fail(w, r, fault.New(fault.Denied, "caller_refused", "This is not open to the caller.").Because(fmt.Errorf("peer %q", peer)))
		return
	}
	if r.URL.Path == StatePath && p.s.State != nil {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(p.s.State(ctx))
		return
	}
	h, pattern := p.mux.Handler(r)
	if pattern == "" {
		p.unserved(w, r, h)
		return
	}
	p.mux.ServeHTTP(w, r)
}

// unserved answers what the mux has no route for: it knows whether the path is there for another method.
func (p *Public) unserved(w http.ResponseWriter, r *http.Request, h http.Handler) {
	var probe statusProbe
	h.ServeHTTP(&probe, r)
	if probe.code == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", probe.header.Get("Allow"))
		p.fail(w, r, fault.New(fault.Invalid, methodNotAllowed, "%s is not possible here; possible: %s.", r.Method, probe.header.Get("Allow")))
		return
	}
	p.fail(w, r, fault.New(fault.Missing, "no_such_route", "There is no %s here.", r.URL.Path))
}

// statusProbe keeps what the mux would have answered.
type statusProbe struct {
	header http.Header
	code   int
}

func (s *statusProbe) Header() http.Header {
	if s.header == nil {
		s.header = http.Header{}
	}
	return s.header
}
func (s *statusProbe) WriteHeader(code int)        { s.code = code }
func (s *statusProbe) Write(b []byte) (int, error) { return len(b), nil }
